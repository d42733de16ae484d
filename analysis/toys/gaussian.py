r"""Gaussians, for which every law of the argument, in both wings, is Gaussian again.

* joint tilt Π_k N(μ_k, Σ_k)^{w_k}: precision P = Σ_k w_k Σ_k^{−1}, mean P^{−1} Σ_k w_k Σ_k^{−1} μ_k;
* sequential (autoregressive) tilt: every conditional N(·; m_k(x_<t), v_k) is tilted on its own;
* guided diffusion of stochasticity λ (0 for the ODE, 1 for the reverse SDE): its first two moments follow linear equations,
  with P(τ) = Σ_k w_k (Σ_k + τI)^{−1}, h(τ) = Σ_k w_k (Σ_k + τI)^{−1} μ_k, τ = σ² and u = −τ,
  dm = ½(1+λ²)(h − Pm) du,  dC = (−½(1+λ²)(PC + CP) + λ²I) du.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from analysis.toys import checks
from analysis.toys.law import Label, guidance

IMPROPER = "improper tilt: the combined precision is not positive definite, so the density has infinite mass"


class Gaussian(NamedTuple):
    """N(mean [d], covariance [d, d])."""

    mean: Tensor
    covariance: Tensor

    def log_density(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """Return log N(x; μ, Σ + σ²I), [n, d] ↦ [n], as a product of autoregressive conditionals (by Cholesky)."""
        checks.points("x", x, len(self.mean))
        factor = torch.linalg.cholesky(self._noised(sigma))
        whitened = torch.linalg.solve_triangular(factor, (x - self.mean).mT, upper=False)
        log_volume = factor.diagonal().log().sum() + len(self.mean) * math.log(2 * math.pi) / 2
        return -whitened.square().sum(0) / 2 - log_volume

    def score(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """Return −(Σ + σ²I)^{−1}(x − μ), [n, d]."""
        checks.points("x", x, len(self.mean))
        return torch.linalg.solve(self._noised(sigma), (self.mean - x).mT).mT

    def _noised(self, sigma: Tensor | float) -> Tensor:
        checks.not_negative("sigma", sigma)
        return self.covariance + sigma**2 * torch.eye(len(self.mean), dtype=torch.float64)


class GaussianJoint(NamedTuple):
    """A joint tilt and log Z, []."""

    law: Gaussian
    log_normalizer: Tensor


class GaussianSequential(NamedTuple):
    """A sequential tilt and E[log Z_t] under it for t = 1 … T, [T]."""

    law: Gaussian
    log_normalizers: Tensor


def tilt(laws: Sequence[Gaussian], weights: Sequence[float]) -> GaussianJoint:
    """Return Π_k N(μ_k, Σ_k)^{w_k} / Z.

    Raises:
        ValueError: an improper tilt.
    """
    _check(laws, weights)
    precisions = [w * torch.linalg.inv(law.covariance) for w, law in zip(weights, laws, strict=True)]
    precision = torch.stack(precisions).sum(0)
    if torch.linalg.eigvalsh(precision)[0] <= 0:
        raise ValueError(IMPROPER)
    covariance = torch.linalg.inv(precision)
    mean = covariance @ torch.stack([inverse @ law.mean for inverse, law in zip(precisions, laws, strict=True)]).sum(0)
    law, at = Gaussian(mean, covariance), mean[None]
    log_p = torch.stack([w * each.log_density(at)[0] for w, each in zip(weights, laws, strict=True)]).sum(0)
    return GaussianJoint(law, log_p - law.log_density(at)[0])


def sequential_tilt(laws: Sequence[Gaussian], weights: Sequence[float]) -> GaussianSequential:
    """Return Π_t (Π_k p_k(x_t | x_<t)^{w_k}) / Z_t(x_<t), a Gaussian: x_t = c_t + a_t·x_<t + √v_t ξ.

    Raises:
        ValueError: an improper tilt at some t.
    """
    _check(laws, weights)
    dim, weight = len(laws[0].mean), torch.tensor(weights, dtype=torch.float64)
    regress, (shift, noise) = torch.zeros(dim, dim, dtype=torch.float64), torch.zeros(2, dim, dtype=torch.float64)
    rows = [_conditionals(laws, t) for t in range(dim)]
    for t, (slopes, intercepts, variances) in enumerate(rows):
        precision = (weight / variances).sum()
        if precision <= 0:
            raise ValueError(IMPROPER)
        share = weight / (variances * precision)
        regress[t, :t], shift[t], noise[t] = share @ slopes, share @ intercepts, 1 / precision
    unroll = torch.linalg.inv(torch.eye(dim, dtype=torch.float64) - regress)
    law = Gaussian(unroll @ shift, unroll @ torch.diag(noise) @ unroll.mT)
    return GaussianSequential(law, torch.stack([_mean_log_normalizer(law, row, weight) for row in rows]))


def diffused(laws: Sequence[Gaussian], weights: Sequence[float], noise: float) -> Gaussian:
    """Return the law in which guided diffusion ends, in the limit σ_max → ∞ and of small steps.

    The moment equations are integrated over log τ, from 10^7 times the widest variance to 10^−9 of the narrowest.

    Args:
        laws: N(μ_k, Σ_k), in d dimensions.
        weights: the w_k.
        noise: the stochasticity λ.

    Raises:
        ValueError: the sum W of the weights is so small that the law has no limit, (1 + λ²)·W ≤ 1 for λ > 0.
    """
    _check(laws, weights)
    checks.not_negative("noise", noise)
    drift, total, weight = (1 + noise**2) / 2, sum(weights), np.asarray(weights)[:, None]
    if noise and 2 * drift * total <= 1:
        raise ValueError(
            f"weights must sum to more than 1/(1 + λ²) = {0.5 / drift:.3g} for guided diffusion to have a limit, got {total:g}"
        )
    means, covariances = (np.stack([part.numpy() for part in parts]) for parts in zip(*laws, strict=True))
    eye, spectrum = np.eye(means.shape[1]), np.linalg.eigvalsh(covariances)
    high, low = math.log(spectrum.max() * 1e7), math.log(spectrum.min() * 1e-9)

    def slope(log_tau: float, moments: np.ndarray) -> np.ndarray:
        tau, (mean, *covariance) = math.exp(log_tau), moments.reshape(-1, len(eye))
        inverses = weight[..., None] * np.linalg.inv(covariances + tau * eye)
        precision, pull = inverses.sum(0), np.einsum("kij,kj->i", inverses, means)
        decay = drift * precision @ covariance
        return -tau * np.vstack([drift * (pull - precision @ mean), noise**2 * eye - decay - decay.T]).ravel()

    first = math.exp(high) * (noise**2 / (2 * drift * total - 1) if noise else 1.0)
    start = np.vstack([(weight * means).sum(0) / total, first * eye]).ravel()
    solved = solve_ivp(slope, (high, low), start, method="LSODA", rtol=1e-12, atol=1e-14)
    moments = torch.from_numpy(solved.y[:, -1].reshape(-1, len(eye)))
    return Gaussian(moments[0], moments[1:])


def w2(p: Gaussian, q: Gaussian) -> Tensor:
    """Return the 2-Wasserstein distance, √(‖μ_p − μ_q‖² + tr(Σ_p + Σ_q − 2(Σ_p^½ Σ_q Σ_p^½)^½)), []."""
    checks.alike("p's mean", p.mean, "q's", q.mean)
    values, axes = torch.linalg.eigh(p.covariance)
    root = axes @ torch.diag(values.clamp(min=0).sqrt()) @ axes.mT
    cross = torch.linalg.eigvalsh(root @ q.covariance @ root).clamp(min=0).sqrt().sum()
    squared = (p.mean - q.mean).square().sum() + p.covariance.trace() + q.covariance.trace() - 2 * cross
    return squared.clamp(min=0).sqrt()


def kl(p: Gaussian, q: Gaussian) -> Tensor:
    """Return KL(p ‖ q) in nats, []."""
    checks.alike("p's mean", p.mean, "q's", q.mean)
    inverse = torch.linalg.inv(q.covariance)
    gap = q.mean - p.mean
    log_ratio = torch.linalg.slogdet(q.covariance)[1] - torch.linalg.slogdet(p.covariance)[1]
    return ((inverse @ p.covariance).trace() + gap @ inverse @ gap - len(gap) + log_ratio) / 2


class GaussianPair:
    """A conditional and an unconditional Gaussian, p(x | any label) and p(x).

    Raises:
        ValueError: laws that are no Gaussians with a positive definite covariance, or not of one dimension.

    Example:
        >>> pair = analysis.GaussianPair.scalar(1.0, 1.0, 4.0)
        >>> pair.joint_guided(0, 3.0).law
        Gaussian(mean=tensor([1.2000], dtype=torch.float64), covariance=tensor([[0.4000]], dtype=torch.float64))
    """

    def __init__(self, cond: Gaussian, uncond: Gaussian) -> None:
        for name, law in (("cond", cond), ("uncond", uncond)):
            checks.gaussian(name, law)
        checks.alike("cond's mean", cond.mean, "uncond's", uncond.mean)
        self.cond, self.uncond = cond, uncond

    @classmethod
    def scalar(cls, mean: float, variance: float, variance_uncond: float) -> "GaussianPair":
        """Return N(m, a) against N(0, b) in one dimension.

        Args:
            mean: m.
            variance: a.
            variance_uncond: b.

        Raises:
            ValueError: a mean that is not finite, or a variance that is not positive and finite.
        """
        return cls(_scalar(mean, variance), _scalar(0.0, variance_uncond))

    def law(self, label: Label | float = None) -> Gaussian:
        """Return p(x | label), p(x) for None."""
        return self.uncond if label is None else self.cond

    def score(self, x: Tensor, sigma: Tensor | float, label: Label | float = None) -> Tensor:
        """Return ∇_x log p_σ(x | label), [n, d]; arguments as in `log_density`."""
        return self.law(label).score(x, sigma)

    def log_density(self, x: Tensor, sigma: Tensor | float = 0.0, label: Label | float = None) -> Tensor:
        """Return log p_σ(x | label), [n].

        Args:
            x: points, [n, d].
            sigma: standard deviation of the noise.
            label: y; None for p_σ(x).
        """
        return self.law(label).log_density(x, sigma)

    def joint_guided(self, label: Label | float, scale: float, *, temperature: float = 1.0) -> GaussianJoint:
        """Return p(x)^{(1−γ)/τ} p(x|y)^{γ/τ} / Z with log Z.

        Args:
            label: y.
            scale: γ.
            temperature: τ.

        Raises:
            ValueError: an improper tilt.
        """
        return tilt(*self._guided(label, scale, temperature))

    def sequential_guided(self, label: Label | float, scale: float, *, temperature: float = 1.0) -> GaussianSequential:
        """Return the law guided coordinate by coordinate, with E[log Z_t]; arguments as in `joint_guided`."""
        return sequential_tilt(*self._guided(label, scale, temperature))

    def _guided(self, label: Label | float, scale: float, temperature: float) -> tuple[list[Gaussian], list[float]]:
        return [self.law(None), self.law(label)], list(guidance(0, scale, temperature).values())


class GaussianSequence(GaussianPair):
    """x_t = y + AR(1) noise of unit variance and correlation ρ, y ~ N(0, 1), t = 1 … T; the label is the value of y.

    Example:
        >>> law = analysis.GaussianSequence(2).sequential_guided(1.0, 3.0).law
        >>> law.mean
        tensor([1.5000, 1.4686], dtype=torch.float64)
    """

    def __init__(self, length: int, correlation: float = 0.7) -> None:
        checks.integer("length", length)
        checks.number("correlation", correlation, "in (-1, 1)", lambda found: -1 < found < 1)
        time = torch.arange(length, dtype=torch.float64)
        covariance = correlation ** (time[:, None] - time).abs()
        zero = torch.zeros(length, dtype=torch.float64)
        super().__init__(Gaussian(zero, covariance), Gaussian(zero, covariance + 1))

    def law(self, label: Label | float = None) -> Gaussian:
        """Return p(x | y = label), p(x) for None."""
        if label is None:
            return self.uncond
        return Gaussian(self.cond.mean + checks.number("label", label), self.cond.covariance)


def _check(laws: Sequence[Gaussian], weights: Sequence[float]) -> None:
    fits = len(laws) == len(weights) > 0
    checks.require(fits, "weights", f"one per law, {len(laws)}, and at least one", list(weights))
    for law, weight in zip(laws, weights, strict=True):
        checks.number("weights", weight)
        checks.alike("laws' mean", law.mean, "the first law's", laws[0].mean)


def _scalar(mean: float, variance: float) -> Gaussian:
    checks.number("mean", mean), checks.positive("variance", variance)
    return Gaussian(torch.tensor([mean], dtype=torch.float64), torch.tensor([[variance]], dtype=torch.float64))


class _Conditionals(NamedTuple):
    """N(x_t; slope·x_<t + intercept, variance) of K laws: slopes [K, t], intercepts [K], variances [K]."""

    slopes: Tensor
    intercepts: Tensor
    variances: Tensor


def _conditionals(laws: Sequence[Gaussian], t: int) -> _Conditionals:
    """Return p_k(x_t | x_<t) of every law, with t counted from 0."""
    rows = []
    for mean, covariance in laws:
        slope = torch.linalg.solve(covariance[:t, :t], covariance[:t, t])
        rows.append((slope, mean[t] - slope @ mean[:t], covariance[t, t] - slope @ covariance[:t, t]))
    return _Conditionals(*(torch.stack(parts) for parts in zip(*rows, strict=True)))


def _mean_log_normalizer(law: Gaussian, conditionals: _Conditionals, weight: Tensor) -> Tensor:
    """Return E[log ∫ Π_k N(x_t; m_k(x_<t), v_k)^{w_k} dx_t] for x_<t ~ law, [].

    log Z_t = Σ_k w_k log N(0; 0, v_k) − log N(0; 0, 1/P) − ½ (Σ_k w_k m_k²/v_k − (Σ_k w_k m_k/v_k)²/P), P = Σ_k w_k/v_k.
    """
    slopes, intercepts, variances = conditionals
    t = slopes.shape[1]
    means = slopes @ law.mean[:t] + intercepts
    second = slopes @ law.covariance[:t, :t] @ slopes.mT + torch.outer(means, means)
    scaled = weight / variances
    quadratic = (torch.diag(scaled) - torch.outer(scaled, scaled) / scaled.sum()) * second
    constants = -(2 * math.pi * variances).log() / 2
    return weight @ constants + (2 * math.pi / scaled.sum()).log() / 2 - quadratic.sum() / 2
