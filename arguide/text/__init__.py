"""Guided language models: branches of `transformers` models read as one batch, and a view of them for `generate`.

In the order of their imports: prompts → caches → reading (one pass for all branches) → settings → combination (the branches and
their weights) → call_state → generation (the view) → continuation, scoring, evaluation. `training` has the losses.

Example:
    >>> config = transformers.GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, bos_token_id=None, eos_token_id=None)
    >>> model = transformers.GPT2LMHeadModel(config)
    >>> arguide.guided(model).generate(torch.tensor([[1, 2, 3]]), guidance_scale=2.0, max_new_tokens=4).shape
    torch.Size([1, 7])
"""
