"""Continuous autoregressive models with known joint tilts: linear-Gaussian ones, and a network on curves in the plane."""

import math
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

import diffusion
from analysis.experiments.base import stream
from analysis.toys import GaussianSequence
from analysis.toys.gaussian import Gaussian
from arguide import continuous
from arguide.continuous import Conditionals, LogLinear, Mixture, MixtureNetwork
from arguide.smc.samples import Chains
from arguide.training import Recipe, fit

POINTS, STEPS, AXIS = 4000, 300, torch.linspace(-3.5, 3.5, 281)
RECIPE = Recipe(STEPS, batch=256, rate=1e-2, dropout=0.3)


class LinearGaussian(NamedTuple):
    """The factors p(x_t | x_<t, y) of a Gaussian sequence, as `arguide.continuous.Conditionals`."""

    toy: GaussianSequence

    def __call__(self, x: Tensor, label: Any = None) -> Mixture:
        """Return the factors as mixtures of one Gaussian, [n, T, 1]."""
        mean, covariance = self.toy.law(label)
        factor = torch.linalg.cholesky(covariance)
        stds = factor.diagonal()
        innovations = torch.linalg.solve_triangular(factor / stds, (x - mean).mT, upper=False).mT
        means = x - innovations
        return Mixture(torch.zeros_like(means)[..., None], means[..., None], stds.log().expand_as(means)[..., None])


class Grid(NamedTuple):
    """The exact joint law of a model in the plane, by quadrature: cells [n, 2] and their masses [n]."""

    cells: Tensor
    masses: Tensor

    def expectation(self, values: Tensor) -> float:
        """Return the mean of a value of every cell, [n]."""
        return float(self.masses @ values)


def curves(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return n points on two arcs that overlap, with noise, [n, 2], and which arc each is on, [n]."""
    angles, labels = math.pi * torch.rand(n, generator=generator), torch.randint(2, (n,), generator=generator)
    side = 1 - 2.0 * labels
    centres = torch.stack([0.5 * -side, -0.25 * side], 1)
    arcs = centres + torch.stack([angles.cos(), side * angles.sin()], 1)
    return arcs + 0.4 * torch.randn((n, 2), generator=generator), labels


def trained(seed: int) -> MixtureNetwork:
    """Return a network of both coordinates, trained with conditioning dropout."""
    rows, labels = curves(POINTS, stream(seed, 0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MixtureNetwork(2, components=3, hidden=16)
    fit(network, rows, labels, network.none, partial(continuous.loss, network), RECIPE, generator=stream(seed, 1))
    return network.requires_grad_(False)


def guided(model: Conditionals, label: Any, scale: float) -> LogLinear:
    """Return p(x)^{1−γ} p(x|y)^γ of a continuous autoregressive model.

    Args:
        model: p(x_t | x_<t) and p(x_t | x_<t, y).
        label: y.
        scale: γ.
    """
    return LogLinear.guidance(partial(model, label=label), model, scale)


def on_grid(model: LogLinear) -> Grid:
    """Return the joint law of a model in the plane on a grid, which has the masses of its cells."""
    cells = torch.cartesian_prod(AXIS, AXIS)
    with torch.no_grad():
        return Grid(cells, model.log_density(cells).double().softmax(0))


def langevin(model: LogLinear, x: Tensor, step_size: float, steps: int, generator: torch.Generator) -> Chains:
    """Run MALA on the joint law of a continuous autoregressive model, by its gradient.

    Args:
        model: the combination of its conditionals.
        x: where the chains start, [n, T].
        step_size: h.
        steps: number of steps.
        generator: of all randomness.
    """
    return diffusion.mala(diffusion.langevin.target(model), x, step_size=step_size, steps=steps, generator=generator)


def draw(law: Gaussian, n: int, generator: torch.Generator) -> Tensor:
    """Return draws of a Gaussian, [n, T].

    Args:
        law: the Gaussian.
        n: number of draws.
        generator: of all randomness.
    """
    noise = torch.randn((n, len(law.mean)), generator=generator, dtype=torch.float64)
    return law.mean + noise @ torch.linalg.cholesky(law.covariance).mT
