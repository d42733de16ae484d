r"""Two branching classes in the plane: learned and exact scores, draws by every kind of guidance, and their measures.

All families use the reverse kernels of `diffusion.coherent` on one grid, so that they differ by their scores alone.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

import diffusion
from analysis.experiments.base import stream
from analysis.frames import Row, per_point
from analysis.metrics.sample_quality import energy
from analysis.toys import GaussianMixture
from arguide.training import Recipe, fit
from diffusion import coherent, training
from diffusion.models import Field, Score
from diffusion.networks import Denoiser

LABEL = 0
DATA, TILT, NONE, PLAIN, COHERENT = "data", "exact joint tilt", "no guidance", "plain", "coherent"
PATHS, AUTO = "joint by acceptance", "autoguidance"
UNCOND, COND, SCORES = "exact p(x)", "exact p(x|y)", "exact scores"
OUTSIDE = 0.01


class Effort(NamedTuple):
    """Size of a run.

    seeds: number of trained pairs.
    samples: draws per family, scale and seed.
    levels: noise levels.
    steps: of the training.
    weaker: steps of the training of the smaller network.
    scales: γ.
    """

    seeds: int
    samples: int
    levels: int
    steps: int
    weaker: int
    scales: tuple[float, ...]


class Reference(NamedTuple):
    """Draws of a law, [m, 2], and the distances between them, [m, m]."""

    x: Tensor
    within: Tensor

    @classmethod
    def of(cls, x: Tensor) -> "Reference":
        """Return draws with their distances."""
        return cls(x, torch.cdist(x, x))


class Measure:
    """The measures of draws against the exact law of a label.

    Args:
        toy: two classes.
        generator: of the reference draws.
    """

    def __init__(self, toy: GaussianMixture, generator: torch.Generator) -> None:
        self.toy = toy
        reference = toy.sample(20_000, label=LABEL, generator=generator)
        self.least = toy.log_density(reference, label=LABEL).quantile(OUTSIDE)
        self.reference = Reference.of(reference[:1000])
        self.shares = self._shares(reference)

    def __call__(self, x: Tensor, tilt: Reference) -> dict[str, float]:
        """Return the measures of draws [n, 2], with draws of the exact joint tilt."""
        return {
            "outside": float(self.outside(x).double().mean()),
            "coverage": float(torch.minimum(self._shares(x), self.shares).sum()),
            "energy to class": energy(x, *self.reference),
            "energy to tilt": energy(x, *tilt),
            "accuracy": float(self.toy.log_class_probability(x)[:, LABEL].exp().mean()),
        }

    def _shares(self, x: Tensor) -> Tensor:
        """Return the share of draws that are nearest to every Gaussian, [M]."""
        return self.toy.nearest(x).bincount(minlength=len(self.toy.means)) / len(x)

    def outside(self, x: Tensor) -> Tensor:
        """Return which draws are below the 1 % quantile of log p(x|y), [n]."""
        return self.toy.log_density(x, label=LABEL) < self.least

    def points(self, case: Row, x: Tensor) -> Iterator[Row]:
        """Yield one row per draw: its coordinates `x` and `value`, and whether it is outside."""
        out = self.outside(x).double().tolist()
        return per_point(case | {"quantity": "point"}, x=x[:, 0].tolist(), value=x[:, 1].tolist(), out=out)


def trained(toy: GaussianMixture, effort: Effort, seed: int) -> tuple[Denoiser, Denoiser]:
    """Return a denoiser of both classes and of their mixture, and a smaller one with less training.

    Args:
        toy: two classes.
        effort: the numbers of steps.
        seed: of the data, the networks and their training.
    """
    generator = stream(seed, 1)
    x = torch.cat([toy.sample(5000, label=label, generator=generator) for label in (0, 1)]).float()
    labels = torch.arange(2).repeat_interleave(5000)
    found = []
    for width, depth, steps in ((64, 2, effort.steps), (32, 1, effort.weaker)):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = Denoiser([2], 2, sigma_data=float(x.std()), width=width, depth=depth)

        def loss(rows: Tensor, given: Tensor, generator: torch.Generator, model: Denoiser = model) -> Tensor:
            return training.denoising_loss(model, rows, given, generator)

        fit(model, x, labels, 2, loss, Recipe(steps, batch=256, rate=5e-3, average=0.99), generator=generator)
        found.append(model)
    return found[0], found[1]


def exact_score(toy: GaussianMixture) -> Score:
    """Return the exact score in the precision of the samples."""

    def score(x: Tensor, sigma: Tensor, label: Any = None) -> Tensor:
        return toy.score(x.double(), sigma.double(), label).to(x)

    return score


def families(
    toy: GaussianMixture, pair: tuple[Denoiser, Denoiser], scale: float, n: int, sigmas: Tensor, generator: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    """Yield n draws of every family at one scale.

    Args:
        toy: two classes.
        pair: the denoiser and the weaker one.
        scale: γ.
        n: number of draws.
        sigmas: a noise grid that falls to 0.
        generator: of all random numbers.
    """
    own, weak = (diffusion.from_denoiser(each) for each in pair)
    exact, bound = exact_score(toy), diffusion.conditioned
    branches: dict[str, tuple[Field, Field]] = {
        PLAIN: (bound(own, LABEL), bound(own)),
        AUTO: (bound(own, LABEL), bound(weak, LABEL)),
        UNCOND: (bound(own, LABEL), bound(exact)),
        COND: (bound(exact, LABEL), bound(own)),
        SCORES: (bound(exact, LABEL), bound(exact)),
    }
    yield DATA, toy.sample(n, label=LABEL, generator=generator)
    yield TILT, tilted(toy, scale, n, generator)
    shape, mixture = (n, 2), diffusion.Mixture.of(own, [0, 1], toy.weights.sum(1).log())
    fields: dict[str, Field] = {NONE: bound(own, LABEL)}
    fields |= {family: diffusion.LogLinear.guidance(*each, scale) for family, each in branches.items()}
    for family, field in fields.items():
        yield family, diffusion.sample(field, shape, sigmas, step=coherent.ancestral, generator=generator).x
    yield COHERENT, coherent.sample(mixture.guidance(LABEL, scale), shape, sigmas, generator=generator).x
    accepted = diffusion.sample_accepted(mixture, LABEL, scale, shape, sigmas, generator=generator, tolerance=math.inf)
    yield PATHS, accepted.x


def tilted(toy: GaussianMixture, scale: float, n: int, generator: torch.Generator) -> Tensor:
    """Draw from the exact joint tilt, [n, 2], by acceptance of exact draws with p(y|x)^{γ−1}, γ ≥ 1.

    Args:
        toy: two classes.
        scale: γ.
        n: number of draws.
        generator: of all random numbers.
    """
    found = torch.empty((0, 2), dtype=torch.float64)
    while len(found) < n:
        x = toy.sample(n, label=LABEL, generator=generator)
        weight = ((scale - 1) * toy.log_class_probability(x)[:, LABEL]).exp()
        found = torch.cat([found, x[torch.rand(n, generator=generator, dtype=torch.float64) < weight]])
    return found[:n]
