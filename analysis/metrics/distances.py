r"""Distances between laws, in nats, and between draws and a law.

Laws are log-probabilities of one shape, with −∞ for probability 0. W2 and KL of Gaussians are in `analysis.toys.gaussian`,
those of chains are methods of `MarkovLaw`.
"""

import math

import torch
from torch import Tensor

from analysis.toys import checks


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p ‖ q) = Σ p (log p − log q), []; ∞ where q is 0 and p is not."""
    _check_pair(log_p, log_q)
    return expectation(log_p, log_p - log_q)


def tv(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the total variation ½ Σ |p − q|, []."""
    _check_pair(log_p, log_q)
    return (log_p.exp() - log_q.exp()).abs().sum() / 2


def entropy(log_p: Tensor) -> Tensor:
    """Return −Σ p log p, []."""
    checks.known(log_p=log_p)
    return -torch.special.xlogy(log_p.exp(), log_p.exp()).sum()


def expectation(log_p: Tensor, value: Tensor) -> Tensor:
    """Return Σ p·value, []; values where p = 0 are ignored."""
    checks.alike("value", value, "log_p", log_p)
    return (log_p.exp() * torch.where(log_p == -math.inf, 0.0, value)).sum()


def deviation(log_p: Tensor, value: Tensor) -> Tensor:
    """Return the standard deviation of a value under p, []; values where p = 0 are ignored."""
    return expectation(log_p, (value - expectation(log_p, value)) ** 2).sqrt()


def empirical(cells: Tensor, size: int, log_weights: Tensor | None = None) -> Tensor:
    """Return the log of the weighted frequency of every cell, [size].

    Args:
        cells: the cell of every draw, [n].
        size: number of cells.
        log_weights: log-weights of the draws, [n]; equal weights by default.

    Raises:
        ValueError: cells that are no integers below `size`, or log-weights of another shape, with NaN or +∞.
    """
    checks.codes("cells", cells[:, None], [checks.integer("size", size)])
    if log_weights is None:
        log_weights = torch.zeros(len(cells), dtype=torch.float64)
    checks.alike("log_weights", log_weights, "cells", cells)
    checks.known(log_weights=log_weights)
    weights = log_weights.double().exp()
    return (torch.bincount(cells, weights=weights, minlength=size) / weights.sum()).log()


def wasserstein(x: Tensor, axis: Tensor, cdf: Tensor, weights: Tensor | None = None) -> float:
    """Return W1 = ∫ |F − cdf| between draws, with distribution function F, and a law on an axis.

    Args:
        x: draws, [n].
        axis: increasing points, [m].
        cdf: the law's distribution function at these points, [m].
        weights: weights of the draws with sum 1, [n]; equal weights by default.

    Raises:
        ValueError: shapes that do not fit, NaN or +∞.
    """
    weights = torch.full_like(x, 1 / len(x)) if weights is None else weights
    checks.alike("cdf", cdf, "axis", axis)
    checks.known(x=x, axis=axis, cdf=cdf, weights=weights)
    checks.alike("weights", weights, "x", x)
    ordered, order = x.sort()
    below = torch.cat([weights.new_zeros(1), weights[order].cumsum(0)])[torch.searchsorted(ordered, axis, right=True)]
    return float(torch.trapezoid((below - cdf).abs(), axis))


def jackknifed(x: Tensor, axis: Tensor, cdf: Tensor, groups: int = 8) -> tuple[float, float]:
    """Return W1 between antithetic draws and a law on an axis, and its standard error by the delete-a-group jackknife.

    Args:
        x: an even number of draws, [n], whose second half mirrors the first.
        axis: as in `wasserstein`.
        cdf: as in `wasserstein`.
        groups: number of groups of pairs.

    Raises:
        ValueError: an odd number of draws or too few, or fewer than 2 groups.
    """
    checks.integer("groups", groups, 2)
    fits = x.ndim == 1 and not len(x) % 2 and len(x) >= 2 * groups
    checks.require(fits, "x", f"an even number of draws, [n], of at least {2 * groups}", x)
    pairs = x.view(2, -1)
    group = torch.arange(pairs.shape[1]) % groups
    left_out = torch.tensor([wasserstein(pairs[:, group != i].flatten(), axis, cdf) for i in range(groups)])
    return wasserstein(x, axis, cdf), float(left_out.std() * (groups - 1) / groups**0.5)


def binned_tv(x: Tensor, masses: Tensor, batches: int = 4) -> tuple[float, float]:
    """Return the total variation on unit bins of [−5, 5]², a mean over batches of draws, and its standard error.

    It is positive for exact draws too, because batches are finite.

    Args:
        x: draws, [n, 2].
        masses: the law's masses on the square, [360, 360].
        batches: number of independent batches.
    """
    truth = masses.reshape(10, 36, 10, 36).sum((1, 3)).flatten()
    bins = (x + 5).floor().long().clamp(0, 9) @ torch.tensor([10, 1])
    counts = [torch.bincount(batch, minlength=100) / len(batch) for batch in bins.chunk(batches)]
    distance = torch.stack([(batch - truth).abs().sum() / 2 for batch in counts])
    return float(distance.mean()), float(distance.std() / len(distance) ** 0.5)


def _check_pair(log_p: Tensor, log_q: Tensor) -> None:
    checks.alike("log_q", log_q, "log_p", log_p)
    checks.known(log_p=log_p, log_q=log_q)
