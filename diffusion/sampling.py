r"""Drawing by the reverse process, one noise level at a time, with one number between the ODE and the SDE.

The family dx = ½(1 + λ²) s dτ + λ dW, along falling variance τ = σ², has the marginals p_σ for every λ: λ = 0 is the
probability-flow ODE dx/dσ = −σ·s, λ = 1 the reverse SDE; with a guided score λ → ∞ tends to the joint tilt. A step from τ to τ'
splits it into what is exact and what an ODE solver does well: half of the noise, of variance λ²(τ − τ') in all, then the
ODE over what the noise has added and the step takes away, then the other half. With Heun's solver the moments of the
result are of second order in the step.

Sources: Song et al. (2021), eq. 13; Karras et al., "Elucidating the design space" (2022), algorithms 1 and 2,
whose churn is λ²(τ − τ').
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from arguide import checks
from diffusion.guidance import Weight, guide
from diffusion.models import Field

Draw = Callable[[Tensor], Tensor]
Step = Callable[[Field, Tensor, Tensor, Tensor, Draw], Tensor]


def normal(generator: torch.Generator | None = None) -> Draw:
    """Return the draw x ↦ ξ, standard normal of x's shape, dtype and device."""
    return lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def init(like: Tensor, sigma_max: Tensor, draw: Draw, total_weight: float = 1.0) -> Tensor:
    """Return x ~ N(0, σ_max²/W), the wide-noise limit of Π_k p_{σ,k}^{w_k} with W = Σ_k w_k; shape of `like`."""
    return draw(like) * sigma_max / total_weight**0.5


def euler(score: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, _draw: Draw) -> Tensor:
    """Take one ODE step x + (σ' − σ)·dx/dσ; first order. With σ' = 0 this returns the denoised x."""
    return x - (sigma_next - sigma) * sigma * score(x, sigma)


def heun(score: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, _draw: Draw) -> Tensor:
    """Take one ODE step by the trapezoidal rule, Euler's where σ' = 0; second order."""
    slope = -sigma * score(x, sigma)
    predicted = x + (sigma_next - sigma) * slope
    if sigma_next == 0:
        return predicted
    return x + (sigma_next - sigma) * (slope - sigma_next * score(predicted, sigma_next)) / 2


def sde(noise: float = 1.0, *, noise_scale: float = 1.0, solver: Step = heun, after: float = 0.5) -> Step:
    """Return the step of the SDE with noise level λ = `noise`, its noise multiplied by η = `noise_scale` (a temperature).

    Args:
        solver: the ODE step.
        after: share of the noise that comes after the ODE, as far as σ' leaves room for it; 0 is Karras et al.'s churn.

    Raises:
        ValueError: a noise level or scale below 0, a share outside [0, 1], or what is no solver.
    """
    checks.not_negative("noise", noise), checks.not_negative("noise_scale", noise_scale), checks.share("after", after)
    checks.function("solver", solver)

    def step(score: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, draw: Draw) -> Tensor:
        added = noise**2 * (sigma**2 - sigma_next**2)
        late = torch.minimum(after * added, sigma_next**2 / 2)
        x = x + noise_scale * (added - late).sqrt() * draw(x)
        x = solver(score, x, (sigma**2 + added - late).sqrt(), (sigma_next**2 - late).sqrt(), draw)
        return x + noise_scale * late.sqrt() * draw(x) if late > 0 else x

    return step


def cfg_plus_plus(uncond: Field, strength: Weight) -> Step:
    """Return the step D_λ + σ'·ε_u of the process of a conditional score, with D_λ = λ·D_c + (1−λ)·D_u, λ = `strength`.

    It renoises with the unconditional noise ε_u = −σ·s_u, and is Euler's step at the scale γ = λ/(1 − σ'/σ), which grows as
    steps shrink: λ in [0, 1] has no limit in the grid (Chung et al., "CFG++", 2024, algorithm 2).

    Args:
        strength: λ, a number or one a sample, [n].
    """
    checks.function("uncond", uncond), checks.finite("strength", strength)

    def step(score: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, _draw: Draw) -> Tensor:
        away = uncond(x, sigma)
        return x + sigma**2 * guide(score(x, sigma), away, strength) - sigma_next * sigma * away

    return step


def trajectory(score: Field, x: Tensor, sigmas: Tensor, step: Step, draw: Draw) -> Iterator[Tensor]:
    """Yield x at sigmas[1], sigmas[2], …, starting from x [n, …] at sigmas[0].

    Args:
        sigmas: a falling grid, which may end above 0.

    Raises:
        ValueError: a grid that rises or holds what is no noise level; in place of the last x, a step that gave NaN or ∞.
    """
    checks.tensor("x", x)
    checks.falling("sigmas", sigmas, ends_at_zero=False)
    for name, part in (("score", score), ("step", step), ("draw", draw)):
        checks.function(name, part)
    return _steps(score, x, sigmas, step, draw)


def _steps(score: Field, x: Tensor, sigmas: Tensor, step: Step, draw: Draw) -> Iterator[Tensor]:
    """Yield x after every step; that all were finite is looked at once, at the end, where no step waits for it."""
    sums = [x.detach().sum()]
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas), 2):
        x = step(score, x, sigma, sigma_next, draw)
        sums.append(x.detach().sum())
        if i == len(sigmas):
            _check_finite(torch.stack(sums), sigmas)
        yield x


def _check_finite(sums: Tensor, sigmas: Tensor) -> None:
    spoilt = ~sums.isfinite()
    if spoilt.any():
        first = int(spoilt.int().argmax())
        where = f"in the step from sigma {float(sigmas[first - 1]):g}" if first else "at the start"
        raise ValueError(f"x must stay finite, got {float(sums[first])} {where}; check the score, the scale and the grid there")


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
) -> Tensor:
    """Draw x_0, [n, …] = shape, from N(0, σ_max²/W) through the grid; dtype and device are those of `sigmas`.

    Args:
        sigmas: a grid of `diffusion.noise`: at least two levels, falling to 0.
        total_weight: W, the sum of the weights of a log-linear combination.
        ends_at_zero: False lets the grid end above 0; then x at its last level is returned, which is still noised.

    Raises:
        ValueError: a grid, shape or total weight that cannot be; a step that gave NaN or ∞.
    """
    draw = checks.function("draw", draw or normal(generator))
    checks.shape("shape", shape)
    checks.falling("sigmas", sigmas, ends_at_zero=ends_at_zero)
    checks.positive("total_weight", total_weight)
    first = init(sigmas.new_empty(shape), sigmas[0], draw, total_weight)
    return deque(trajectory(score, first, sigmas, step, draw), maxlen=1).pop()
