r"""Distances between laws, on log-probabilities of one shape, in nats; −∞ is probability 0.

Gaussian W2 and KL stand beside the Gaussians, `analysis.toys.gaussian`; those of chains are methods of `MarkovLaw`.
"""

import math

import torch
from torch import Tensor


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p ‖ q) = Σ p (log p − log q), []; ∞ where q misses mass of p."""
    gap = torch.where(log_p == -math.inf, 0.0, log_p - log_q)
    return (log_p.exp() * gap).sum()


def tv(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the total variation ½ Σ |p − q|, []."""
    return (log_p.exp() - log_q.exp()).abs().sum() / 2


def entropy(log_p: Tensor) -> Tensor:
    """Return −Σ p log p, []."""
    return -torch.special.xlogy(log_p.exp(), log_p.exp()).sum()


def expectation(log_p: Tensor, value: Tensor) -> Tensor:
    """Return Σ p·value, []; values where p = 0 do not count."""
    return (log_p.exp() * torch.where(log_p == -math.inf, 0.0, value)).sum()


def empirical(cells: Tensor, size: int, log_weights: Tensor | None = None) -> Tensor:
    """Return the log of the weighted frequency of each cell, [n] ↦ [size]."""
    weights = torch.ones(len(cells), dtype=torch.float64) if log_weights is None else log_weights.double().exp()
    return (torch.bincount(cells, weights=weights, minlength=size) / weights.sum()).log()
