r"""Time: grids of noise levels σ_0 > σ_1 > … > σ_{N−1} > 0, closed by σ_N = 0.

Everything is in the variance-exploding frame x_σ = x_0 + σ·ε. A variance-preserving process α·x_0 + √(1−α²)·ε is the
same one divided by α, at σ = √(1−α²)/α.
"""

import math

import torch
from torch import Tensor

from arguide import checks


def geometric(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Return [steps + 1] levels, geometric from sigma_max to sigma_min, then 0."""
    _check(steps, sigma_min=sigma_min, sigma_max=sigma_max)
    return _closed(torch.logspace(_log10(sigma_max), _log10(sigma_min), steps, dtype=torch.float64))


def edm(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """Return [steps + 1] levels with σ^{1/ρ} equally spaced, then 0 (Karras et al. 2022, eq. 5)."""
    _check(steps, sigma_min=sigma_min, sigma_max=sigma_max)
    checks.number("rho", rho, "finite and not 0", lambda found: math.isfinite(found) and found != 0)
    return _closed(torch.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), steps, dtype=torch.float64) ** rho)


def variance_preserving(
    steps: int, beta_min: float = 0.1, beta_max: float = 20.0, time_min: float = 1e-3, time_max: float = 1.0
) -> Tensor:
    """Return [steps + 1] levels σ = √(1/ᾱ − 1) of the linear VP schedule at equally spaced times, then 0.

    ᾱ(t) = exp(−β_min·t − (β_max − β_min)·t²/2) (Song et al., "Score-based generative modeling through SDEs", 2021, eq. 33).
    """
    _check(steps, time_min=time_min, time_max=time_max)
    checks.not_negative("beta_min", beta_min), checks.not_negative("beta_max", beta_max)
    time = torch.linspace(time_max, time_min, steps, dtype=torch.float64)
    return _closed(torch.expm1(beta_min * time + (beta_max - beta_min) * time**2 / 2).sqrt())


def _closed(levels: Tensor) -> Tensor:
    return checks.falling("levels", torch.cat([levels, levels.new_zeros(1)]))


def _log10(level: float) -> float:
    return float(torch.tensor(level, dtype=torch.float64).log10())


def _check(steps: int, **ends: float) -> None:
    checks.integer("steps", steps, 2)
    (low, least), (high, most) = ends.items()
    checks.positive(low, least)
    checks.number(high, most, f"finite and above {low}, {least}", lambda found: least < found < math.inf)
