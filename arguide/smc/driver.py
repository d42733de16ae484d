r"""The particle driver: weighted particles that are moved and resampled.

A move advances every particle and returns the log of its incremental weight. The driver knows nothing of what moves: tokens in
`arguide.particles`, noise levels in `diffusion.particles`.

Sources: Del Moral, Doucet & Jasra, "Sequential Monte Carlo samplers" (2006); Chopin & Papaspiliopoulos, "An introduction to
sequential Monte Carlo" (2020), ch. 10.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arguide import checks
from arguide.smc.resampling import Resample, systematic

Move = Callable[[Any], tuple[Any, Tensor]]
Select = Callable[[Any, Tensor], Any]
Twist = Callable[[Any], Tensor]


class Population(NamedTuple):
    """N weighted particles; or G populations of N side by side, [G, N], each with weights, resamplings and a Ẑ of its own.

    value: whatever the moves act on, one row a particle, one population after another.
    log_weights: [..., N], gathered since the last resampling.
    log_banked: [...], the part of log Ẑ that earlier resamplings have settled.
    origin: [..., N], the first particle that each descends from.
    resamplings: how often the population was resampled, [...].
    """

    value: Any
    log_weights: Tensor
    log_banked: Tensor
    origin: Tensor
    resamplings: Tensor

    @property
    def log_evidence(self) -> Tensor:
        """Log Ẑ = log of the mean weight, [...], with E[Ẑ] = Z under any rule of when to resample."""
        return self.log_banked + self.log_weights.logsumexp(-1) - math.log(self.log_weights.shape[-1])

    @property
    def ess(self) -> Tensor:
        """Effective sample size (Σ w)² / Σ w², [...]."""
        return effective_sample_size(self.log_weights)

    @property
    def ancestors(self) -> int:
        """Number of distinct first particles that are left, of one population."""
        return int(self.origin.bincount().count_nonzero())

    @property
    def std_error(self) -> Tensor:
        """Standard error of log Ẑ that one population can tell of itself, [], if it stands alone.

        It compares families, the particles that descend from one first particle: Var(Ẑ)/Z² is estimated by
        1 − (N/(N−1))^{r+1} (1 − Σ_f W_f²) with W_f the weight of family f and r the number of resamplings (Lee & Whiteley,
        "Variance estimation in the particle filter", 2018, eq. 7), which holds for multinomial resampling and is rough for
        other schemes. Where one family is left it is 1, and says only that nothing is known: repeat the run.
        """
        n = len(self.log_weights)
        families = torch.zeros_like(self.log_weights).index_add(0, self.origin, self.log_weights.softmax(0))
        apart = (1 - families.square().sum()).clamp(min=0.0)
        return (1 - (n / max(n - 1, 1)) ** (int(self.resamplings) + 1) * apart).clamp(min=0.0).sqrt()

    def apart(self) -> "list[Population]":
        """Return populations that stand side by side as one each, without their values."""
        columns = (self.log_weights, self.log_banked, self.origin, self.resamplings)
        return [Population(None, *each) for each in zip(*columns, strict=True)]


def effective_sample_size(log_weights: Tensor) -> Tensor:
    """Return (Σ w)² / Σ w² of unnormalised log-weights, [..., N] ↦ [...]."""
    return (2 * log_weights.logsumexp(-1) - (2 * log_weights).logsumexp(-1)).exp()


def populate(value: Any, log_weights: Tensor) -> Population:
    """Return N first particles with their log-weights, [N], or several populations of them, [G, N]."""
    none = torch.zeros_like(log_weights[..., 0])
    origin = torch.arange(log_weights.shape[-1], device=log_weights.device).expand(log_weights.shape)
    return Population(value, log_weights, none, origin, torch.zeros_like(none, dtype=torch.long))


def resampled(
    population: Population,
    select: Select,
    ancestors: Tensor,
    log_twist: Tensor | None = None,
    which: Tensor | None = None,
) -> Population:
    """Return the population of the given ancestors, [..., N], drawn in proportion to w ψ; what they weighed goes to log Ẑ.

    They weigh 1/ψ, so that any ψ > 0, drawn at random too, leaves the target and Ẑ as they are; ψ = 1 by default. Of several
    populations those are resampled that `which`, [G], says; the ancestors of the others must be themselves.
    """
    if log_twist is None:
        log_twist = torch.zeros_like(population.log_weights)
    if which is None:
        which = torch.ones_like(population.log_banked, dtype=torch.bool)
    twisted = population._replace(log_weights=population.log_weights + log_twist)
    n = ancestors.shape[-1]
    first = n * torch.arange(ancestors.numel() // n, device=ancestors.device)[:, None]
    return Population(
        select(population.value, (ancestors.view(-1, n) + first).flatten()),
        torch.where(which[..., None], -log_twist.gather(-1, ancestors), population.log_weights),
        torch.where(which, twisted.log_evidence, population.log_banked),
        population.origin.gather(-1, ancestors),
        population.resamplings + which,
    )


def drive(
    population: Population,
    moves: Iterable[Move],
    select: Select,
    *,
    resample: Resample = systematic,
    threshold: float = 0.5,
    twist: Twist | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Population]:
    """Move the particles, resampling before a move when ESS < threshold·N; yield the population after every move.

    Args:
        population: one, or several side by side, which is many times as fast as one after another where moves are small;
            each is resampled by itself, when its own ESS says so.
        moves: each maps a value to the moved value and its log incremental weights, one a row.
        select: (value, index) ↦ the value whose row i is row index[i].
        resample: a scheme of `arguide.smc.resampling`.
        threshold: 0 never resamples (importance sampling), 1 does whenever the weights differ.
        twist: value ↦ log ψ, one a row: what is expected of a particle. Resampling, and when to do it, then go by w ψ.

    Raises:
        ValueError: a threshold outside [0, 1]; weights with NaN or +∞; every particle of a population has weight 0, so nothing
            of the target was found.
    """
    checks.share("threshold", threshold)
    checks.function("resample", resample)
    n = population.log_weights.shape[-1]
    for move in moves:
        like = population.log_weights
        log_twist = torch.zeros_like(like) if twist is None else twist(population.value).view_as(like)
        low = effective_sample_size(like + log_twist) < threshold * n
        if low.any():
            ancestors = _ancestors(like + log_twist, low, resample, generator)
            population = resampled(population, select, ancestors, log_twist, low)
        value, increment = move(population.value)
        population = population._replace(value=value, log_weights=population.log_weights + increment.view_as(like))
        _check_weights(population.log_weights)
        yield population


def _check_weights(log_weights: Tensor) -> None:
    """Raise ValueError where a population, [..., N], has NaN or +∞ among its log-weights, or no weight at all."""
    largest = log_weights.amax(-1)
    if largest.isfinite().all():
        return
    if (largest == -math.inf).any():
        raise ValueError("all particles have weight 0: the branches share no sequence that was found; use more particles")
    raise ValueError("log-weights must not be NaN or +inf, got such a particle; check the models' outputs and the weights")


def _ancestors(log_weights: Tensor, low: Tensor, resample: Resample, generator: torch.Generator | None) -> Tensor:
    """Draw ancestors, [..., N], of the populations that are `low`; those of the others are themselves."""
    rows, n = log_weights.view(-1, log_weights.shape[-1]), log_weights.shape[-1]
    ancestors = torch.arange(n, device=log_weights.device).repeat(len(rows), 1)
    for i in low.view(-1).nonzero()[:, 0].tolist():
        ancestors[i] = resample(rows[i], generator)
    return ancestors.view_as(log_weights)
