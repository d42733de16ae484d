r"""The aside: Langevin dynamics on the guided joint law of a continuous autoregressive model.

The factors of the model give log p(x|y) and log p(x), so Σ_k w_k log p_k(x) and its gradient are known, and MALA draws from
the joint tilt. The exact law is a Gaussian sequence, whose joint, sequential and diffused laws are Gaussians. The learned model
is a network of two coordinates, whose joint tilt is found by quadrature.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from analysis.experiments.base import Experiment, Settings, stream
from analysis.experiments.continuous import models
from analysis.figures.continuous import langevin as figures
from analysis.frames import Plot, Row, Track, Verdict, per_point, pick, tidy
from analysis.metrics.confidence import Difference, Estimate, mean_of, of_row
from analysis.toys import GaussianSequence
from analysis.toys.gaussian import diffused
from analysis.typeset import signed
from arguide import continuous

LENGTH, LABEL, SCALE = 8, 1.0, 3.0
EXACT, LEARNED = figures.EXACT, figures.LEARNED
JOINT, MALA, WEIGHTED, SEQUENTIAL, ODE = figures.FAMILIES
SHOWN = 1000  # draws in the figure
SMALLEST = 0.1  # the smallest difference of interest of a mean, where the laws' standard deviations are near 0.8


class Effort(NamedTuple):
    """Size of a run: chains and steps on the exact law, and on the learned model; particles of a run."""

    chains: int
    steps: int
    learned_chains: int
    learned_steps: int
    particles: int


FULL, QUICK = Effort(4000, 150, 2000, 200, 4000), Effort(1000, 100, 300, 100, 1000)


def run(settings: Settings, track: Track) -> pd.DataFrame:
    """Return means of every coordinate by family on both models, and draws and the density of the learned one."""
    effort = QUICK if settings.quick else FULL
    parts = (_exact, _learned)
    return tidy(row for part in track(parts) for row in part(effort, settings.seed))


def verdict(frame: pd.DataFrame) -> Verdict:
    """Return the mean of the first coordinate of both models against the joint tilt's, by Langevin and by guided factors."""
    gaps = {law: {family: _gap(frame, law, family) for family in (MALA, SEQUENTIAL)} for law in (EXACT, LEARNED)}
    weighted, ode = _gap(frame, LEARNED, WEIGHTED), _gap(frame, EXACT, ODE)
    reached = [law for law, gap in gaps.items() if gap[MALA].small]
    away = [law for law, gap in gaps.items() if gap[SEQUENTIAL].clear and not gap[SEQUENTIAL].small]
    right = len(reached) == len(away) == len(gaps)
    return Verdict(
        "mean of x_1 − the joint tilt’s, γ = 3, draws by Langevin dynamics and by guided factors",
        "; ".join(f"{law}: {gap[MALA].text} and {gap[SEQUENTIAL].text}" for law, gap in gaps.items()),
        f"Langevin dynamics {'draws' if right else 'is not shown to draw'} from the joint law of a continuous autoregressive "
        f"model, which guided factors {'miss' if away else 'are not shown to miss'}.\n"
        f"Weights in place of gradients come to {weighted.text} on the learned model.\n"
        f"“Equivalent to diffusion guidance” it is {'not' if ode.clear else 'here'}: on the exact law the guided ODE’s mean is "
        f"{signed(ode.mean)} from the joint tilt’s.",
    )


def _gap(frame: pd.DataFrame, law: str, family: str) -> Difference:
    """Return the mean of x_1 of a family minus that of the exact joint tilt."""
    means = pick(frame, law=law, quantity="mean", position=1)
    found, exact = (of_row(pick(means, family=name).iloc[0]) for name in (family, JOINT))
    return Difference(found.value - exact.value, found.half, SMALLEST)


def _means(case: Row, x: Tensor) -> Iterator[Row]:
    """Yield the mean of every coordinate of independent draws, [n, T]."""
    yield from _rows(case, [mean_of(column) for column in x.T])


def _rows(case: Row, estimates: list[Estimate]) -> Iterator[Row]:
    for position, each in enumerate(estimates, 1):
        yield case | {"quantity": "mean", "scale": SCALE, "position": position} | each._asdict()


def _known(values: list[float]) -> list[Estimate]:
    return [Estimate(value, 0.0, math.inf) for value in values]


def _exact(effort: Effort, seed: int) -> Iterator[Row]:
    """Yield the means on a Gaussian sequence."""
    toy, case = GaussianSequence(LENGTH), {"law": EXACT}
    model = models.guided(models.LinearGaussian(toy), LABEL, SCALE)
    ode = diffused((toy.uncond, toy.law(LABEL)), (1 - SCALE, SCALE), 0.0)
    laws = {JOINT: toy.joint_guided(LABEL, SCALE).law, SEQUENTIAL: toy.sequential_guided(LABEL, SCALE).law, ODE: ode}
    for family, law in laws.items():
        yield from _rows(case | {"family": family}, _known(law.mean.tolist()))
    start = models.draw(toy.law(LABEL), effort.chains, stream(seed, 50))
    yield from _means(case | {"family": MALA}, models.langevin(model, start, 0.12, effort.steps, stream(seed, 51)).x)


def _learned(effort: Effort, seed: int) -> Iterator[Row]:
    """Yield the means on the learned model, its draws, and the density of its joint tilt."""
    network, like, case = models.trained(seed), torch.zeros(1), {"law": LEARNED}
    model, grid = models.guided(network, 0, SCALE), models.on_grid(models.guided(network, 0, SCALE))
    yield from _rows(case | {"family": JOINT}, _known([grid.expectation(axis.double()) for axis in grid.cells.T]))
    start = continuous.sample(partial(network, label=0), effort.learned_chains, 2, like=like, generator=stream(seed, 52)).x
    chains = models.langevin(model, start, 0.08, effort.learned_steps, stream(seed, 53)).x
    factors = continuous.sample(model, effort.particles, 2, like=like, generator=stream(seed, 54)).x
    for family, x in ((MALA, chains), (SEQUENTIAL, factors)):
        yield from _means(case | {"family": family}, x)
        yield from per_point(
            case | {"family": family, "quantity": "draw", "scale": SCALE}, x=x[:SHOWN, 0].tolist(), x_2=x[:SHOWN, 1].tolist()
        )
    runs, _ = continuous.repeat_joint(model, effort.particles, 2, like=like, generator=stream(seed, 55))
    means = torch.stack([run.log_weights.softmax(0) @ run.x for run in runs])
    yield from _rows(case | {"family": WEIGHTED}, [mean_of(column) for column in means.T])
    every = torch.arange(len(grid.masses)).reshape(len(models.AXIS), -1)[::4, ::4].flatten()
    peak = grid.masses.max()
    yield from per_point(
        case | {"family": JOINT, "quantity": "density", "scale": SCALE},
        x=grid.cells[every, 0].tolist(),
        x_2=grid.cells[every, 1].tolist(),
        value=(grid.masses[every] / peak).tolist(),
    )


EXPERIMENT = Experiment(
    name="langevin",
    title="Langevin dynamics on a continuous autoregressive model",
    claim="“if you have an autoregressive model where the underlying data can be treated as continuous […] you can actually "
    "get gradients w.r.t. the input. […] so you could in theory apply classifier or classifier-free guidance to the joint "
    "distribution, in a way that’s equivalent to diffusion guidance!”",
    run=run,
    verdict=verdict,
    source="exact factors of a Gaussian sequence, T = 8, and a network of Gaussian mixtures trained on two arcs, T = 2",
    plots=(
        Plot(
            "langevin",
            (figures.means, figures.draws(MALA), figures.draws(SEQUENTIAL)),
            "γ = 3. Left: means along a Gaussian sequence; lines are exact laws, points Langevin dynamics with 95 % confidence "
            "intervals. Middle and right: draws of the learned model by Langevin dynamics and by guided factors, over its "
            "joint tilt at 3, 20, 50 and 80 % of its peak, by quadrature.",
        ),
    ),
)
