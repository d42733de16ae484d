r"""Resampling: from N weighted particles to N equally weighted ones, without bias.

Every scheme has one signature, (log_weights [N], generator) ↦ ancestors [N], and one law: particle i is copied
N·w_i times in expectation. Only the variance differs: systematic and stratified resampling have the smallest, multinomial
resampling the largest. Weights that are NaN or +∞, or all 0, raise a `ValueError`.

Source: Douc & Cappé, "Comparison of resampling schemes for particle filtering", arXiv:cs/0507025.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from arguide import checks

Resample = Callable[[Tensor, torch.Generator | None], Tensor]


def multinomial(log_weights: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw every ancestor independently.

    Raises:
        ValueError: weights that are not [N], or no finite one.

    Example:
        >>> arguide.multinomial(torch.tensor([0.0, 1.0, 0.0]).log())
        tensor([1, 1, 1])
    """
    weights = _weights(log_weights)
    return _invert(weights, _uniform(weights, len(weights), generator))


def stratified(log_weights: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw one ancestor in each of N equal strata, (i + u_i)/N.

    Raises:
        ValueError: weights that are not [N], or no finite one.

    Example:
        >>> log_weights = torch.tensor([0.5, 0.25, 0.25, 0.0]).log()
        >>> arguide.stratified(log_weights)
        tensor([0, 0, 1, 2])
    """
    weights = _weights(log_weights)
    return _comb(weights, _uniform(weights, len(weights), generator))


def systematic(log_weights: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw one ancestor in each of N equal strata at one common offset, (i + u)/N.

    Raises:
        ValueError: weights that are not [N], or no finite one.

    Example:
        >>> log_weights = torch.tensor([0.5, 0.25, 0.25, 0.0]).log()
        >>> arguide.systematic(log_weights)
        tensor([0, 0, 1, 2])
    """
    weights = _weights(log_weights)
    return _comb(weights, _uniform(weights, 1, generator))


def residual(log_weights: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Copy particle i ⌊N·w_i⌋ times, and draw the other ancestors in proportion to N·w_i − ⌊N·w_i⌋.

    Raises:
        ValueError: weights that are not [N], or no finite one.

    Example:
        >>> log_weights = torch.tensor([0.5, 0.25, 0.25, 0.0]).log()
        >>> arguide.residual(log_weights)
        tensor([0, 0, 1, 2])
    """
    weights = _weights(log_weights)
    n = len(weights)
    copies = (n * weights).floor()
    kept = torch.arange(n, device=weights.device).repeat_interleave(copies.long())
    rest = (n * weights - copies).clamp(min=0.0)
    missing = n - len(kept)
    drawn = _invert(rest, _uniform(weights, missing, generator)) if missing else kept[:0]
    return torch.cat([kept, drawn])


def _uniform(like: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    return torch.rand(n, generator=generator, dtype=torch.float64, device=like.device)


def _comb(weights: Tensor, offsets: Tensor) -> Tensor:
    strata = torch.arange(len(weights), device=weights.device)
    return _invert(weights, (strata + offsets) / len(weights))


def _weights(log_weights: Tensor) -> Tensor:
    """Return the normalised weights, [N]; raise ValueError for NaN, +∞, or −∞ alone."""
    if checks.tensor("log_weights", log_weights).ndim != 1:
        raise checks.refusal("log_weights", "one per particle, [N]", log_weights)
    largest = log_weights.amax()
    if not largest.isfinite():
        raise checks.refusal("the largest of log_weights", "finite, so that some particle has weight and none has NaN", largest)
    return (log_weights if log_weights.is_floating_point() else log_weights.double()).softmax(0)


def _invert(weights: Tensor, levels: Tensor) -> Tensor:
    """Return, for every level in [0, 1), the first particle whose cumulated weight exceeds it; never one of weight 0."""
    cumulated = weights.double().cumsum(0)
    return torch.searchsorted(cumulated, levels * cumulated[-1], right=True).clamp(max=int(weights.nonzero()[-1]))
