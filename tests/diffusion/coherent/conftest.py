"""A chain whose law on paths is exact: labels with Gaussian data N(m_k u, a I), one variance and one direction u.

Under label j a step adds Δ (m_j u − x)/(a + τ) and noise of variance v, so log p(path|k) − log p(path|j) is affine in one
Gaussian number G = Σ_i h_i ⟨u, ξ_i⟩ of variance H = Σ_i h_i², with h_i = Δ_i/((a + τ_i) √v_i). Everything that acceptance
estimates is an integral over G, here by the trapezoidal rule.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch

import diffusion

U = torch.tensor([0.6, -0.8], dtype=torch.float64)


class Exact(NamedTuple):
    acceptance: float
    log_evidence: float
    mean: float
    variance: float


class Chain:
    """The labels' means m_k along u, their prior, and the variance a of every label's data."""

    def __init__(self, means, prior, a=1.0):
        self.means, self.prior, self.a = means, np.array(prior), a

    def score(self, k):
        return lambda x, sigma: (self.means[k] * U - x) / (self.a + sigma**2)

    def mixture(self):
        return diffusion.Mixture([self.score(k) for k in range(len(self.means))], np.log(self.prior).tolist())

    def path(self, sigmas, j):
        """Return mean and variance of ⟨u, x⟩ at the last level above 0 under label j, its covariance with G, and H."""
        taus = (sigmas[sigmas > 0] ** 2).tolist()
        mean, variance, shared, total = 0.0, taus[0], 0.0, 0.0
        for tau, after in pairwise(taus):
            v, pull = after * (tau - after) / tau, (tau - after) / (self.a + tau)
            h = pull / math.sqrt(v)
            mean, variance = (1 - pull) * mean + pull * self.means[j], (1 - pull) ** 2 * variance + v
            shared, total = (1 - pull) * shared + math.sqrt(v) * h, total + h * h
        return mean, variance, shared, total, taus[-1]

    def sums(self, sigmas, label, j, power):
        """Return E[ρ^a], E[ρ^a x_0] and E[ρ^a x_0²] over the paths of label j, by plain sums over G."""
        mean, variance, shared, total, tau = self.path(sigmas, j)
        g = np.linspace(-9, 9, 4001) * math.sqrt(total)
        density = np.exp(-(g**2) / (2 * total))
        gaps = np.array(self.means) - self.means[j]
        log_joint = np.log(self.prior) + gaps * g[:, None] - gaps**2 * total / 2
        rho = np.exp(log_joint[:, label] - np.logaddexp.reduce(log_joint, axis=1))
        kept = self.a / (self.a + tau)  # of x in the denoised x_0 = D_j(x)
        at = kept * (mean + shared / total * g) + (1 - kept) * self.means[j]
        rest = kept**2 * (variance - shared**2 / total)
        weights = density / density.sum() * rho**power
        return np.array([weights.sum(), (weights * at).sum(), (weights * (at**2 + rest)).sum()])

    def accepted(self, sigmas, label, scale):
        """Return A, log Z, and the moments of ⟨u, x_0⟩ under the joint law on paths."""
        if scale >= 1:
            power, sums = scale - 1, self.sums(sigmas, label, label, scale - 1)
        else:
            power, every = scale, range(len(self.means))
            sums = sum(self.prior[j] * self.sums(sigmas, label, j, scale) for j in every)
        mean = sums[1] / sums[0]
        log_z = math.log(sums[0]) - power * math.log(self.prior[label])
        return Exact(sums[0], log_z, mean, sums[2] / sums[0] - mean**2)


@pytest.fixture
def chain():
    """Three skewed labels."""
    return Chain([0.9, -0.5, -1.6], [0.25, 0.45, 0.3], 0.8)


@pytest.fixture
def pair():
    """Two labels ½N(1, 1) + ½N(−1, 1)."""
    return Chain([1.0, -1.0], [0.5, 0.5])


@pytest.fixture
def grid():
    """A coarse grid, for which the law on paths is far from its limit."""
    return diffusion.geometric(7, 0.3, 12.0)


@pytest.fixture
def along():
    """X [n, 2] ↦ ⟨u, x⟩."""
    return lambda x: x @ U
