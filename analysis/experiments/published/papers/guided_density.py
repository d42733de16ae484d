"""Jiang and Ma (2026): the density in which the guided ODE ends, pointwise, on a mixture whose scores are exact."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from analysis.experiments.published.claims import Claim, arxiv
from analysis.toys import GaussianMixture

MIXTURE = GaussianMixture(torch.tensor([[-1.0], [1.0]]), torch.ones(2), torch.tensor([0.5, 0.5]))
WHERE = "theorem 4.2: ½N(−1, 1) + ½N(1, 1), guided to the right"
SCALES = (2.0, 5.0)
POINTS = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
WIDEST = 1e16  # the largest σ²: the limit is reached to 1e-7
ROUNDING = 2e-6  # of the integrator and of the central differences
NOTE = (
    "Change of variables along the ODE: log N(x_T; 0, σ_T²) − ½ ∫ div s_w dσ², at σ_T² = 10¹⁶. “±” is the tolerance of the "
    "integrator."
)


def claims(_seed: int) -> Iterator[Claim]:
    """Yield the log density of the guided ODE at points, relative to that at 0, by the formula and by transport."""
    for scale in SCALES:
        x = torch.tensor(POINTS, dtype=torch.float64)[:, None]
        log_density, spread = transported(x, scale)
        tilt = scale * MIXTURE.log_density(x, 0.0, 1) + (1 - scale) * MIXTURE.log_density(x, 0.0)
        formula = tilt - scale * (scale - 1) * spread / 2
        middle = POINTS.index(0.0)
        for i, point in enumerate(POINTS):
            if i == middle:
                continue
            found, published, plain = (float(each[i] - each[middle]) for each in (log_density, formula, tilt))
            yield Claim(
                WHERE,
                f"log density at {point:g} minus that at 0, w = {scale:g}",
                round(published, 6),
                found,
                plain,
                "the tilt, without the integral",
                std_error=ROUNDING,
                note=NOTE,
            )


def transported(x: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return the log density of the guided ODE at x, [n, 1] ↦ [n], and ∫ ‖s_p − s_q‖² dσ² along the path that ends there.

    dx/dτ = −½ s_w with τ = σ², so log ρ(x_0) = log N(x_T; 0, T) − ½ ∫ div s_w dτ. The divergence is a central difference.
    """

    def fields(points: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        sigma = torch.tensor(math.sqrt(tau), dtype=torch.float64)
        cond, uncond = MIXTURE.score(points, sigma, 1), MIXTURE.score(points, sigma)
        return scale * cond + (1 - scale) * uncond, cond - uncond

    def slope(log_tau: float, state: np.ndarray) -> np.ndarray:
        tau = math.exp(log_tau)
        points, step = torch.from_numpy(state.reshape(3, -1)[0])[:, None], 1e-4 * math.sqrt(1 + tau)
        score, gap = fields(points, tau)
        divergence = (fields(points + step, tau)[0] - fields(points - step, tau)[0]) / (2 * step)
        return tau * torch.cat([-score / 2, divergence / 2, gap.square()]).flatten().numpy()

    start = torch.cat([x.flatten(), torch.zeros(2 * len(x), dtype=torch.float64)]).numpy()
    solved = solve_ivp(slope, (math.log(1e-9), math.log(WIDEST)), start, method="LSODA", rtol=1e-9, atol=1e-11)
    end, volume, spread = torch.from_numpy(solved.y[:, -1].reshape(3, -1))
    return -end.square() / (2 * WIDEST) - volume, spread


SOURCE = arxiv(
    "2607.19725",
    "Jiang and Ma, Analytic distribution of classifier-free guidance for schedule design (2026)",
    claims,
    "a reader’s notes",
)
