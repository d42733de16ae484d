r"""Temperature of a diffusion model: five samplers on exact scores, the β that each reaches, and how far it stays from p^β.

With data N(0, a) the variance, and so β* = a/variance, has a closed form: σ_max²(a/(a+σ_max²))^β by the ODE and a/(2β−1) by the
SDE for score × β; a/β for noise × β^{−1/2}, for the Gaussian correction and for weights. On mixtures β* is the power of equal
log-likelihood, see `analysis.metrics.temperature.effective_beta`; even that power may be far from the draws.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import diffusion
from analysis.experiments.base import Settings, stream
from analysis.experiments.samplers import Draws
from analysis.frames import Row, Track, per_point
from analysis.metrics.confidence import mean_of
from analysis.metrics.distances import wasserstein
from analysis.metrics.temperature import effective_beta
from analysis.toys import GaussianMixture
from analysis.toys.example_tables import one_gaussian, two_modes
from diffusion.models import Field

BETAS = (0.7, 1.0, 1.5, 2.0, 3.0)
VARIANCE, SIGMA_MAX, BATCHES = 1.0, 50.0, 6
GAUSSIAN, MIXTURE = "Gaussian", "two modes"
LAWS: dict[str, Callable[[], GaussianMixture]] = {GAUSSIAN: one_gaussian, MIXTURE: two_modes}
ODE, SDE, NOISE, CORRECTION, WEIGHTS = "score × β, ODE", "score × β, SDE", "noise scale", "Gaussian correction", "weights"
EXACT, IDLE = "exact draws", "draws of p"
# (score, β) ↦ the field that is sampled, and the options of the sampler.
RULES: dict[str, Callable[[Field, float], tuple[Field, dict[str, Any]]]] = {
    ODE: lambda score, beta: (diffusion.scaled(score, beta), {}),
    SDE: lambda score, beta: (diffusion.scaled(score, beta), {"step": diffusion.sde(), "total_weight": beta}),
    NOISE: lambda score, beta: (score, {"step": diffusion.sde(noise_scale=beta**-0.5), "total_weight": beta}),
    CORRECTION: lambda score, beta: (diffusion.gaussian_correction(score, beta, VARIANCE), {}),
}
SAMPLERS = (*RULES, WEIGHTS)
# The variance for data N(0, a) in theory: of score × β, which is wrong, and of the target.
CLOSED_FORMS: dict[str, Callable[[float], float]] = {
    ODE: lambda beta: SIGMA_MAX**2 * (VARIANCE / (VARIANCE + SIGMA_MAX**2)) ** beta,
    SDE: lambda beta: VARIANCE / (2 * beta - 1) if beta > 0.5 else math.inf,
    "target 1/β": lambda beta: VARIANCE / beta,
}


class Axis(NamedTuple):
    """Points of a line, [m], and log p of a law there, [m]."""

    x: Tensor
    log_p: Tensor

    def masses(self, beta: float) -> Tensor:
        """Return the masses of p^β/Z, [m]."""
        return (beta * self.log_p).softmax(0)

    def w1(self, draws: Draws, beta: float) -> float:
        """Return the Wasserstein distance of draws from p^β."""
        return wasserstein(draws.x[:, 0], self.x, self.masses(beta).cumsum(0), draws.weights)

    def draw(self, beta: float, n: int, generator: torch.Generator) -> Draws:
        """Return exact draws of p^β.

        Args:
            beta: β.
            n: number of draws.
            generator: source of randomness.
        """
        return Draws(self.x[torch.multinomial(self.masses(beta), n, replacement=True, generator=generator)][:, None])


def axis_of(mixture: GaussianMixture) -> Axis:
    """Return a fine axis for a law of one dimension within [−12, 12]."""
    x = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    return Axis(x, mixture.log_density(x[:, None]))


def rows(settings: Settings, betas: Sequence[float], track: Track) -> Iterator[Row]:
    """Yield β*, variance and Wasserstein distances of every law, sampler and β, and closed forms.

    Args:
        settings: of the run.
        betas: β.
        track: progress bar over the samplers.
    """
    cases = [(law, family, beta) for law in LAWS for family in (*SAMPLERS, EXACT, IDLE) for beta in betas]
    for number, (law, family, beta) in enumerate(track(cases)):
        yield from _case(law, family, beta, settings, stream(settings.seed, number))
    for family, closed_form in CLOSED_FORMS.items():
        case = {"law": GAUSSIAN, "family": family, "quantity": "closed_form"}
        yield from per_point(case, beta=betas, value=map(closed_form, betas))


def _case(law: str, family: str, beta: float, settings: Settings, generator: torch.Generator) -> Iterator[Row]:
    """Yield the rows of one sampler at one β."""
    mixture, n = LAWS[law](), 1000 if settings.quick else 3000
    axis, case = axis_of(mixture), {"law": law, "family": family, "beta": beta}
    batches = batches_of(family, mixture, beta, n, settings, generator)
    yield case | {"quantity": "variance"} | mean_of([_variance(each) for each in batches])._asdict()
    yield case | {"quantity": "w1"} | mean_of([axis.w1(each, beta) for each in batches])._asdict()
    likelihood = mean_of([float(each.weights @ mixture.log_density(each.x)) for each in batches])
    mean = effective_beta.of_gaussian(VARIANCE) if law == GAUSSIAN else effective_beta.of_cells(axis.log_p)
    reached = effective_beta.estimated(mean, likelihood)
    yield case | {"quantity": "effective_beta"} | reached._asdict()
    if 0 < reached.value < float("inf"):
        yield case | {"quantity": "w1_nearest"} | mean_of([axis.w1(each, reached.value) for each in batches])._asdict()


def batches_of(
    family: str, mixture: GaussianMixture, beta: float, n: int, settings: Settings, generator: torch.Generator
) -> list[Draws]:
    """Return independent batches of n draws; particles interact, so every batch of theirs is a run.

    Args:
        family: a sampler, exact draws of p^β, or draws of p.
        mixture: the data.
        beta: β.
        n: draws per batch.
        settings: of the run.
        generator: source of randomness.
    """
    if family in (EXACT, IDLE):
        return [axis_of(mixture).draw(beta if family == EXACT else 1.0, n, generator) for _ in range(BATCHES)]
    grid = diffusion.edm(110 if settings.quick else 250, sigma_min=0.01, sigma_max=SIGMA_MAX).to(settings.device)
    score = diffusion.conditioned(mixture.score)
    if family == WEIGHTS:
        law = diffusion.LogLinear.temperature(score, 1 / beta)
        runs = [diffusion.sample_joint(law, (n, 1), grid, noise=2.0, generator=generator) for _ in range(BATCHES)]
        return [Draws(run.x, run.log_weights) for run in runs]
    field, options = RULES[family](score, beta)
    x = diffusion.sample(field, (n * BATCHES, 1), grid, generator=generator, **options).x
    return list(map(Draws, x.chunk(BATCHES)))


def densities(settings: Settings) -> Iterator[Row]:
    """Yield the densities at β = 2 on two modes: p, p² and the histograms of all samplers."""
    mixture, beta, bins = two_modes(), 2.0, torch.linspace(-4, 4, 61, dtype=torch.float64)
    axis = axis_of(mixture)
    curves = {"p": (axis.x, axis.masses(1.0)), "p²": (axis.x, axis.masses(beta))}
    for number, family in enumerate(SAMPLERS):
        generator = stream(settings.seed, 10_000 + number)
        batches = batches_of(family, mixture, beta, 1000 if settings.quick else 4000, settings, generator)
        curves[family] = torch.cat([each.x[:, 0] for each in batches]), torch.cat([each.weights for each in batches]) / BATCHES
    centres, width = (bins[1:] + bins[:-1]) / 2, float(bins[1] - bins[0])
    for family, (x, w) in curves.items():
        mass, _ = np.histogram(x.cpu().numpy(), bins=bins.numpy(), weights=w.cpu().numpy())
        case = {"law": MIXTURE, "family": family, "quantity": "density", "beta": beta}
        yield from per_point(case, x=centres.tolist(), value=(mass / width).tolist())


def _variance(draws: Draws) -> float:
    x, weights = draws.x[:, 0], draws.weights
    mean = (weights * x).sum()
    return float((weights * (x - mean) ** 2).sum())
