r"""Drawing from the joint law with diffusion: Feynman–Kac corrected sampling, on the driver of `arguide.particles`.

Particles follow the guided reverse process at any noise level λ and gather log Z_step = (τ − τ')·r(x, σ), with
r = ½(‖s̄‖² − Σ_k w_k‖s_k‖²); in the limit of small steps they follow Π_k p_{0,k}^{w_k} / Z, and log Ẑ estimates log Z.
A step first adds noise of variance δ = λ²(τ − τ'), which takes −δ·r, then solves the ODE over δ + τ − τ', which gives
(δ + τ − τ')·r. Both are averaged over their two ends (Strang splitting, second order) from the scores that the step
evaluates anyway.

The target is the same for every λ. Little noise leaves the weights with heavy tails, which ESS does not show; much noise makes
the error of a step large. So λ is 2 by default, and less where the grid is coarse, see `level` and benchmarks/stochasticity.py.

Source: Skreta et al., "Feynman–Kac correctors in diffusion" (2025).
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arguide import checks
from arguide.smc.driver import Move, Population, drive, populate
from arguide.smc.resampling import Resample, systematic
from diffusion.models import LogLinear
from diffusion.sampling import Draw, Step, heun, init, normal, sde

MOST, SHARE = 2.0, 0.2  # the default λ at most; the share of σ′² that a step may add as noise


class JointSample(NamedTuple):
    """N weighted samples of the joint law.

    x: [N, …].
    log_weights: [N], normalised to Σ exp = 1.
    log_evidence: [], log Ẑ, an estimate of log ∫ Π_k p_{0,k}(x)^{w_k} dx.
    ess: [steps], effective sample size after every step, before it resamples.
    ancestors: number of distinct first particles left at the end.
    """

    x: Tensor
    log_weights: Tensor
    log_evidence: Tensor
    ess: Tensor
    ancestors: int


class Particle(NamedTuple):
    """What moves: x, [N, …], and the potential r at its noise level, [N]."""

    x: Tensor
    potential: Tensor


def sample_joint(model: LogLinear, shape: tuple[int, ...], sigmas: Tensor, **options: Any) -> JointSample:
    """Draw weighted samples of Π_k p_{0,k}^{w_k} / Z; options as in `sample_joints`.

    Args:
        shape: [N, …]; dtype and device are those of `sigmas`.

    Raises:
        ValueError: weights that depend on sigma, differ between samples or sum to 0 or less; every particle of weight 0.
    """
    (sample,) = sample_joints(model, 1, shape, sigmas, **options)
    return sample


def sample_joints(
    model: LogLinear,
    count: int,
    shape: tuple[int, ...],
    sigmas: Tensor,
    *,
    noise: float | None = None,
    solver: Step = heun,
    generator: torch.Generator | None = None,
    draw: Draw | None = None,
    resample: Resample = systematic,
    threshold: float = 0.5,
    ends_at_zero: bool = True,
) -> list[JointSample]:
    """Draw `count` independent samples, side by side in one batch, as `sample_joint` draws each.

    Args:
        model: the log-linear combination, its weights the same at every noise level. Its scores may differ by row of the
            batch, [count·N, …], in their label say, where all rows of a sample are alike.
        shape: of one sample, [N, …].
        sigmas: a grid of `diffusion.noise`, falling to 0; finer grids for less bias.
        noise: λ of the reverse process; `level` of every step by default.
        solver: the ODE step, see `diffusion.sampling`.
        resample, threshold: see `arguide.smc.driver.drive`; `threshold=0` only weighs.
        ends_at_zero: False lets the grid end above 0; then particles at its last level are returned, which are still noised.

    Raises:
        ValueError: as `sample_joint`, of any of them; a grid, shape or noise level that cannot be; scores with NaN.
    """
    checks.integer("count", count), checks.shape("shape", shape)
    checks.not_negative("noise", 0.0 if noise is None else noise)
    checks.falling("sigmas", sigmas, ends_at_zero=ends_at_zero)
    checks.function("solver", solver)
    draw = checks.function("draw", draw or normal(generator))
    total = _total_weight(model)
    x = init(sigmas.new_empty((count * shape[0], *shape[1:])), sigmas[0], draw, total)
    population = populate(Particle(x, model.guided(x, sigmas[0])[1]), sigmas.new_zeros(count, shape[0]))
    moves = (_move(model, *pair, noise, solver, draw) for pair in pairwise(sigmas))
    ess = []
    for moved in drive(population, moves, _select, resample=resample, threshold=threshold, generator=generator):
        population = moved
        ess.append(population.ess)
    log_first = _log_first_normalizer(x[0].numel(), float(sigmas[0]), total)
    xs = population.value.x.chunk(count)
    return [
        JointSample(x, own.log_weights.log_softmax(0), own.log_evidence + log_first, sizes, own.ancestors)
        for x, own, sizes in zip(xs, population.apart(), torch.stack(ess, 1), strict=True)
    ]


def level(sigma: Tensor, sigma_next: Tensor) -> float:
    """Return the default λ of a step: at most 2, and such that its noise, λ²(σ² − σ′²), is at most σ′²/5; 0 for σ′ = 0."""
    return min(MOST, math.sqrt(SHARE * float(sigma_next**2 / (sigma**2 - sigma_next**2))))


def driven(populations: Iterator[Population]) -> JointSample:
    """Return what a driver's last population holds, with the effective sample sizes of all."""
    ess = []
    for population in populations:
        ess.append(population.ess)
    log_weights = population.log_weights.log_softmax(0)
    return JointSample(population.value, log_weights, population.log_evidence, torch.stack(ess), population.ancestors)


def _move(model: LogLinear, sigma: Tensor, sigma_next: Tensor, noise: float | None, solver: Step, draw: Draw) -> Move:
    """Return the move that takes one step of the sampler and keeps the potentials of the scores it asked for.

    The last step, to σ' = 0, only denoises: noise added there would not be taken away, and where r ∝ 1/σ⁴ its weight explodes.
    """
    if noise is None or sigma_next == 0:
        noise = level(sigma, sigma_next)
    variance = sigma**2 - sigma_next**2
    added = noise**2 * variance

    def move(value: Particle) -> tuple[Particle, Tensor]:
        potentials: list[Tensor] = []

        def score(x: Tensor, sigma: Tensor) -> Tensor:
            s, potential = model.guided(x, sigma)
            potentials.append(potential)
            return s

        x = sde(noise, solver=solver, after=0.0)(score, value.x, sigma, sigma_next, draw)
        first, last = potentials[0], potentials[-1]
        increment = (variance * first + (added + variance) * last - added * value.potential) / 2
        return Particle(x, last), increment

    return move


def _select(value: Particle, index: Tensor) -> Particle:
    return Particle(value.x[index], value.potential[index])


def _total_weight(model: LogLinear) -> float:
    if not isinstance(model, LogLinear):
        raise checks.refusal("model", "a diffusion.LogLinear", model)
    if callable(model.weights):
        raise ValueError("weights that depend on sigma have no joint law; give the same weights at every noise level")
    if any(torch.as_tensor(weight).ndim for weight in model.weights):
        raise ValueError("particles share one target: give one scale for all of them")
    total = sum(float(weight) for weight in model.weights)
    if total <= 0:
        raise ValueError(f"improper tilt: the weights must sum to more than 0, not to {total:g}")
    return total


def _log_first_normalizer(dim: int, sigma: float, total: float) -> float:
    """Return log ∫ N(x; 0, σ²I)^W dx in d dimensions; 0 for W = 1."""
    return dim * ((1 - total) * math.log(2 * math.pi * sigma**2) - math.log(total)) / 2
