r"""Drawing from the joint law with diffusion: Feynman–Kac corrected sampling, on the driver of `arguide.smc`.

Particles follow the guided reverse process at any stochasticity λ and gather log Z_step = (τ − τ')·r(x, σ), with
r = ½(‖s̄‖² − Σ_k w_k‖s_k‖²); in the limit of small steps they follow Π_k p_{0,k}^{w_k} / Z, and log Ẑ estimates log Z.
A step first adds noise of variance δ = λ²(τ − τ'), which adds −δ·r to the log-weight. It then solves the ODE over the variance
δ + τ − τ', which adds (δ + τ − τ')·r. Both are averaged over their two ends (Strang splitting, second order) from the scores
that the step evaluates anyway.

The target is the same for every λ. Little noise leaves the weights with heavy tails, which ESS does not show; much noise makes
the error of a step large. So λ is 2 by default, and less where the grid is coarse, see `level` and benchmarks/stochasticity.py.

Source: Skreta et al., "Feynman–Kac correctors in diffusion", arXiv:2503.02819.
"""

import math
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from arguide import checks
from arguide.smc.draws import Draw, normal
from arguide.smc.driver import drive, single
from arguide.smc.resampling import Resample, systematic
from arguide.smc.samples import Info, JointSample
from diffusion.models import LogLinear, combination
from diffusion.sampling import Step, heun, init, sde

MOST, SHARE = 2.0, 0.2  # the default λ at most; the share of σ′² that a step may add as noise


class State(NamedTuple):
    """N particles: x, [N, …], and the potential r at the last evaluation of the score, [N]."""

    x: Tensor
    potential: Tensor


def sample_joints(
    model: LogLinear,
    count: int,
    shape: tuple[int, ...],
    sigmas: Tensor,
    *,
    noise: float | None = None,
    solver: Step = heun,
    generator: Generator | None = None,
    draw: Draw | None = None,
    resample: Resample = systematic,
    threshold: float = 0.5,
    ends_at_zero: bool = True,
) -> list[JointSample]:
    """Draw `count` independent weighted samples of Π_k p_{0,k}^{w_k} / Z, side by side in one batch.

    Args:
        model: the combination, its weights the same at every noise level. Its scores may differ by row of the batch,
            [count·N, …], for instance in their label, where all rows of a sample are alike.
        count: number of samples.
        shape: of one sample, [N, …].
        sigmas: a grid of `diffusion.noise`, falling to 0; finer grids for less bias. It gives dtype and device.
        noise: the stochasticity λ of the reverse process; `level` of every step by default.
        solver: the ODE step, see `diffusion.sampling`.
        generator: of the default draw and of the resampling.
        draw: x ↦ standard normals of its shape; `normal(generator)` by default.
        resample: a scheme of `arguide.smc.resampling`.
        threshold: resample when ESS < threshold·N; 0 only weighs.
        ends_at_zero: False lets the grid end above 0; then particles at its last level are returned, which are still noised.

    Raises:
        ValueError: weights that depend on sigma, differ between samples or sum to 0 or less; a sample whose particles all have
            weight 0; a grid, shape or λ out of range; scores with NaN.

    Example:
        >>> pair = analysis.GaussianPair.scalar(1.0, 1.0, 4.0)
        >>> cond, uncond = diffusion.conditioned(pair.score, 0), diffusion.conditioned(pair.score)
        >>> score = diffusion.LogLinear.guidance(cond, uncond, 3.0)
        >>> drawn = diffusion.sample_joint(score, (1000, 1), diffusion.edm(50, 0.01, 50.0))
        >>> drawn.x.shape, len(diffusion.sample_joints(score, 2, (100, 1), diffusion.edm(50)))
        (torch.Size([1000, 1]), 2)
    """
    checks.integer("count", count), checks.shape("shape", shape)
    checks.not_negative("noise", 0.0 if noise is None else noise)
    checks.falling("sigmas", sigmas, ends_at_zero=ends_at_zero)
    checks.function("solver", solver)
    draw = checks.function("draw", draw or normal(generator))
    total = combination(model).total_weight()
    if total <= 0:
        raise ValueError(f"improper tilt: the weights must sum to more than 0, got {total:g}")
    x = init(sigmas.new_empty((count * shape[0], *shape[1:])), sigmas[0], draw, total).x
    samples = drive(
        State(x, model.guided(x, sigmas[0])[1]),
        sigmas.new_zeros(count, shape[0]),
        [partial(_move, model, sigma, after, noise, solver, draw) for sigma, after in pairwise(sigmas)],
        lambda state, index: State(state.x[index], state.potential[index]),
        resample=resample,
        threshold=threshold,
        generator=generator,
    )
    first = _log_first_normalizer(x[0].numel(), float(sigmas[0]), total)
    return [each._replace(log_evidence=each.log_evidence + first, evidences=each.evidences + first) for each in samples]


sample_joint = checks.with_hint(checks.GRID)(single(sample_joints))


def level(sigma: Tensor, sigma_next: Tensor) -> float:
    """Return the default λ of a step: at most 2, and such that its noise, λ²(σ² − σ′²), is at most σ′²/5; 0 for σ′ = 0."""
    return min(MOST, math.sqrt(SHARE * float(sigma_next**2 / (sigma**2 - sigma_next**2))))


def _move(
    model: LogLinear, sigma: Tensor, sigma_next: Tensor, noise: float | None, solver: Step, draw: Draw, state: State
) -> tuple[State, Info]:
    """Take one step, weighted by the potentials at its first and last evaluation.

    The last step, to σ' = 0, only denoises: noise added there would remain, and where r ∝ 1/σ⁴ its weight explodes.
    """
    if noise is None or sigma_next == 0:
        noise = level(sigma, sigma_next)
    variance = sigma**2 - sigma_next**2
    added = noise**2 * variance
    x, first, last = sde(noise, solver=solver, after=0.0)(model.guided, state.x, sigma, sigma_next, draw)
    assert first is not None
    assert last is not None
    increment = (variance * first + (added + variance) * last - added * state.potential) / 2
    return State(x, last), Info(increment, torch.zeros_like(increment), variance * (first + last) / 2)


def _log_first_normalizer(dim: int, sigma: float, total: float) -> float:
    """Return log ∫ N(x; 0, σ²I)^W dx in d dimensions; 0 for W = 1."""
    return dim * ((1 - total) * math.log(2 * math.pi * sigma**2) - math.log(total)) / 2
