"""Diffusion of tokens: with masks, one token unmasked at a time, and with uniform noise on every token.

Example:
    >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
    >>> model = diffusion.conditioned(table.denoise_masked, 1), diffusion.conditioned(table.denoise_masked)
    >>> diffusion.discrete.masked.sample(diffusion.LogLinear.guidance(*model, 3.0), 100, 2).x.shape
    torch.Size([100, 2])
"""

from diffusion.discrete import base, masked, uniform

__all__ = ["base", "masked", "uniform"]
