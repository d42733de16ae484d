"""The score of a Gaussian mixture in closed form, against `torch.distributions` and autograd."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, MultivariateNormal, Normal

from analysis import GaussianMixture
from benchmarks.timing import Case, Ratio

SIGMA = torch.tensor(0.5, dtype=torch.float64)


def cases() -> Iterator[Case]:
    """Yield isotropic and full covariances, small and large; n = 1000 points, one noise level a call."""
    for dim, components in ((2, 8), (32, 64)):
        yield _case("isotropic", dim, components)
    for dim, components in ((2, 8), (16, 32)):
        yield _case("full covariance", dim, components)


def mixture(kind: str, dim: int, components: int) -> tuple[GaussianMixture, Tensor]:
    """Return a mixture and the covariances it was made of, [M] or [M, d, d]."""
    generator = torch.Generator().manual_seed(0)
    means = 2 * torch.randn(components, dim, generator=generator, dtype=torch.float64)
    root = torch.randn(components, dim, dim, generator=generator, dtype=torch.float64) / math.sqrt(dim)
    covariances = root @ root.mT if kind == "full covariance" else 0.1 + root[:, 0, 0].square()
    return GaussianMixture(means, covariances, torch.full((components,), 1 / components)), covariances


def autograd_score(toy: GaussianMixture, covariances: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """Return ∇_x log p_σ(x) as one would without a closed form; arguments are not validated, which favours it."""
    if covariances.ndim == 1:
        spread = (covariances + sigma**2).sqrt()[:, None].expand_as(toy.means)
        parts: Distribution = Independent(Normal(toy.means, spread, validate_args=False), 1)
    else:
        noised = covariances + sigma**2 * torch.eye(toy.dim, dtype=torch.float64)
        parts = MultivariateNormal(toy.means, noised, validate_args=False)
    law: Any = MixtureSameFamily(Categorical(toy.weights.sum(0), validate_args=False), parts, validate_args=False)
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(law.log_prob(leaf).sum(), leaf)[0]


def _case(kind: str, dim: int, components: int) -> Case:
    toy, covariances = mixture(kind, dim, components)
    x = toy.sample(1000, SIGMA, generator=torch.Generator().manual_seed(1))

    def peer() -> Tensor:
        return autograd_score(toy, covariances, x, SIGMA)

    def ours() -> Tensor:
        return toy.score(x, SIGMA)

    torch.testing.assert_close(ours(), peer(), atol=1e-9, rtol=1e-9)
    return Case(
        f"mixture score, {kind}, d = {dim}, M = {components}",
        {"peer": peer, "arguide": ours},
        (Ratio("torch.distributions + autograd ÷ arguide", "peer", "arguide"),),
    )
