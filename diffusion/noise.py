r"""Time: grids of noise levels σ_0 > σ_1 > … > σ_{N−1} > 0, closed by σ_N = 0, and schedules of the scale γ over σ.

All processes have variance-exploding form x_σ = x_0 + σ·ε. A variance-preserving process α·x_0 + √(1−α²)·ε is the same one
divided by α, at σ = √(1−α²)/α.

A schedule is any function from a noise level to a scale, for the `scale` of `LogLinear.guidance` and of `nonlinear_guidance`.
Where it makes a weight the number 0, as at γ = 1 outside an interval, that score is not evaluated. A scale that depends on σ
has no joint law for `sample_joint` to draw.

Sources: Karras et al., "Elucidating the design space of diffusion-based generative models", arXiv:2206.00364; Song et al.,
"Score-based generative modeling through SDEs", arXiv:2011.13456; Kynkäänniemi et al., "Applying guidance in a limited
interval", arXiv:2404.07724, whose interval is (σ_lo, σ_hi].
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from arguide import checks

Schedule = Callable[[Tensor], float]


def geometric(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Return [steps + 1] levels, geometric from sigma_max to sigma_min, then 0.

    Args:
        steps: number of positive levels, 2 at least.
        sigma_min: the smallest positive level.
        sigma_max: the largest level.

    Raises:
        ValueError: fewer than 2 steps, or levels that are not positive and rising.

    Example:
        >>> diffusion.geometric(3, 0.1, 10.0)
        tensor([10.0000,  1.0000,  0.1000,  0.0000], dtype=torch.float64)
    """
    _check(steps, sigma_min=sigma_min, sigma_max=sigma_max)
    return _closed(torch.logspace(math.log10(sigma_max), math.log10(sigma_min), steps, dtype=torch.float64))


def edm(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """Return [steps + 1] levels with σ^{1/ρ} equally spaced, then 0 (Karras et al., eq. 5).

    Args:
        steps: number of positive levels, 2 at least.
        sigma_min: the smallest positive level.
        sigma_max: the largest level.
        rho: ρ; larger values put more levels near sigma_min.

    Raises:
        ValueError: as `geometric`, and ρ = 0.

    Example:
        >>> diffusion.edm(3, 0.1, 10.0)
        tensor([10.0000,  1.4507,  0.1000,  0.0000], dtype=torch.float64)
    """
    _check(steps, sigma_min=sigma_min, sigma_max=sigma_max)
    checks.number("rho", rho, "finite and not 0", lambda found: math.isfinite(found) and found != 0)
    return _closed(torch.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), steps, dtype=torch.float64) ** rho)


def variance_preserving(
    steps: int, beta_min: float = 0.1, beta_max: float = 20.0, time_min: float = 1e-3, time_max: float = 1.0
) -> Tensor:
    """Return [steps + 1] levels σ = √(1/ᾱ − 1) of the linear VP schedule at equally spaced times, then 0.

    ᾱ(t) = exp(−β_min·t − (β_max − β_min)·t²/2) (Song et al., eq. 33).

    Args:
        steps: number of positive levels, 2 at least.
        beta_min: β at time 0.
        beta_max: β at time 1.
        time_min: time of the smallest positive level.
        time_max: time of the largest level.

    Raises:
        ValueError: as `geometric`, and β below 0.

    Example:
        >>> diffusion.variance_preserving(3).round(decimals=2)
        tensor([1.5217e+02, 3.4200e+00, 1.0000e-02, 0.0000e+00], dtype=torch.float64)
    """
    _check(steps, time_min=time_min, time_max=time_max)
    checks.not_negative("beta_min", beta_min), checks.not_negative("beta_max", beta_max)
    time = torch.linspace(time_max, time_min, steps, dtype=torch.float64)
    return _closed(torch.expm1(beta_min * time + (beta_max - beta_min) * time**2 / 2).sqrt())


def refined(grid: Tensor) -> Tensor:
    """Return the grid with the geometric mean of every two positive neighbours put between them."""
    middle = (grid[:-1] * grid[1:]).sqrt()
    between = torch.stack([grid[:-1], middle], 1).flatten()
    return torch.cat([between[between > 0], grid[-1:]])


def interval(scale: float, low: float = 0.0, high: float = math.inf, *, outside: float = 1.0) -> Schedule:
    """Return γ(σ) = γ for low < σ ≤ high, and `outside` (unguided by default) elsewhere.

    On Gaussians, cond N(m, a) and uncond N(0, b), the variance of the guided ODE is a·ρ^{γ−1} with
    ρ = (a + low²)(b + high²) / ((a + high²)(b + low²)).

    Args:
        scale: γ.
        low: σ_lo.
        high: σ_hi.
        outside: γ outside the interval.

    Raises:
        ValueError: a scale that is not finite, or levels that are not rising.
    """
    checks.number("scale", scale), checks.number("outside", outside)
    checks.not_negative("low", low)
    checks.number("high", high, f"above low, {low}", lambda found: low < found)
    return lambda sigma: scale if low < float(sigma) <= high else outside


def ramp(first: float, last: float, high: float, low: float) -> Schedule:
    """Return `first` for σ ≥ high, `last` for σ ≤ low, and a scale linear in log σ between them.

    Args:
        first: γ at large noise.
        last: γ at small noise.
        high: the level where the ramp begins.
        low: the level where it ends.

    Raises:
        ValueError: a scale that is not finite, or levels that are not positive and rising.
    """
    checks.number("first", first), checks.number("last", last)
    checks.positive("low", low)
    checks.number("high", high, f"finite and above low, {low}", lambda found: low < found < math.inf)

    def at(sigma: Tensor) -> float:
        level = min(max(float(sigma), low), high)
        return first + (last - first) * math.log(high / level) / math.log(high / low)

    return at


def _closed(levels: Tensor) -> Tensor:
    return checks.falling("levels", torch.cat([levels, levels.new_zeros(1)]))


def _check(steps: int, **ends: float) -> None:
    checks.integer("steps", steps, 2)
    (low, least), (high, most) = ends.items()
    checks.positive(low, least)
    checks.number(high, most, f"finite and above {low}, {least}", lambda found: least < found < math.inf)
