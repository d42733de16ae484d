"""Figures of continuous autoregressive models."""
