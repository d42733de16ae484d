"""Replica exchange over a ladder of laws, from one that is drawn exactly to a joint law.

Example:
    >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
    >>> law = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 3.0)
    >>> arguide.sample_ladder(law, 16, 2, levels=3, sweeps=50, burn_in=8).tokens.shape
    torch.Size([16, 2])
"""
