"""Figures of published numbers, where a picture decides."""
