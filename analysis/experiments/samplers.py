r"""Draws of one toy's guided law by every sampler, in independent batches.

Points lie on lattices of spacing 1 (`Table.mixture`). Their noise grid ends at σ = 0.15, where the noised points no longer
overlap, and is finest there. Below, scores change over ever smaller distances, and one last step to 0 ruins the weights.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

import arguide
import diffusion
from analysis.toys import GaussianMixture, GaussianPair, Table
from analysis.toys.gaussian import Gaussian
from arguide.smc.draws import Draw
from diffusion import masked, uniform
from diffusion.langevin import Target
from diffusion.sampling import Step

LABEL = 1
Toy = GaussianMixture | GaussianPair


class Case(NamedTuple):
    """A toy in R^T, the scale γ of its label 1, and the number and size of batches."""

    toy: Toy
    scale: float
    length: int
    samples: int
    batches: int
    generator: torch.Generator

    @property
    def total(self) -> int:
        """The number of draws in all batches."""
        return self.samples * self.batches

    @property
    def shape(self) -> tuple[int, int]:
        """[n, T]."""
        return self.samples, self.length


class Draws(NamedTuple):
    """A batch: x [n, T], or tokens, and log-weights [n]; None for equal weights."""

    x: Tensor
    log_weights: Tensor | None = None

    @property
    def weights(self) -> Tensor:
        """Weights with sum 1, [n]."""
        n = len(self.x)
        return torch.full((n,), 1 / n, dtype=torch.float64) if self.log_weights is None else self.log_weights.exp()


def guided(toy: Toy, scale: float) -> diffusion.LogLinear:
    """Return the guided score of label 1 of a toy."""
    return _guidance(toy.score, scale)


def _guidance(model: Any, scale: float) -> diffusion.LogLinear:
    return diffusion.LogLinear.guidance(diffusion.conditioned(model, LABEL), diffusion.conditioned(model), scale)


def sequential(table: Table, scale: float) -> arguide.LogLinear:
    """Return the sequentially guided table."""
    return arguide.LogLinear.guidance(table.autoregressive(LABEL), table.autoregressive(), scale)


def unweighted(case: Case, table: Table) -> Iterator[Draws]:
    """Draw by sequential guidance of the autoregressive wing."""
    sample = arguide.sample(sequential(table, case.scale), case.total, case.length, generator=case.generator)
    return _chunks(sample.tokens, case)


def weighted(case: Case, table: Table) -> Iterator[Draws]:
    """Draw by sequential guidance of the autoregressive wing, weighted by Z_t."""
    for _ in range(case.batches):
        sample = arguide.sample_joint(sequential(table, case.scale), *case.shape, generator=case.generator)
        yield Draws(sample.tokens, sample.log_weights)


def unmasked(case: Case, table: Table, rule: masked.Rule) -> Iterator[Draws]:
    """Draw by guided masked diffusion with weighted jumps.

    Args:
        case: the toy, the scale and the numbers of samples and batches.
        table: the toy.
        rule: the law of the next jump, see `diffusion.masked`.
    """
    model = _guidance(table.denoise_masked, case.scale)
    for _ in range(case.batches):
        sample = masked.sample_joint(model, *case.shape, rule=rule, generator=case.generator)
        yield Draws(sample.x, sample.log_weights)


def renoised(case: Case, table: Table, times: Tensor) -> Iterator[Draws]:
    """Draw by guided diffusion of tokens under uniform noise with weighted steps.

    Args:
        case: the toy, the scale and the numbers of samples and batches.
        table: the toy.
        times: a grid that falls to 0.
    """
    model = _guidance(table.denoise_uniform, case.scale)
    for _ in range(case.batches):
        sample = uniform.sample_joint(model, case.samples, table.shape, times, generator=case.generator)
        yield Draws(sample.x, sample.log_weights)


def diffused(case: Case, sigmas: Tensor, step: Step) -> Iterator[Draws]:
    """Draw by guided diffusion without correction.

    Args:
        case: the toy, the scale and the numbers of samples and batches.
        sigmas: a grid of noise levels.
        step: the step of the sampler.
    """
    score = guided(case.toy, case.scale)
    shape = (case.total, case.length)
    drawn = diffusion.sample(score, shape, sigmas, step=step, generator=case.generator, ends_at_zero=False)
    return _chunks(drawn.x, case)


def corrected(case: Case, sigmas: Tensor) -> Iterator[Draws]:
    """Draw by guided diffusion with the Feynman–Kac correction."""
    for _ in range(case.batches):
        sample = diffusion.sample_joint(
            guided(case.toy, case.scale), case.shape, sigmas, generator=case.generator, ends_at_zero=False
        )
        yield Draws(sample.x, sample.log_weights)


def annealed(case: Case, levels: int) -> Iterator[Draws]:
    """Draw points by MALA on Π_k p_{σ,k}^{w_k}; σ falls to 0.25, where cells barely overlap and chains cross no longer."""
    sigmas = diffusion.geometric(levels, 0.25, 1.0)
    first = 2 * _normal(case)
    chains = diffusion.annealed_mala(_target(case), first, sigmas, steps=20, ratio=1.0, generator=case.generator)
    return _chunks(chains.x, case)


def langevin(case: Case, steps: int) -> Iterator[Draws]:
    """Draw by MALA from the joint density, σ = 0."""
    target = _target(case)(torch.zeros(()))
    chains = diffusion.mala(target, _normal(case), step_size=0.1, steps=steps, generator=case.generator)
    return _chunks(chains.x, case)


def _target(case: Case) -> Callable[[Tensor], Target]:
    """Return σ ↦ x ↦ (log of Π_k p_{σ,k}^{w_k}, its score)."""
    score = guided(case.toy, case.scale)

    def at(sigma: Tensor) -> Target:
        def target(x: Tensor) -> tuple[Tensor, Tensor]:
            log_c, log_u = case.toy.log_density(x, sigma, LABEL), case.toy.log_density(x, sigma)
            return case.scale * log_c + (1 - case.scale) * log_u, score(x, sigma)

        return target

    return at


def exact_points(case: Case, log_p: Tensor) -> Iterator[Draws]:
    """Draw points from the law log p of a table, [V_1, …, V_T]."""
    assert isinstance(case.toy, GaussianMixture)
    cells = torch.multinomial(log_p.flatten().exp(), case.total, replacement=True, generator=case.generator)
    return _chunks(case.toy.means[cells], case)


def exact_gaussian(case: Case, law: Gaussian) -> Iterator[Draws]:
    """Draw from a Gaussian."""
    return _chunks(law.mean + _normal(case) @ torch.linalg.cholesky(law.covariance).mT, case)


def antithetic(generator: torch.Generator) -> Draw:
    """Return a source of pairs (ξ, −ξ). At large σ the process is linear, so the noise of a mean cancels within a pair."""

    def draw(like: Tensor) -> Tensor:
        half = torch.randn((len(like) // 2, *like.shape[1:]), generator=generator, dtype=like.dtype, device=like.device)
        return torch.cat([half, -half])

    return draw


def _normal(case: Case) -> Tensor:
    """Draw standard normals for all batches, [n · batches, T]."""
    return torch.randn((case.total, case.length), generator=case.generator, dtype=torch.float64)


def _chunks(x: Tensor, case: Case) -> Iterator[Draws]:
    return (Draws(batch) for batch in x.chunk(case.batches))


def points_grid(steps: int, *, to_zero: bool = False) -> Tensor:
    """Return the noise grid for points, which ends where every x is near one of them, or with one more step to 0."""
    return diffusion.edm(steps, 0.15, 20.0, rho=-2.0)[: None if to_zero else -1]


def cells(toy: Toy, x: Tensor) -> Tensor:
    """Return the flat index of every token sequence, or of the point nearest to every x, [n]."""
    assert isinstance(toy, GaussianMixture)
    if x.is_floating_point():
        return toy.nearest(x)
    size = round(len(toy.means) ** (1 / x.shape[1]))
    return x @ size ** torch.arange(x.shape[1] - 1, -1, -1)
