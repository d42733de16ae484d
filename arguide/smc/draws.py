r"""Draws: the only source of randomness. Every sampler takes `draw`, or makes one from `generator`; nothing seeds globally.

    tokens, indices      log-probs [n, K] ↦ indices [n], each with probability exp(log-prob)
    continuous values    x ↦ standard normals with the shape, dtype and device of x

The exact law of a sampler follows from running it once along every branch of its `draw`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from arguide import checks

Draw = Callable[[Tensor], Tensor]


def categorical(generator: torch.Generator | None = None) -> Draw:
    """Return the draw of one index per row by inversion of the distribution function.

    It uses one random number of 53 bits per row (`torch.multinomial` uses one per entry) and never returns an index of
    probability 0.

    Raises:
        ValueError: no generator; when it draws, a row that has no possible index or holds NaN.
    """
    checks.generator(generator)

    def draw(log_probs: Tensor) -> Tensor:
        probs = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32)).exp()
        cumulated = probs.to(wide(log_probs)).cumsum_(-1)
        level = (
            torch.rand(len(cumulated), 1, generator=generator, dtype=cumulated.dtype, device=log_probs.device)
            * cumulated[:, -1:]
        )
        # Rounded, u · total stays below the total for every u < 1; the index is K only in a row of zeros or with NaN.
        index = torch.searchsorted(cumulated, level, right=True).squeeze(-1)
        if (index == cumulated.shape[-1]).any():
            raise ValueError("log_probs must have a possible index in every row and no NaN, got a row that does not")
        return index

    return draw


def torch_categorical(generator: torch.Generator | None = None) -> Draw:
    """Return the draw of one index per row by `torch.multinomial`.

    Raises:
        ValueError: a generator of another kind.
    """
    checks.generator(generator)
    return lambda log_probs: torch.multinomial(log_probs.exp(), 1, generator=generator).squeeze(-1)


def normal(generator: torch.Generator | None = None) -> Draw:
    """Return the draw of standard normals.

    Raises:
        ValueError: a generator of another kind.
    """
    checks.generator(generator)
    return lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def uniform(generator: torch.Generator | None = None) -> Draw:
    """Return the draw of uniform numbers in [0, 1), with the shape, dtype and device of x.

    Raises:
        ValueError: a generator of another kind.
    """
    checks.generator(generator)
    return lambda x: torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def wide(like: Tensor) -> torch.dtype:
    """Return double precision, or single on a device that has no other."""
    return torch.float32 if like.device.type == "mps" else torch.float64
