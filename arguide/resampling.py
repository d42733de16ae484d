r"""Resampling: from N weighted particles to N equally weighted ones, without bias.

Every scheme has one signature, (log_weights [N], generator) ↦ ancestors [N], and one law: particle i is copied
N·w_i times in expectation. They differ in variance only: systematic and stratified least, then residual, multinomial most.

Source: Douc & Cappé, "Comparison of resampling schemes for particle filtering" (2005).
"""

from collections.abc import Callable

import torch
from torch import Tensor

Resample = Callable[[Tensor, torch.Generator | None], Tensor]


def multinomial(log_weights: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw every ancestor independently."""
    return _invert(log_weights.softmax(0), _uniform(log_weights, len(log_weights), generator))


def stratified(log_weights: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw one ancestor in each of N equal strata, (i + u_i)/N."""
    return _comb(log_weights, _uniform(log_weights, len(log_weights), generator))


def systematic(log_weights: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw one ancestor in each of N equal strata at one common offset, (i + u)/N."""
    return _comb(log_weights, _uniform(log_weights, 1, generator))


def residual(log_weights: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Copy particle i ⌊N·w_i⌋ times, and draw the rest in proportion to what remains of N·w_i."""
    n, weights = len(log_weights), log_weights.softmax(0)
    copies = (n * weights).floor()
    kept = torch.arange(n, device=weights.device).repeat_interleave(copies.long())
    rest = (n * weights - copies).clamp(min=0.0)
    missing = n - len(kept)
    drawn = _invert(rest, _uniform(log_weights, missing, generator)) if missing else kept[:0]
    return torch.cat([kept, drawn])


def _uniform(like: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    return torch.rand(n, generator=generator, dtype=torch.float64, device=like.device)


def _comb(log_weights: Tensor, offsets: Tensor) -> Tensor:
    strata = torch.arange(len(log_weights), device=log_weights.device)
    return _invert(log_weights.softmax(0), (strata + offsets) / len(log_weights))


def _invert(weights: Tensor, levels: Tensor) -> Tensor:
    """Return, for every level in [0, 1), the first particle whose cumulated weight exceeds it; never one of weight 0."""
    cumulated = weights.double().cumsum(0)
    return torch.searchsorted(cumulated, levels * cumulated[-1], right=True).clamp(max=_last_positive(weights))


def _last_positive(weights: Tensor) -> int:
    return int(weights.nonzero()[-1])
