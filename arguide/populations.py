r"""Several populations of particles side by side: independent runs, of one law or of laws that share a batch.

They move in one batch, which on small models is many times as fast as one after another; each has its own weights, resamples
by its own effective sample size and has its own Ẑ, as if `particles.drive` had driven it alone.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arguide.particles import Move, Select, Twist
from arguide.resampling import Resample, systematic


class Populations(NamedTuple):
    """G populations of N particles.

    value: whatever the moves act on, G·N rows, one population after another.
    log_weights: [G, N], gathered since the population was last resampled.
    log_banked: [G], the part of log Ẑ that earlier resamplings have settled.
    origin: [G, N], the first particle that each descends from.
    """

    value: Any
    log_weights: Tensor
    log_banked: Tensor
    origin: Tensor

    @property
    def log_evidence(self) -> Tensor:
        """Log Ẑ of every population, [G]."""
        return self.log_banked + self.log_weights.logsumexp(1) - math.log(self.log_weights.shape[1])

    @property
    def ess(self) -> Tensor:
        """Effective sample size (Σ w)² / Σ w² of every population, [G]."""
        return (2 * self.log_weights.logsumexp(1) - (2 * self.log_weights).logsumexp(1)).exp()


class Run(NamedTuple):
    """One population in the end.

    rows: what is kept of its particles, [N, …].
    log_weights: [N], normalised to Σ exp = 1.
    log_evidence: [], log Ẑ.
    ess: effective sample size after every move, before it resamples.
    ancestors: number of distinct first particles left.
    """

    rows: Tensor
    log_weights: Tensor
    log_evidence: Tensor
    ess: Tensor
    ancestors: int


def populate(value: Any, count: int, like: Tensor) -> Populations:
    """Return `count` populations of even weights, whose rows are `value`; `like` has as many rows."""
    zeros = like.new_zeros((count, len(like) // count))
    origin = torch.arange(zeros.shape[1], device=like.device).expand(zeros.shape)
    return Populations(value, zeros, zeros[:, 0], origin)


def drive(
    populations: Populations,
    moves: Iterable[Move],
    select: Select,
    *,
    resample: Resample = systematic,
    threshold: float = 0.5,
    twist: Twist | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Populations]:
    """Move all particles, resampling a population before a move when its ESS < threshold·N; yield after every move.

    Arguments are those of `particles.drive`, on all rows.

    Raises:
        ValueError: every particle of a population has weight 0.
    """
    for move in moves:
        weights = populations.log_weights
        log_twist = torch.zeros_like(weights) if twist is None else twist(populations.value).view_as(weights)
        twisted = populations._replace(log_weights=weights + log_twist)
        low = twisted.ess < threshold * weights.shape[1]
        if low.any():
            populations = _resampled(populations, twisted, low, log_twist, select, resample, generator)
        value, increment = move(populations.value)
        populations = populations._replace(value=value, log_weights=populations.log_weights + increment.view_as(weights))
        if (populations.log_weights == -math.inf).all(1).any():
            raise ValueError("all particles have weight 0: the branches share no sequence that was found; use more particles")
        yield populations


def runs(steps: Iterable[Populations], rows: Callable[[Any], Tensor]) -> list[Run]:
    """Return every population after the last of the steps of `drive`; `rows` reads what to keep off the value, [G·N, …]."""
    ess = []
    for populations in steps:
        ess.append(populations.ess)
    flat = rows(populations.value)
    kept = flat.reshape(*populations.log_weights.shape, *flat.shape[1:])
    columns = (kept, populations.log_weights.log_softmax(1), populations.log_evidence, torch.stack(ess, 1))
    ancestors = (len(own.unique()) for own in populations.origin)
    return [Run(*each) for each in zip(*columns, ancestors, strict=True)]


def _resampled(
    populations: Populations,
    twisted: Populations,
    low: Tensor,
    log_twist: Tensor,
    select: Select,
    resample: Resample,
    generator: torch.Generator | None,
) -> Populations:
    """Resample the populations that `low`, [G], says, in proportion to w ψ; the others stay as they are."""
    n = log_twist.shape[1]
    index = torch.arange(n, device=low.device).repeat(len(low), 1)
    for i in low.nonzero()[:, 0].tolist():
        index[i] = resample(twisted.log_weights[i], generator)
    rows = (index + n * torch.arange(len(low), device=low.device)[:, None]).flatten()
    return Populations(
        select(populations.value, rows),
        torch.where(low[:, None], -log_twist.gather(1, index), populations.log_weights),
        torch.where(low, twisted.log_evidence, populations.log_banked),
        populations.origin.gather(1, index),
    )
