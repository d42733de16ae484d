"""Guided language models: branches of `transformers` models read as one batch, and a view of them for `generate`.

In the order of their imports: prompts → caches → reading (one pass for all branches) → settings → combination (the branches and
their weights) → call_state → generation (the view) → continuation, scoring, evaluation. `training` has the losses.
"""
