"""Packages whose documented laws are compared with what their installed releases return."""
