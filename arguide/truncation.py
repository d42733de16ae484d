r"""What users put after guidance: temperature and truncations of the next-token law.

A transform maps a law to a law, log-probs [..., V] to normalised log-probs [..., V]; `compose` chains them in the order
given. Guidance and temperature commute within a token; truncations and guidance do not, so truncate last.

Sources: Fan et al. (2018) for top-k; Holtzman et al., "The curious case of neural text degeneration" (2020) for the nucleus;
Meister et al., "Locally typical sampling" (2023).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from arguide.guidance import check_temperature

Transform = Callable[[Tensor], Tensor]


def identity(log_probs: Tensor) -> Tensor:
    """Return the law as it is."""
    return log_probs


def compose(*transforms: Transform) -> Transform:
    """Return the transform that applies the given ones, the first first."""

    def apply(log_probs: Tensor) -> Tensor:
        for transform in transforms:
            log_probs = transform(log_probs)
        return log_probs

    return apply


def temperature(tau: float) -> Transform:
    """Return p ↦ p^{1/τ} / Σ p^{1/τ}, for τ > 0."""
    check_temperature(tau)
    return lambda log_probs: (log_probs / tau).log_softmax(-1)


def top_k(k: int) -> Transform:
    """Return the law restricted to its k likeliest tokens; ties with the k-th stay."""
    if k < 1:
        raise ValueError(f"top_k must be at least 1, not {k}")

    def apply(log_probs: Tensor) -> Tensor:
        least = log_probs.topk(min(k, log_probs.shape[-1]), dim=-1).values[..., -1:]
        return _restrict(log_probs, log_probs >= least)

    return apply


def nucleus(mass: float) -> Transform:
    """Return the law restricted to the smallest set of likeliest tokens that holds at least `mass` (top-p)."""
    _check_mass("nucleus", mass)
    if mass == 1:
        return identity
    return lambda log_probs: _smallest_set(log_probs, -log_probs, mass)


def typical(mass: float) -> Transform:
    """Return the law restricted to the smallest set of tokens nearest the entropy, |−log p − H|, that holds `mass`."""
    _check_mass("typical", mass)
    if mass == 1:
        return identity

    def apply(log_probs: Tensor) -> Tensor:
        entropy = -torch.special.xlogy(log_probs.exp(), log_probs.exp()).sum(-1, keepdim=True)
        return _smallest_set(log_probs, (-log_probs - entropy).abs(), mass)

    return apply


def _smallest_set(log_probs: Tensor, rank: Tensor, mass: float) -> Tensor:
    """Keep the tokens of least rank up to the one whose cumulated probability reaches `mass`."""
    order = rank.argsort(stable=True, dim=-1)
    ranked = log_probs.gather(-1, order).exp()
    before = ranked.cumsum(-1) - ranked
    return _restrict(log_probs, torch.zeros_like(ranked, dtype=torch.bool).scatter(-1, order, before < mass))


def _restrict(log_probs: Tensor, kept: Tensor) -> Tensor:
    return log_probs.masked_fill(~kept, -math.inf).log_softmax(-1)


def _check_mass(name: str, mass: float) -> None:
    if not 0 < mass <= 1:
        raise ValueError(f"the mass of {name} must lie in (0, 1], not {mass}")
