r"""Distances between laws, on log-probabilities of one shape, in nats; −∞ is probability 0. And between draws and a law.

Gaussian W2 and KL stand beside the Gaussians, `analysis.toys.gaussian`; those of chains are methods of `MarkovLaw`.
"""

import math

import torch
from torch import Tensor

from analysis.toys import checks


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p ‖ q) = Σ p (log p − log q), []; ∞ where q misses mass of p."""
    checks.alike("log_q", log_q, "log_p", log_p)
    for name, law in (("log_p", log_p), ("log_q", log_q)):
        checks.known(name, law)
    gap = torch.where(log_p == -math.inf, 0.0, log_p - log_q)
    return (log_p.exp() * gap).sum()


def tv(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the total variation ½ Σ |p − q|, []."""
    checks.alike("log_q", log_q, "log_p", log_p)
    for name, law in (("log_p", log_p), ("log_q", log_q)):
        checks.known(name, law)
    return (log_p.exp() - log_q.exp()).abs().sum() / 2


def entropy(log_p: Tensor) -> Tensor:
    """Return −Σ p log p, []."""
    checks.known("log_p", log_p)
    return -torch.special.xlogy(log_p.exp(), log_p.exp()).sum()


def expectation(log_p: Tensor, value: Tensor) -> Tensor:
    """Return Σ p·value, []; values where p = 0 do not count."""
    checks.alike("value", value, "log_p", log_p)
    return (log_p.exp() * torch.where(log_p == -math.inf, 0.0, value)).sum()


def empirical(cells: Tensor, size: int, log_weights: Tensor | None = None) -> Tensor:
    """Return the log of the weighted frequency of each cell, [n] ↦ [size]."""
    checks.codes("cells", cells[:, None], [checks.integer("size", size)])
    if log_weights is not None:
        checks.alike("log_weights", log_weights, "cells", cells)
        checks.known("log_weights", log_weights)
    weights = torch.ones(len(cells), dtype=torch.float64) if log_weights is None else log_weights.double().exp()
    return (torch.bincount(cells, weights=weights, minlength=size) / weights.sum()).log()


def wasserstein(x: Tensor, axis: Tensor, cdf: Tensor, weights: Tensor | None = None) -> float:
    """Return W1 = ∫ |F − cdf| of draws x [n], of equal weights unless they are given, to a law on an axis [m]."""
    checks.alike("cdf", cdf, "axis", axis)
    for name, value in (("x", x), ("axis", axis), ("cdf", cdf), *((("weights", weights),) if weights is not None else ())):
        checks.known(name, value)
    if weights is not None:
        checks.alike("weights", weights, "x", x)
    ordered, order = x.sort()
    weights = torch.full_like(x, 1 / len(x)) if weights is None else weights
    below = torch.cat([weights.new_zeros(1), weights[order].cumsum(0)])[torch.searchsorted(ordered, axis, right=True)]
    return float(torch.trapezoid((below - cdf).abs(), axis))


def jackknifed(x: Tensor, axis: Tensor, cdf: Tensor, groups: int = 8) -> tuple[float, float]:
    """Return W1 of antithetic draws [n], halves that mirror one another, and its delete-a-group jackknife error."""
    checks.integer("groups", groups, 2)
    if x.ndim != 1 or len(x) % 2 or len(x) < 2 * groups:
        raise checks.refusal("x", f"an even number of draws, [n], of at least {2 * groups}", x)
    pairs = x.view(2, -1)
    group = torch.arange(pairs.shape[1]) % groups
    left_out = torch.tensor([wasserstein(pairs[:, group != i].flatten(), axis, cdf) for i in range(groups)])
    return wasserstein(x, axis, cdf), float(left_out.std() * (groups - 1) / groups**0.5)


def binned_tv(x: Tensor, masses: Tensor, batches: int = 4) -> tuple[float, float]:
    """Return the total variation on unit bins of [−5, 5]² between draws [n, 2] and masses [360, 360], and its error.

    It is the mean over independent batches; finite batches make it positive for exact draws too.
    """
    truth = masses.reshape(10, 36, 10, 36).sum((1, 3)).flatten()
    bins = (x + 5).floor().long().clamp(0, 9) @ torch.tensor([10, 1])
    counts = [torch.bincount(batch, minlength=100) / len(batch) for batch in bins.chunk(batches)]
    distance = torch.stack([(batch - truth).abs().sum() / 2 for batch in counts])
    return float(distance.mean()), float(distance.std() / len(distance) ** 0.5)
