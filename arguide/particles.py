r"""Drawing from the joint law: weighted particles, and the generic driver that moves and resamples them.

A move advances every particle and returns the log of its incremental weight. With sequential guidance as the proposal
the increment is log Z_t(x_<t), already computed by the sampler, and

    Π_t Z_t(x_<t) q(x) = Π_k p_k(x)^{w_k},    E[mean weight] = Z = Σ_x Π_k p_k(x)^{w_k}:

the weighted particles follow the joint law Π_k p_k(x)^{w_k} / Z, and Ẑ is unbiased. The driver knows nothing of tokens;
`diffusion.particles` runs it over noise levels.

Sources: Del Moral, Doucet & Jasra, "Sequential Monte Carlo samplers" (2006); Chopin & Papaspiliopoulos, "An introduction to
sequential Monte Carlo" (2020), ch. 10.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arguide import sampling
from arguide.models import Autoregressive
from arguide.resampling import Resample, systematic
from arguide.truncation import Transform, identity

Move = Callable[[Any], tuple[Any, Tensor]]
Select = Callable[[Any, Tensor], Any]


class Population(NamedTuple):
    """N weighted particles.

    value: whatever the moves act on.
    log_weights: [N], gathered since the last resampling.
    log_banked: [], the part of log Ẑ that earlier resamplings have settled.
    origin: [N], the first particle that each descends from.
    """

    value: Any
    log_weights: Tensor
    log_banked: Tensor
    origin: Tensor

    @property
    def log_evidence(self) -> Tensor:
        """Log Ẑ = log of the mean weight, [], with E[Ẑ] = Z under any rule of when to resample."""
        return self.log_banked + self.log_weights.logsumexp(0) - math.log(len(self.log_weights))

    @property
    def ess(self) -> Tensor:
        """Effective sample size (Σ w)² / Σ w², []."""
        return effective_sample_size(self.log_weights)

    @property
    def ancestors(self) -> int:
        """Number of distinct first particles that are left."""
        return int(self.origin.bincount().count_nonzero())


class JointSample(NamedTuple):
    """N weighted sequences that follow the joint law.

    tokens: [N, T].
    log_weights: [N], normalised to Σ exp = 1.
    log_evidence: [], log Ẑ.
    ess: [T], effective sample size after every step, before it resamples.
    ancestors: number of distinct first particles left at the end.
    """

    tokens: Tensor
    log_weights: Tensor
    log_evidence: Tensor
    ess: Tensor
    ancestors: int


def effective_sample_size(log_weights: Tensor) -> Tensor:
    """Return (Σ w)² / Σ w² of unnormalised log-weights, [N] ↦ []."""
    return (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()


def populate(value: Any, log_weights: Tensor) -> Population:
    """Return N first particles with their log-weights, [N]."""
    origin = torch.arange(len(log_weights), device=log_weights.device)
    return Population(value, log_weights, log_weights.new_zeros(()), origin)


def resampled(population: Population, select: Select, ancestors: Tensor) -> Population:
    """Return the equally weighted population of the given ancestors, [N]; what they weighed goes to log Ẑ."""
    value = select(population.value, ancestors)
    return Population(value, torch.zeros_like(population.log_weights), population.log_evidence, population.origin[ancestors])


def drive(
    population: Population,
    moves: Iterable[Move],
    select: Select,
    *,
    resample: Resample = systematic,
    threshold: float = 0.5,
    generator: torch.Generator | None = None,
) -> Iterator[Population]:
    """Move the particles, resampling before a move when ESS < threshold·N; yield the population after every move.

    Args:
        moves: each maps a value to the moved value and its log incremental weights, [N].
        select: (value, index) ↦ the value whose row i is row index[i].
        resample: a scheme of `arguide.resampling`.
        threshold: 0 never resamples (importance sampling), 1 does whenever the weights differ.

    Raises:
        ValueError: every particle has weight 0, so nothing of the target was found.
    """
    for move in moves:
        if population.ess < threshold * len(population.log_weights):
            ancestors = resample(population.log_weights, generator)
            population = resampled(population, select, ancestors)
        value, increment = move(population.value)
        population = population._replace(value=value, log_weights=population.log_weights + increment)
        if (population.log_weights == -math.inf).all():
            raise ValueError("all particles have weight 0: the branches share no sequence that was found; use more particles")
        yield population


def sample_joint(
    model: Autoregressive,
    n: int,
    length: int,
    *,
    draw: sampling.Draw | None = None,
    generator: torch.Generator | None = None,
    transform: Transform = identity,
    resample: Resample = systematic,
    threshold: float = 0.5,
) -> JointSample:
    """Draw n weighted sequences from the joint law Π_k p_k(x)^{w_k} / Z over `length` tokens.

    Args:
        model: a `LogLinear`, whose sequential law is the proposal and whose log Z_t are the weights.
        transform: changes the proposal only, the weights make up for it; a truncation restricts the target to the
            sequences that it can still propose.
        resample, threshold: see `drive`. `threshold=0` is plain importance sampling.

    Raises:
        ValueError: every particle has weight 0, or rows have scales of their own.
    """
    draw = draw or sampling.categorical(generator)

    def move(state: sampling.State) -> tuple[sampling.State, Tensor]:
        state, info = sampling.step(model, state, draw, transform)
        return state, info.log_target - info.log_proposal

    def select(state: sampling.State, index: Tensor) -> sampling.State:
        return sampling.State(model.select(state.model, index), state.tokens[index])

    first = sampling.init(model, n)
    first = select(first, torch.arange(n, device=first.tokens.device))  # refuses a scale per row: the target is one
    population = populate(first, first.model.log_probs.new_zeros(n))
    ess, moves = population.log_weights.new_empty(length), [move] * length
    steps = drive(population, moves, select, resample=resample, threshold=threshold, generator=generator)
    for t, population in enumerate(steps):
        ess[t] = population.ess
    log_weights = population.log_weights.log_softmax(0)
    return JointSample(population.value.tokens, log_weights, population.log_evidence, ess, population.ancestors)
