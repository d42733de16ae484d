"""Coherent pairs: p(x) is the mixture of the conditional laws, so p(x|y)/p(x) ≤ 1/π_y, and the joint law can be drawn.

Example:
    >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
    >>> mixture = arguide.Mixture([table.autoregressive(0), table.autoregressive(1)], table.log_prior())
    >>> arguide.sample_accepted(mixture, 1, 3.0, 100, 2).tokens.shape
    torch.Size([100, 2])
"""
