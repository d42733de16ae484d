"""Guided language models: branches of `transformers` models read as one batch, and a view of it that `generate` runs on.

In the order of their imports: prompts → caches → branches (one pass for all) → weights → combination (what is combined, and
how) → decoding (one call's state) → generation (the view).
"""
