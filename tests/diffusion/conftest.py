"""Instruments shared by the tests of the diffusion wing.

On Gaussians a whole run of a sampler is an affine map of the normals that it draws, and the log-weights of a particle run
are a quadratic one. Both are read off by running the sampler once on chosen normals, one row a probe, through its `draw`
seam; the law of the result then follows exactly. No Monte Carlo, and no line of the sampler restated.
"""

import math
from typing import NamedTuple

import pytest
import torch

from analysis.toys.mixture import GaussianMixture
from diffusion import LogLinear, conditioned, heun, sample, sample_joint

torch.set_num_threads(1)


class Law(NamedTuple):
    mean: torch.Tensor
    covariance: torch.Tensor
    log_evidence: float = math.nan


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def replay(normals):
    """Return the draw whose k-th call gives normals[k]."""
    iterator = iter(normals)
    return lambda like: next(iterator).expand(like.shape)


def _guided(toy, scale, label=0, **options):
    return LogLinear.guidance(conditioned(toy.score, label), conditioned(toy.score), scale, **options)


def _count(run, sigmas):
    """Return how many normals a run draws: one before the first step, the same number at every step."""
    calls = []
    run(1, sigmas[:2], lambda like: calls.append(like) or torch.zeros_like(like))
    return 1 + (len(calls) - 1) * (len(sigmas) - 1)


def _sampled_law(score, sigmas, *, step=heun, dim=1, total_weight=1.0):
    def run(n, sigmas, draw):
        return sample(score, (n, dim), sigmas, step=step, draw=draw, total_weight=total_weight, ends_at_zero=False)

    draws = _count(run, sigmas)
    probes = torch.cat([torch.zeros(1, draws * dim, dtype=torch.float64), torch.eye(draws * dim, dtype=torch.float64)])
    normals = probes.reshape(-1, draws, dim).unbind(1)
    x = run(len(probes), sigmas, replay(normals)).x
    slopes = x[1:] - x[0]
    return Law(x[0], slopes.mT @ slopes)


def _weighted_law(model, sigmas, **options):
    """Return the law and log evidence that `sample_joint` without resampling tends to for infinitely many particles."""

    def run(n, sigmas, draw):
        return sample_joint(model, (n, 1), sigmas, threshold=0, draw=draw, ends_at_zero=False, **options)

    draws = _count(run, sigmas)
    eye = torch.eye(draws, dtype=torch.float64)
    i, j = torch.tril_indices(draws, draws)
    probes = torch.cat([torch.zeros(1, draws, dtype=torch.float64), eye, eye[i] + eye[j]])
    result = run(len(probes), sigmas, replay(probes[:, :, None].unbind(1)))
    log_weights = result.log_weights + math.log(len(probes)) + result.log_evidence

    constant, ends, sums = log_weights[0], log_weights[1 : draws + 1], log_weights[draws + 1 :]
    quadratic = torch.zeros(draws, draws, dtype=torch.float64)
    quadratic[i, j] = sums - ends[i] - ends[j] + constant
    quadratic = torch.tril(quadratic) + torch.tril(quadratic, -1).mT
    linear = ends - constant - quadratic.diagonal() / 2
    covariance = torch.linalg.inv(eye - quadratic)
    log_evidence = constant + linear @ covariance @ linear / 2 + torch.logdet(covariance) / 2

    slope = result.x[1 : draws + 1, 0] - result.x[0, 0]
    mean = result.x[0, 0] + slope @ covariance @ linear
    return Law(mean[None], (slope @ covariance @ slope)[None, None], float(log_evidence))


@pytest.fixture
def guided():
    """(toy, scale, label=0) ↦ the guided score of a toy."""
    return _guided


@pytest.fixture
def sampled_law():
    """(score, sigmas, step=, …) ↦ the exact law of `sample` on an affine score."""
    return _sampled_law


@pytest.fixture
def weighted_law():
    """(model, sigmas, …) ↦ the exact weighted law of `sample_joint` on affine scores in one dimension."""
    return _weighted_law


@pytest.fixture
def skewed():
    """A one-dimensional mixture of two labels, skewed, its components shared unequally."""
    return GaussianMixture(
        tensor([[-1.3], [0.4], [2.1]]), tensor([0.3, 0.8, 1.1]), tensor([[0.05, 0.2, 0.15], [0.3, 0.25, 0.05]])
    )


@pytest.fixture
def plane():
    """A two-dimensional mixture with full covariances, three components under two labels."""
    means = tensor([[1.0, 0.5], [-1.2, 0.3], [0.2, -1.5]])
    covariances = tensor([[[0.6, 0.3], [0.3, 0.5]], [[0.9, -0.2], [-0.2, 0.4]], [[0.5, 0.1], [0.1, 1.1]]])
    return GaussianMixture(means, covariances, tensor([[0.25, 0.05, 0.1], [0.1, 0.3, 0.2]]))


@pytest.fixture
def order():
    """(errors of runs, each with twice the steps of the one before) ↦ the measured order."""
    return lambda errors: math.log2(errors[0] / errors[-1]) / (len(errors) - 1)
