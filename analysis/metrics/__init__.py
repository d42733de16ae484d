"""Metrics: divergences of laws, scale factors, estimates with their errors, and statistics of samples."""
