"""Continuous autoregressive models: the post's aside, Langevin dynamics on their guided joint law."""
