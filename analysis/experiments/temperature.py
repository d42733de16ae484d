r"""Temperature, the exercise left to the reader: temperature of the factors, of the joint, and of a diffusion score.

Laws are exact on tables and Gaussian sequences. In diffusion, five samplers on exact scores are compared with p^β and with the
closed forms of their variance for data N(0, a): score × β gives σ_max²(a/(a+σ_max²))^β by the ODE and a/(2β−1) by the SDE;
noise × β^{−1/2} gives a/β.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import diffusion
from analysis.experiments.base import Experiment, Settings
from analysis.experiments.samplers import Draws
from analysis.figures import temperature as figures
from analysis.frames import Plot, Row, Track, Verdict, per_point, per_quantity, pick, tidy
from analysis.metrics import distances
from analysis.metrics.confidence import by_family, mean_of, nearest
from analysis.metrics.distances import wasserstein
from analysis.toys import GaussianMixture, GaussianSequence, gaussian, temperature
from analysis.toys.example_tables import coupled_table, independent_table, one_gaussian, two_modes
from diffusion.models import Field

TEMPERATURES = (0.3, 0.4, 0.5, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0, 3.0)
BETAS = (0.7, 1.0, 1.5, 2.0, 3.0)
VARIANCE, SIGMA_MAX, BATCHES = 1.0, 50.0, 3
GAUSSIAN, MIXTURE = "Gaussian", "two modes"


def run(settings: Settings, track: Track) -> pd.DataFrame:
    """Return the gap of sequential temperature on exact laws, and the variance and W1 of diffusion samplers."""
    lengths = (2, 3, 5) if settings.quick else (2, 3, 5, 7)
    rows = [row for length in lengths for tau in TEMPERATURES for row in _discrete(length, tau)]
    rows += [row for tau in TEMPERATURES for row in _gaussian(5, tau)]
    betas = (0.7, 2.0, 3.0) if settings.quick else BETAS
    cases = [(law, family, beta) for law in (GAUSSIAN, MIXTURE) for family in (*_RULES, WEIGHTS) for beta in betas]
    for number, (law, family, beta) in enumerate(track(cases)):
        rows += _diffusion(law, family, beta, settings, number)
    for family, closed_form in _CLOSED_FORMS.items():
        case = {"law": GAUSSIAN, "family": family, "quantity": "closed_form"}
        rows += per_point(case, beta=betas, value=map(closed_form, betas))
    return tidy(rows + list(_densities(settings)))


def verdict(frame: pd.DataFrame) -> Verdict:
    """Return the gap at τ = ½, and the variances of score × β with their closed forms."""
    exact = pick(frame, quantity="kl_sequential_joint", temperature=0.5, length=5)
    gap = pick(exact, law="coupled")["value"].iloc[0]
    none = exact[exact["law"].isin(["independent x_t", "Gaussian sequence"])]["value"].max()
    at = pick(frame, law=GAUSSIAN, quantity="variance", beta=2.0).set_index("family")["value"].to_dict()
    theory = pick(frame, quantity="closed_form", beta=2.0).set_index("family")["value"].to_dict()
    w1 = by_family(pick(frame, law=MIXTURE, quantity="w1", beta=2.0))
    floor = w1.pop("exact draws")
    first = min(w1.values(), key=lambda each: each.value)
    ode, sde = "score × β, ODE", "score × β, SDE"
    return Verdict(
        "KL(sequential ‖ joint) at τ = ½, T = 5",
        f"{gap:.3f} nats",
        f"Lowering every factor's temperature is not lowering the joint's. They agree (≤ {none:.0e}) under independence, and "
        f"for any Gaussian sequence though it is not independent.\nIn diffusion, score × 2 on N(0, 1), where p² has variance "
        f"½, gives {at[ode]:.2e} by the ODE (closed form {theory[ode]:.2e}, and it depends on σ_max) and {at[sde]:.3f} by the "
        f"SDE ({theory[sde]:.3f}); weights give {at['weights']:.3f}. On two modes, by W1 to p², {nearest(w1)}, at "
        f"{first}; the same number of exact draws measures {floor}.",
    )


def _discrete(length: int, tau: float) -> Iterator[Row]:
    for law, table in {"coupled": coupled_table(length), "independent x_t": independent_table(length)}.items():
        log_p, _ = table.log_joint(temperature(tau))
        log_q, _ = table.log_sequential(temperature(tau))
        case = {"law": law, "family": "exact", "temperature": tau, "length": length}
        entropies = {"entropy_joint": distances.entropy(log_p), "entropy_sequential": distances.entropy(log_q)}
        yield from per_quantity(case, {"kl_sequential_joint": distances.kl(log_q, log_p)} | entropies)


def _gaussian(length: int, tau: float) -> Iterator[Row]:
    law = GaussianSequence(length).law()
    joint, sequential = gaussian.tilt([law], [1 / tau]).law, gaussian.sequential_tilt([law], [1 / tau]).law
    case = {"law": "Gaussian sequence", "family": "exact", "temperature": tau, "length": length}
    yield case | {"quantity": "kl_sequential_joint", "value": abs(float(gaussian.kl(sequential, joint)))}


WEIGHTS = "weights"
# (score, β) ↦ the field that is sampled, and the options of the sampler.
_RULES: dict[str, Callable[[Field, float], tuple[Field, dict[str, Any]]]] = {
    "score × β, ODE": lambda score, beta: (diffusion.scaled(score, beta), {}),
    "score × β, SDE": lambda score, beta: (diffusion.scaled(score, beta), {"step": diffusion.sde(), "total_weight": beta}),
    "noise scale": lambda score, beta: (score, {"step": diffusion.sde(noise_scale=beta**-0.5), "total_weight": beta}),
    "Gaussian correction": lambda score, beta: (diffusion.gaussian_correction(score, beta, VARIANCE), {}),
}
# The variance for data N(0, a) in theory: of score × β, which is wrong, and of the target.
_CLOSED_FORMS: dict[str, Callable[[float], float]] = {
    "score × β, ODE": lambda beta: SIGMA_MAX**2 * (VARIANCE / (VARIANCE + SIGMA_MAX**2)) ** beta,
    "score × β, SDE": lambda beta: VARIANCE / (2 * beta - 1),
    "target 1/β": lambda beta: VARIANCE / beta,
}


def _diffusion(law: str, family: str, beta: float, settings: Settings, number: int) -> Iterator[Row]:
    """Yield variance and W1 to p^β of a sampler over independent batches, and of the same number of exact draws."""
    mixture = one_gaussian() if law == GAUSSIAN else two_modes()
    generator = torch.Generator(settings.device).manual_seed(settings.seed + number)
    n = 1500 if settings.quick else 6000
    axis, target = _target(mixture, beta)
    exact = axis[torch.multinomial(target, n * BATCHES, replacement=True, generator=generator)]
    measured = {family: _batches(family, mixture, beta, n, settings, generator)}
    if family == WEIGHTS:
        measured["exact draws"] = list(map(Draws, exact[:, None].chunk(BATCHES)))
    for name, batches in measured.items():
        case = {"law": law, "family": name, "beta": beta}
        yield case | {"quantity": "variance"} | mean_of([_variance(each.x[:, 0], each.weights) for each in batches])._asdict()
        w1 = mean_of([wasserstein(each.x[:, 0], axis, target.cumsum(0), each.weights) for each in batches])
        yield case | {"quantity": "w1"} | w1._asdict()


def _batches(
    family: str, mixture: GaussianMixture, beta: float, n: int, settings: Settings, generator: torch.Generator
) -> list[Draws]:
    """Return independent batches of n draws; particles interact, so every batch of theirs is a run."""
    grid = diffusion.edm(110 if settings.quick else 250, sigma_min=0.01, sigma_max=SIGMA_MAX).to(settings.device)
    score = diffusion.conditioned(mixture.score)
    if family == WEIGHTS:
        law = diffusion.LogLinear((score,), (beta,))
        runs = [diffusion.sample_joint(law, (n, 1), grid, noise=2.0, generator=generator) for _ in range(BATCHES)]
        return [Draws(run.x, run.log_weights) for run in runs]
    field, options = _RULES[family](score, beta)
    x = diffusion.sample(field, (n * BATCHES, 1), grid, generator=generator, **options).x
    return list(map(Draws, x.chunk(BATCHES)))


def _densities(settings: Settings) -> Iterator[Row]:
    """Yield the densities at β = 2 on two modes: p, p² and the histograms of all samplers."""
    mixture, beta, bins = two_modes(), 2.0, torch.linspace(-4, 4, 61, dtype=torch.float64)
    axis, target = _target(mixture, beta)
    curves = {"p": (axis, mixture.log_density(axis[:, None]).softmax(0)), "p²": (axis, target)}
    generator = torch.Generator(settings.device).manual_seed(settings.seed)
    for family in (*_RULES, WEIGHTS):
        batches = _batches(family, mixture, beta, 1500 if settings.quick else 8000, settings, generator)
        curves[family] = torch.cat([each.x[:, 0] for each in batches]), torch.cat([each.weights for each in batches]) / BATCHES
    centres, width = (bins[1:] + bins[:-1]) / 2, float(bins[1] - bins[0])
    for family, (x, w) in curves.items():
        mass, _ = np.histogram(x.cpu().numpy(), bins=bins.numpy(), weights=w.cpu().numpy())
        case = {"law": MIXTURE, "family": family, "quantity": "density", "beta": beta}
        yield from per_point(case, x=centres.tolist(), value=(mass / width).tolist())


def _target(mixture: GaussianMixture, beta: float) -> tuple[Tensor, Tensor]:
    """Return a fine axis and the masses of p^β on it."""
    axis = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    return axis, (beta * mixture.log_density(axis[:, None])).softmax(0)


def _variance(x: Tensor, weights: Tensor) -> float:
    mean = (weights * x).sum()
    return float((weights * (x - mean) ** 2).sum())


EXPERIMENT = Experiment(
    name="temperature",
    title="Temperature: the exercise left to the reader",
    claim="“changing the temperature of the sequential conditionals is not the same as changing the temperature of the joint "
    "distribution. Working this out is left as an excerise to the reader :)”; multiplying the score “invariably yields "
    "terrible results”.",
    run=run,
    verdict=verdict,
    source="exact laws of tables of three-valued tokens, T = 5; exact scores of N(0, 1) and of two modes",
    plots=(
        Plot(
            "temperature",
            (figures.gap, figures.gap_to_length, figures.entropies),
            "Left: the gap between the temperature of the factors and of the joint, which is zero at τ = 1. Middle: the gap on "
            "tables of several lengths. Right: the entropies of the two laws of the coupled table.",
        ),
        Plot(
            "temperature_diffusion",
            (figures.variance, figures.w1),
            "Diffusion on exact scores. Left: variance on N(0, 1), closed forms as dashed lines. Right: distance to p^β on "
            "two modes; black: the same number of exact draws, the best possible. Noise scale and Gaussian correction are made "
            "for Gaussians.",
        ),
        Plot(
            "temperature_densities",
            (figures.naive_density, figures.density),
            "Densities of the samples at β = 2 on two modes, beside the data's p and the target p². Left: the score times β. "
            "Right: the other rules; note the scale of the axis.",
        ),
    ),
)
