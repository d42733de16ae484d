r"""Classifier guidance: correct with a classifier of noised data, wrong with a classifier of clean data.

On ½N(μ, 1) + ½N(−μ, 1) the exact classifier log p(y | x_σ) makes ∇log p_σ(x) + γ ∇log p(y|x_σ) the classifier-free score.
The classifier of clean data, log p(y | x_0) evaluated at x_σ, is steep where the noised one is flat.
"""

from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor

import diffusion
from analysis.experiments.base import Experiment, Settings
from analysis.figures import classifier as figures
from analysis.frames import Plot, Row, Track, Verdict, pick, tidy
from analysis.metrics.confidence import mean_of
from analysis.metrics.trends import EQUAL
from analysis.toys import GaussianMixture
from analysis.toys.example_tables import two_classes
from diffusion.models import Field

LABEL, SCALES, BATCHES = 0, (0.0, 1.0, 2.0, 4.0), 4
FREE, AWARE, BLIND = "classifier-free", "noise-aware classifier", "classifier of clean data"


def fields(mixture: GaussianMixture, scale: float) -> dict[str, Field]:
    """Return the three guided scores of label 0."""

    def aware(x: Tensor, sigma: Tensor) -> Tensor:
        return mixture.log_class_probability(x, sigma)[:, LABEL]

    def blind(x: Tensor, _sigma: Tensor) -> Tensor:
        return mixture.log_class_probability(x, 0.0)[:, LABEL]

    cond, uncond = diffusion.conditioned(mixture.score, LABEL), diffusion.conditioned(mixture.score)
    return {
        FREE: diffusion.LogLinear.guidance(cond, uncond, scale),
        AWARE: diffusion.with_classifier(uncond, aware, scale),
        BLIND: diffusion.with_classifier(uncond, blind, scale),
    }


def run(settings: Settings, track: Track) -> pd.DataFrame:
    """Return mean and variance of ODE samples per score and scale, and the mean gradient of both classifiers per σ."""
    mixture, rows = two_classes(), list(_pull())
    # The gradient of the clean classifier does not fade with noise, so the ODE is stiff at large σ, and steps must be small.
    grid = diffusion.edm(100 if settings.quick else 200, sigma_min=0.01, sigma_max=10.0)
    shape = (BATCHES * (1500 if settings.quick else 4_000), 1)
    for scale in track(SCALES):
        for family, field in fields(mixture, scale).items():
            # All start from the same noise, so that they differ by the score only.
            x = diffusion.sample(field, shape, grid, generator=torch.Generator().manual_seed(settings.seed)).x
            case = {"law": "two classes", "family": family, "scale": scale}
            for quantity, moment in (("mean", torch.mean), ("variance", torch.var)):
                spread = mean_of([float(moment(batch)) for batch in x[:, 0].chunk(BATCHES)])
                rows.append(case | {"quantity": quantity} | spread._replace(value=float(moment(x[:, 0])))._asdict())
    return tidy(rows)


def verdict(frame: pd.DataFrame) -> Verdict:
    """Return the variances of samples under the two classifiers and under classifier-free guidance, at γ = 2."""
    at = pick(frame, quantity="variance", scale=2.0).set_index("family")["value"].to_dict()
    pull = pick(frame, quantity="pull").pivot(index="sigma", columns="family", values="value").loc[10.0].to_dict()
    same = abs(at[AWARE] - at[FREE])
    return Verdict(
        "variance of the samples at γ = 2, by three scores",
        f"{at[FREE]:.3f} classifier-free, {at[AWARE]:.3f} noise-aware, {at[BLIND]:.3f} clean",
        f"With the exact classifier of noised data, classifier guidance {'is' if same < EQUAL else 'is not'} classifier-free "
        f"guidance: the variances differ by {same:.0e}.\n"
        f"With the classifier of clean data the variance is {at[BLIND] / at[FREE]:.2f} times theirs. At σ = 10 its gradient is "
        f"{pull[BLIND]:.3f} on average, where the right one is {pull[AWARE]:.3f}.",
    )


def _pull() -> Iterator[Row]:
    """Yield E|∇log p(y | ·)| of both classifiers under the noised data, by quadrature, per σ."""
    mixture = two_classes()
    for sigma in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0):
        x = torch.linspace(-8, 8, 2001, dtype=torch.float64)[:, None] * (1 + sigma**2) ** 0.5
        mass, level = mixture.log_density(x, sigma).softmax(0), torch.tensor(sigma, dtype=torch.float64)
        base = mixture.score(x, level)
        for family in (AWARE, BLIND):
            gradient = (fields(mixture, 1.0)[family](x, level) - base)[:, 0].abs()
            case = {"law": "two classes", "family": family, "quantity": "pull", "sigma": sigma}
            yield case | {"value": float(mass @ gradient)}


EXPERIMENT = Experiment(
    name="classifier",
    title="A classifier that never saw noise",
    claim="“any classifier used for guidance also needs to be able to cope with high noise levels, so that it can provide a "
    "useful signal all the way through the sampling process.”",
    run=run,
    verdict=verdict,
    source="ODE on exact scores of two Gaussian classes on the line",
    plots=(
        Plot(
            "classifier",
            (figures.mean, figures.variance, figures.pull),
            "Two classes on the line, ODE. Left and middle: mean and variance of the samples against the scale; where two "
            "lines are equal, one hides the other. Right: mean size of the classifier's gradient under noised data. All start "
            "from N(0, 10²), which takes a tenth off the conditional mean of 1.",
        ),
    ),
)
