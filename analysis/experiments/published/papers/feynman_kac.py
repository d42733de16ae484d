"""Skreta et al. (2025), Feynman–Kac correctors: weights that make guided, tempered and multiplied diffusion exact."""

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

import diffusion
from analysis.experiments.base import stream
from analysis.experiments.published.claims import Claim, arxiv
from analysis.metrics.confidence import Estimate, mean_of
from analysis.toys import GaussianMixture, guidance, temperature
from analysis.toys.law import Weights
from diffusion import LogLinear

MIXTURE = GaussianMixture(torch.tensor([[-1.0], [1.0]]), torch.ones(2), torch.tensor([0.5, 0.5]))
RIGHT, LEFT, WHOLE = (diffusion.conditioned(MIXTURE.score, label) for label in (1, 0, None))
RUNS, PARTICLES = 8, 2000
GRID = diffusion.geometric(300, 0.02, 50.0).double()
CASES: tuple[tuple[str, LogLinear, Weights], ...] = (
    ("proposition 3.1: guidance with β = 2 to one of two Gaussians", LogLinear.guidance(RIGHT, WHOLE, 2.0), guidance(1, 2.0)),
    ("proposition 3.2: annealing of two Gaussians with β = 2", LogLinear.temperature(WHOLE, 0.5), temperature(0.5)),
    ("proposition 3.3: product of N(1, 1) and N(−1, 1)", LogLinear((RIGHT, LEFT), (1.0, 1.0)), {1: 1.0, 0: 1.0}),
)

TABLE = "table A1: 40 Gaussians in the plane, annealed with β = 3"
PLAIN, WEIGHTED = "target score without weights", "target score with weights, resampled at every step"
BETA, FORTY_DRAWS, FORTY_RUNS, THEIR_RUNS = 3.0, 10_000, 3, 5
MEANS = (torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) - 0.5) * 80
FORTY = GaussianMixture(
    MEANS.double() / 50, torch.full((40,), (math.log1p(math.exp(2.0)) / 50) ** 2), torch.full((1, 40), 1 / 40)
)
FORTY_GRID = 0.01 * ((10.0 / 0.01) ** (2 * torch.linspace(1, 0, 1001, dtype=torch.float64)) - 1).sqrt()
STEP = diffusion.sde(1.0, solver=diffusion.euler, after=0.0)


def claims(seed: int) -> Iterator[Claim]:
    """Yield E[x²] of weighted draws, beside that of the law that each proposition names."""
    for number, (where, model, weights) in enumerate(CASES):
        target = float(MIXTURE.on_grid().log_joint(weights)[0].exp() @ MIXTURE.axes()[0].square())
        draw = partial(stream, seed, number + 1)
        runs = [diffusion.sample_joint(model, (PARTICLES, 1), GRID, generator=draw(run + 1)) for run in range(RUNS)]
        weighted = mean_of([float(run.log_weights.softmax(0) @ run.x[:, 0].square()) for run in runs])
        plain = diffusion.sample(model, (RUNS * PARTICLES, 1), GRID, step=diffusion.sde(1.0), generator=draw(RUNS + 1)).x
        yield Claim(
            where,
            "E[x²] of the target",
            target,
            weighted.value,
            float(plain.square().mean()),
            "no weights",
            std_error=weighted.std_error,
            freedom=weighted.freedom,
            note=f"{RUNS} runs of {PARTICLES:,} weighted draws in {len(GRID) - 1} steps; the target by quadrature.",
        )
    yield from _forty(seed)


def _forty(seed: int) -> Iterator[Claim]:
    """Yield the total variation of 40 annealed Gaussians, between histograms of draws and of exact draws."""
    model, shape = LogLinear.temperature(diffusion.conditioned(FORTY.score), 1 / BETA), (FORTY_DRAWS, 2)
    found: dict[str, list[float]] = {"exact draws": [], PLAIN: [], WEIGHTED: []}
    for run in range(FORTY_RUNS):
        generator = stream(seed, 9, run + 1)
        exact = _target_draws(generator)
        drawn = {
            "exact draws": _target_draws(generator),
            PLAIN: diffusion.sample(model, shape, FORTY_GRID, step=STEP, generator=generator).x,
            WEIGHTED: diffusion.sample_joint(model, shape, FORTY_GRID, noise=1.0, threshold=1.0, generator=generator).x,
        }
        for name, x in drawn.items():
            found[name].append(_histogram_distance(exact, x))
    floor = mean_of(found["exact draws"]).value
    note = (
        f"{FORTY_RUNS} runs of {FORTY_DRAWS:,} draws in {len(FORTY_GRID) - 1:,} steps. Two exact samples are {floor:.3f} "
        "apart in these histograms. Their five runs share one exact sample, so their error here is the spread of the runs."
    )
    for name, other, text, spread in ((PLAIN, WEIGHTED, "0.487", 0.007), (WEIGHTED, PLAIN, "0.372", 0.020)):
        mine, control = mean_of(found[name]), mean_of(found[other])
        apart = mine.minus(Estimate(float(text), spread, THEIR_RUNS - 1))
        yield Claim(
            TABLE,
            f"total variation, {name}",
            text,
            mine.value,
            control.value,
            other,
            std_error=apart.std_error,
            note=note,
            freedom=apart.freedom,
        )


def _histogram_distance(exact: Tensor, x: Tensor) -> float:
    """Return the total variation between two histograms of 200 × 200 cells, which span the exact draws."""
    edges = [np.histogram_bin_edges(axis.numpy(), 200) for axis in exact.T]
    first, second = (np.histogramdd(draws.numpy(), edges)[0] / len(draws) for draws in (exact, x))
    return float(np.abs(first - second).sum() / 2)


def _target_draws(generator: torch.Generator) -> Tensor:
    """Draw from q^β of the 40 Gaussians: a cell of a fine grid, and a point in it."""
    axes = FORTY.axes(1201, 4.0)
    law = FORTY.on_grid(axes).log_joint(temperature(1 / BETA))[0].exp().flatten()
    cells = torch.multinomial(law, FORTY_DRAWS, replacement=True, generator=generator)
    width = torch.stack([axis[1] - axis[0] for axis in axes])
    jitter = torch.rand(FORTY_DRAWS, 2, generator=generator, dtype=torch.float64) - 0.5
    return torch.cartesian_prod(*axes)[cells] + jitter * width


SOURCE = arxiv("2503.02819", "Skreta et al., Feynman–Kac correctors in diffusion (2025)", claims)
