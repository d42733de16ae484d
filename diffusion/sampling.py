r"""Drawing by the reverse process, one noise level at a time, with one number between the ODE and the SDE.

The family dx = ½(1 + λ²) s du + λ dW, with τ = σ² and u = σ_max² − τ, has the marginals p_σ for every λ: λ = 0 is the
probability-flow ODE dx/dσ = −σ·s, λ = 1 the reverse SDE; with a guided score λ → ∞ tends to the joint tilt. λ is the
*stochasticity*. A step from τ to τ' splits the process into a part that is exact and a part that an ODE solver does well: half
of the noise, of variance λ²(τ − τ') in all, then the ODE over the added variance plus τ − τ', then the other half. With
Heun's solver the moments of the result are of second order in the step.

Densities are relative to the sampler's own path law, since a deterministic step has none: log_proposal = 0, and log_target is
the log incremental weight (τ − τ')·r of the step towards the joint law, with r as in `diffusion.guidance`, averaged over the
evaluations of the step. It equals log_normalizer, and is 0 for a score that is no `LogLinear`.

Sources: Song et al., "Score-based generative modeling through SDEs", arXiv:2011.13456, eq. 13; Karras et al., "Elucidating the
design space of diffusion-based generative models", arXiv:2206.00364, algorithms 1 and 2, whose churn is λ²(τ − τ'); Chung et
al., "CFG++", arXiv:2406.08070.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arguide import checks
from arguide.smc.draws import Draw as Draw
from arguide.smc.draws import normal
from arguide.smc.samples import Info, Sample
from diffusion.guidance import Weight, guide
from diffusion.models import Field, Guided, LogLinear, with_potential


class State(NamedTuple):
    """n samples at a noise level, x [n, …]."""

    x: Tensor


class Stepped(NamedTuple):
    """Result of a `Step`: x [n, …], and r at the first and the last evaluation of the score, [n], or None."""

    x: Tensor
    first: Tensor | None
    last: Tensor | None


Step = Callable[[Guided, Tensor, Tensor, Tensor, Draw], Stepped]  # (score, x, σ, σ', draw) ↦ x at σ'


def init(like: Tensor, sigma_max: Tensor, draw: Draw, total_weight: float = 1.0) -> State:
    """Return x ~ N(0, σ_max²/W), the wide-noise limit of Π_k p_{σ,k}^{w_k} with W = Σ_k w_k.

    Args:
        like: gives shape, dtype and device.
        sigma_max: σ_max, [].
        draw: standard normals.
        total_weight: W.
    """
    return State(draw(like) * sigma_max / total_weight**0.5)


def euler(score: Guided, x: Tensor, sigma: Tensor, sigma_next: Tensor, _draw: Draw) -> Stepped:
    """Take one ODE step x + (σ' − σ)·dx/dσ; first order. With σ' = 0 this returns the denoised x.

    Args:
        score: (x, σ) ↦ (score, r), see `models.with_potential`.
        x: samples at σ, [n, …].
        sigma: σ, [].
        sigma_next: σ' < σ, [].

    Example:
        >>> normal = lambda x, sigma: -x / (1 + sigma**2)
        >>> diffusion.sample(normal, (4, 2), diffusion.edm(50), step=diffusion.euler).x.shape
        torch.Size([4, 2])
    """
    s, r = score(x, sigma)
    return Stepped(x - (sigma_next - sigma) * sigma * s, r, r)


def heun(score: Guided, x: Tensor, sigma: Tensor, sigma_next: Tensor, _draw: Draw) -> Stepped:
    """Take one ODE step by the trapezoidal rule, Euler's where σ' = 0; second order.

    Args:
        score: (x, σ) ↦ (score, r), see `models.with_potential`.
        x: samples at σ, [n, …].
        sigma: σ, [].
        sigma_next: σ' < σ, [].

    Example:
        >>> normal = lambda x, sigma: -x / (1 + sigma**2)
        >>> diffusion.sample(normal, (4, 2), diffusion.edm(50), step=diffusion.heun).x.shape
        torch.Size([4, 2])
    """
    s, first = score(x, sigma)
    slope = -sigma * s
    predicted = x + (sigma_next - sigma) * slope
    if sigma_next == 0:
        return Stepped(predicted, first, first)
    s, last = score(predicted, sigma_next)
    return Stepped(x + (sigma_next - sigma) * (slope - sigma_next * s) / 2, first, last)


def sde(noise: float = 1.0, *, noise_scale: float = 1.0, solver: Step = heun, after: float = 0.5) -> Step:
    """Return the step of the SDE.

    Args:
        noise: the stochasticity λ.
        noise_scale: η, a factor of the noise (a temperature).
        solver: the ODE step.
        after: share of the noise that comes after the ODE, as far as σ' leaves room for it; 0 is Karras et al.'s churn.

    Raises:
        ValueError: λ or η below 0, a share outside [0, 1], or a solver that is no function.

    Example:
        >>> normal = lambda x, sigma: -x / (1 + sigma**2)
        >>> drawn = diffusion.sample(normal, (4000, 1), diffusion.edm(50), step=diffusion.sde(1.0))
        >>> round(float(drawn.x.std()), 1)
        1.0
    """
    checks.not_negative("noise", noise), checks.not_negative("noise_scale", noise_scale), checks.share("after", after)
    checks.function("solver", solver)

    def step(score: Guided, x: Tensor, sigma: Tensor, sigma_next: Tensor, draw: Draw) -> Stepped:
        added = noise**2 * (sigma**2 - sigma_next**2)
        late = torch.minimum(after * added, sigma_next**2 / 2)
        x = x + noise_scale * (added - late).sqrt() * draw(x)
        moved = solver(score, x, (sigma**2 + added - late).sqrt(), (sigma_next**2 - late).sqrt(), draw)
        return moved._replace(x=moved.x + noise_scale * late.sqrt() * draw(x)) if late > 0 else moved

    return step


def cfg_plus_plus(uncond: Field, strength: Weight) -> Step:
    """Return the step D_λ + σ'·ε_u of the process of a conditional score, with D_λ = λ·D_c + (1−λ)·D_u, λ = `strength`.

    It renoises with the unconditional noise ε_u = −σ·s_u. It is Euler's step at the scale γ = λ/(1 − σ'/σ), which grows as
    steps shrink, so a fixed λ in [0, 1] has no limit as the grid is refined (Chung et al., algorithm 2).

    Args:
        uncond: the unconditional score.
        strength: λ, a number or one per sample, [n].

    Raises:
        ValueError: a score that is no function, or a strength that is not finite.

    Example:
        >>> pair = analysis.GaussianPair.scalar(1.0, 1.0, 4.0)
        >>> cond, uncond = diffusion.conditioned(pair.score, 0), diffusion.conditioned(pair.score)
        >>> diffusion.sample(cond, (4, 1), diffusion.edm(50), step=diffusion.cfg_plus_plus(uncond, 0.6)).x.shape
        torch.Size([4, 1])
    """
    checks.function("uncond", uncond), checks.finite("strength", strength)

    def step(score: Guided, x: Tensor, sigma: Tensor, sigma_next: Tensor, _draw: Draw) -> Stepped:
        away = uncond(x, sigma)
        s, r = score(x, sigma)
        return Stepped(x + sigma**2 * guide(s, away, strength) - sigma_next * sigma * away, r, r)

    return step


def step(score: Guided, state: State, sigma: Tensor, sigma_next: Tensor, draw: Draw, solver: Step = heun) -> tuple[State, Info]:
    """Take one step from σ to σ'; its densities are those of the module's docstring.

    Args:
        score: (x, σ) ↦ (score, r), see `models.with_potential`.
        state: n samples at σ.
        sigma: σ, [].
        sigma_next: σ' < σ, [].
        draw: standard normals.
        solver: an ODE or SDE step.
    """
    x, first, last = solver(score, state.x, sigma, sigma_next, draw)
    zeros = x.new_zeros(()).expand(len(x))
    if first is None or last is None:
        return State(x), Info(zeros, zeros, zeros)
    log_normalizer = (sigma**2 - sigma_next**2) * (first + last) / 2
    return State(x), Info(log_normalizer, zeros, log_normalizer)


def trajectory(score: Field, x: Tensor, sigmas: Tensor, step: Step, draw: Draw) -> Iterator[State]:
    """Yield the state at sigmas[1], sigmas[2], …, starting from x [n, …] at sigmas[0].

    Args:
        score: (x, σ) ↦ score.
        x: samples at sigmas[0], [n, …].
        sigmas: a falling grid, which may end above 0.
        step: an ODE or SDE step.
        draw: standard normals.

    Raises:
        ValueError: a grid that rises or holds a negative level; in place of the last state, a step that gave NaN or ∞.

    Example:
        >>> normal = lambda x, sigma: -x / (1 + sigma**2)
        >>> states = diffusion.trajectory(normal, 80 * torch.randn(4, 2), diffusion.edm(50), diffusion.heun, torch.randn_like)
        >>> len(list(states))
        50
    """
    checks.tensor("x", x)
    checks.falling("sigmas", sigmas, ends_at_zero=False)
    checks.functions(score=score, step=step, draw=draw)
    return (state for state, _ in _steps(score, x, sigmas, step, draw))


MAKERS: tuple[Any, ...] = (sde, cfg_plus_plus)  # functions that return a step and are no steps


def _steps(score: Field, x: Tensor, sigmas: Tensor, solver: Step, draw: Draw) -> Iterator[tuple[State, Info]]:
    """Yield the result of every step; check finiteness once, after the last, since a check makes the device wait."""
    guided, state, sums = with_potential(score), State(x), [x.detach().sum()]
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas), 2):
        state, info = step(guided, state, sigma, sigma_next, draw, solver)
        sums.append(state.x.detach().sum())
        if i == len(sigmas):
            check_finite(torch.stack(sums), sigmas)
        yield state, info


def check_finite(sums: Tensor, sigmas: Tensor) -> None:
    """Raise ValueError if the sum of x is not finite at one of the levels, [levels]."""
    infinite = ~sums.isfinite()
    if infinite.any():
        first = int(infinite.int().argmax())
        where = f"in the step from sigma {float(sigmas[first - 1]):g}" if first else "at the start"
        raise ValueError(f"x must stay finite, got {float(sums[first])} {where}; check the score, the scale and the grid there")


@checks.with_hint(checks.GRID)
def sample(
    score: Field,
    shape: tuple[int, ...],
    sigmas: Tensor,
    *,
    step: Step = heun,
    generator: torch.Generator | None = None,
    draw: Draw | None = None,
    total_weight: float = 1.0,
    ends_at_zero: bool = True,
) -> Sample:
    """Draw x_0, [n, …] = shape, from N(0, σ_max²/W) through the grid; dtype and device are those of `sigmas`.

    Args:
        score: (x, σ) ↦ score; a `LogLinear` makes this sequential guidance.
        shape: [n, …].
        sigmas: a grid of `diffusion.noise`: at least two levels, falling to 0.
        step: an ODE or SDE step: `euler`, `heun`, `sde(λ)`, `cfg_plus_plus(…)`.
        generator: of the default draw.
        draw: x ↦ standard normals of its shape; `normal(generator)` by default.
        total_weight: W, the sum of the weights of a log-linear combination.
        ends_at_zero: False lets the grid end above 0; then x at its last level is returned, which is still noised.

    Raises:
        ValueError: a grid, shape or total weight out of range; a step that gave NaN or ∞.

    Example:
        >>> pair = analysis.GaussianPair.scalar(1.0, 1.0, 4.0)
        >>> cond, uncond = diffusion.conditioned(pair.score, 0), diffusion.conditioned(pair.score)
        >>> score = diffusion.LogLinear.guidance(cond, uncond, 3.0)
        >>> diffusion.sample(score, (1000, 1), diffusion.edm(50)).x.shape
        torch.Size([1000, 1])
    """
    draw = checks.function("draw", draw or normal(generator))
    checks.shape("shape", shape), checks.positive("total_weight", total_weight)
    checks.falling("sigmas", sigmas, ends_at_zero=ends_at_zero)
    checks.functions(score=score, step=step)
    if step in MAKERS:
        raise checks.refusal("step", "a step of the sampler", step, "try step=diffusion.sde(1.0)")
    x, logs = init(sigmas.new_empty(shape), sigmas[0], draw, total_weight).x, []
    for state, info in _steps(score, x, sigmas, step, draw):
        x = state.x
        logs.append(info.log_normalizer)
    zeros = x.new_zeros(()).expand(len(x), len(logs))  # one number in memory
    log_normalizer = torch.stack(logs, 1) if isinstance(score, LogLinear) else zeros
    return Sample(x, log_normalizer, zeros, log_normalizer)
