r"""Incoherence of a learned pair: how far the unconditional model is from the mixture of its conditional ones.

By Bayes' rule p(x) = Σ_k π_k p(x|k), so log p(x|y)/p(x) ≤ −log π_y. Networks trained with dropped labels satisfy neither.
Measured are KL(mixture ‖ learned p), KL(learned p ‖ mixture), and the share of draws of p(x|y) whose ratio is above the bound.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from analysis.metrics.confidence import Estimate, mean_of


class Scored(NamedTuple):
    """Draws, or paths, with their log-densities.

    labels: of the draws of the conditional models, [n]; unused for draws of the unconditional one.
    log_cond: log p(x|k) for every label, [n, K]; a common constant per row does not matter.
    log_uncond: log p(x) of the learned unconditional model, [n], with the same constant.
    """

    labels: Tensor
    log_cond: Tensor
    log_uncond: Tensor


class Incoherence(NamedTuple):
    """Measures of incoherence; `mixture_learned`, `learned_mixture` and `beyond` are 0 for a coherent pair.

    mixture_learned: KL(mixture ‖ learned p), nats.
    learned_mixture: KL(learned p ‖ mixture), nats.
    beyond: share of draws of p(x|y), y ~ π, with log p(x|y)/p(x) > −log π_y.
    largest: the largest log p(x|y)/p(x) of these draws, nats.
    bound: −log π_y, nats, the largest of the labels.
    """

    mixture_learned: Estimate
    learned_mixture: Estimate
    beyond: Estimate
    largest: float
    bound: float


def incoherence(log_prior: Tensor, conditional: Scored, unconditional: Scored) -> Incoherence:
    """Return the incoherence of a pair.

    Args:
        log_prior: log π, [K].
        conditional: draws of the mixture: labels in proportion to π, or the same number of every label, which are weighted.
        unconditional: draws of the learned unconditional model.

    Raises:
        ValueError: a label without draws, or without a prior.
    """
    counts = conditional.labels.bincount(minlength=len(log_prior))
    if len(counts) > len(log_prior) or (counts == 0).any():
        raise ValueError(f"labels must all be drawn, got {counts.tolist()} draws of {len(log_prior)} labels")
    weights = (log_prior.exp() / counts)[conditional.labels] * len(conditional.labels)
    ratio = conditional.log_cond.gather(1, conditional.labels[:, None])[:, 0] - conditional.log_uncond
    return Incoherence(
        mixture_learned=mean_of(weights * (_mixture(conditional, log_prior) - conditional.log_uncond)),
        learned_mixture=mean_of(unconditional.log_uncond - _mixture(unconditional, log_prior)),
        beyond=mean_of(weights * (ratio > -log_prior[conditional.labels]).double()),
        largest=float(ratio.max()),
        bound=-float(log_prior[log_prior > -math.inf].min()),
    )


def _mixture(scored: Scored, log_prior: Tensor) -> Tensor:
    """Return log Σ_k π_k p(x|k), [n]."""
    return torch.logsumexp(scored.log_cond.double() + log_prior, 1)
