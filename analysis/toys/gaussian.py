r"""Gaussians, where every law of the argument, in both wings, is a Gaussian again.

* joint tilt Π_k N(μ_k, Σ_k)^{w_k}: precision P = Σ_k w_k Σ_k^{−1}, mean P^{−1} Σ_k w_k Σ_k^{−1} μ_k;
* sequential (autoregressive) tilt: every conditional N(·; m_k(x_<t), v_k) is tilted by itself;
* guided diffusion of noise level λ (0 the ODE, 1 the reverse SDE): its first two moments follow linear equations,
  with P(τ) = Σ_k w_k (Σ_k + τI)^{−1}, h(τ) = Σ_k w_k (Σ_k + τI)^{−1} μ_k and falling τ = σ²,
  dm = ½(1+λ²)(h − Pm) dτ,  dC = (−½(1+λ²)(PC + CP) + λ²I) dτ.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from analysis.toys import checks
from analysis.toys.law import Label, Weights, guidance

ImproperMessage = "improper tilt: the combined precision is not positive definite, so the density has infinite mass"


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
    precisions = [torch.linalg.inv(law.covariance) for law in laws]
    pairs = list(zip(weights, precisions, laws, strict=True))
    precision = torch.stack([w * inverse for w, inverse, _ in pairs]).sum(0)
    if torch.linalg.eigvalsh(precision)[0] <= 0:
        raise ValueError(ImproperMessage)
    covariance = torch.linalg.inv(precision)
    law = Gaussian(covariance @ torch.stack([w * inverse @ law.mean for w, inverse, law in pairs]).sum(0), covariance)
    at_mean = torch.stack([w * law_k.log_density(law.mean[None])[0] for w, _, law_k in pairs]).sum(0)
    return GaussianJoint(law, at_mean - law.log_density(law.mean[None])[0])


def sequential_tilt(laws: Sequence[Gaussian], weights: Sequence[float]) -> GaussianSequential:
    """Return Π_t (Π_k p_k(x_t | x_<t)^{w_k}) / Z_t(x_<t), a Gaussian: x_t = c_t + a_t·x_<t + √v_t ξ.

    Raises:
        ValueError: an improper tilt at some t.
    """
    _check(laws, weights)
    dim = len(laws[0].mean)
    weight = torch.tensor(weights, dtype=torch.float64)
    regress, shift, noise, rows = torch.zeros(dim, dim, dtype=torch.float64), [], [], []
    for t in range(dim):
        conditionals = [_conditional(law, t) for law in laws]
        slopes, intercepts, variances = (torch.stack(parts) for parts in zip(*conditionals, strict=True))
        precision = (weight / variances).sum()
        if precision <= 0:
            raise ValueError(ImproperMessage)
        share = weight / (variances * precision)
        regress[t, :t] = share @ slopes
        shift.append(share @ intercepts)
        noise.append(1 / precision)
        rows.append(conditionals)
    unroll = torch.linalg.inv(torch.eye(dim, dtype=torch.float64) - regress)
    covariance = unroll @ torch.diag(torch.stack(noise)) @ unroll.mT
    law = Gaussian(unroll @ torch.stack(shift), covariance)
    log_normalizers = [_mean_log_normalizer(law, t, conditionals, weights) for t, conditionals in enumerate(rows)]
    return GaussianSequential(law, torch.stack(log_normalizers))


def diffused(laws: Sequence[Gaussian], weights: Sequence[float], noise: float, *, steps: int = 2000) -> Gaussian:
    """Return the law that guided diffusion of noise level λ = `noise` ends in, in the limit σ_max → ∞ and of small steps.

    Raises:
        ValueError: weights whose sum W is so small that the law has no limit, (1 + λ²)·W ≤ 1.

    The moment equations are integrated by RK4 over log τ, from 10^7 times the widest variance to 10^−9 of the narrowest.
    """
    _check(laws, weights)
    checks.not_negative("noise", noise), checks.integer("steps", steps)
    dim, total = len(laws[0].mean), sum(weights)
    eye = torch.eye(dim, dtype=torch.float64)
    spectrum = torch.cat([torch.linalg.eigvalsh(law.covariance) for law in laws])
    high, low = math.log(float(spectrum.max()) * 1e7), math.log(float(spectrum.min()) * 1e-9)
    drift = (1 + noise**2) / 2
    # The moments decay at up to 2·drift·Σ|w| per unit of log τ; RK4 is stable while a step times that is below 2.7.
    stable = math.ceil((high - low) * 2 * drift * sum(map(abs, weights)) / 2.5)
    grid = torch.linspace(high, low, max(steps, stable) + 1, dtype=torch.float64)

    def slope(log_tau: Tensor, moments: Tensor) -> Tensor:
        tau = log_tau.exp()
        inverses = [torch.linalg.inv(law.covariance + tau * eye) for law in laws]
        precision = torch.stack([w * inverse for w, inverse in zip(weights, inverses, strict=True)]).sum(0)
        pull = torch.stack([w * inverse @ law.mean for w, inverse, law in zip(weights, inverses, laws, strict=True)]).sum(0)
        mean, covariance = moments[0], moments[1:]
        decay = drift * precision @ covariance
        rate = torch.cat([(drift * (pull - precision @ mean))[None], noise**2 * eye - decay - decay.mT])
        return -tau * rate

    if noise and (1 + noise**2) * total <= 1:
        raise ValueError(f"guided diffusion with noise level {noise:g} has no limit for weights that sum to {total:g}")
    first = grid[0].exp() * (noise**2 / ((1 + noise**2) * total - 1) if noise else 1.0)
    mean = torch.stack([w * law.mean for w, law in zip(weights, laws, strict=True)]).sum(0) / total
    moments = torch.cat([mean[None], first * eye])
    moments = _runge_kutta(slope, grid, moments)
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
    """Return KL(p ‖ q), []."""
    checks.alike("p's mean", p.mean, "q's", q.mean)
    inverse = torch.linalg.inv(q.covariance)
    gap = q.mean - p.mean
    log_ratio = torch.linalg.slogdet(q.covariance)[1] - torch.linalg.slogdet(p.covariance)[1]
    return ((inverse @ p.covariance).trace() + gap @ inverse @ gap - len(gap) + log_ratio) / 2


class GaussianPair:
    """A conditional and an unconditional Gaussian, given one by one: p(x | any label) and p(x)."""

    def __init__(self, cond: Gaussian, uncond: Gaussian) -> None:
        for name, law in (("cond", cond), ("uncond", uncond)):
            _check_gaussian(name, law)
        checks.alike("cond's mean", cond.mean, "uncond's", uncond.mean)
        self.cond, self.uncond = cond, uncond

    @classmethod
    def scalar(cls, mean: float, variance: float, variance_uncond: float) -> "GaussianPair":
        """Return N(m, a) against N(0, b) in one dimension (the pair of theory B1)."""
        return cls(_scalar(mean, variance), _scalar(0.0, variance_uncond))

    def law(self, label: Label | float = None) -> Gaussian:
        """Return p(x | label), p(x) for None."""
        return self.uncond if label is None else self.cond

    def score(self, x: Tensor, sigma: Tensor | float, label: Label | float = None) -> Tensor:
        """Return ∇_x log p_σ(x | label), [n, d]."""
        return self.law(label).score(x, sigma)

    def log_density(self, x: Tensor, sigma: Tensor | float = 0.0, label: Label | float = None) -> Tensor:
        """Return log p_σ(x | label), [n]."""
        return self.law(label).log_density(x, sigma)

    def joint_guided(self, label: Label | float, scale: float, *, temperature: float = 1.0) -> GaussianJoint:
        """Return p(x)^{(1−γ)/τ} p(x|y)^{γ/τ} / Z with log Z; raises ValueError where it is improper."""
        return tilt(*self._guided(label, scale, temperature))

    def sequential_guided(self, label: Label | float, scale: float, *, temperature: float = 1.0) -> GaussianSequential:
        """Return the law guided coordinate by coordinate, with E[log Z_t]."""
        return sequential_tilt(*self._guided(label, scale, temperature))

    def diffusion_guided(self, label: Label | float, scale: float, noise: float, *, temperature: float = 1.0) -> Gaussian:
        """Return the law of guided diffusion at noise level λ = `noise`."""
        return diffused(*self._guided(label, scale, temperature), noise)

    def _guided(self, label: Label | float, scale: float, temperature: float) -> tuple[list[Gaussian], list[float]]:
        weights: Weights = guidance(0, scale, temperature)
        return [self.law(None), self.law(label)], list(weights.values())


class GaussianSequence(GaussianPair):
    """x_t = y + AR(1) noise of unit variance and correlation ρ, y ~ N(0, 1), t = 1 … T; the label is the value of y."""

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
    if not laws or len(laws) != len(weights):
        raise checks.refusal("weights", f"one per law, {len(laws)}, and at least one", list(weights))
    for law, weight in zip(laws, weights, strict=True):
        checks.number("weights", weight)
        checks.alike("laws' mean", law.mean, "the first law's", laws[0].mean)


def _check_gaussian(name: str, law: Gaussian) -> None:
    """Raise ValueError unless a law has a finite mean [d] and a symmetric, positive definite covariance [d, d]."""
    if not isinstance(law, Gaussian) or law.mean.ndim != 1 or law.covariance.shape != 2 * law.mean.shape:
        raise checks.refusal(name, "a Gaussian of mean [d] and covariance [d, d]", law)
    if not (law.mean.isfinite().all() and law.covariance.isfinite().all()):
        raise ValueError(f"{name} must have a finite mean and covariance")
    if not torch.allclose(law.covariance, law.covariance.mT) or torch.linalg.eigvalsh(law.covariance)[0] <= 0:
        raise ValueError(f"{name} must have a covariance that is symmetric and positive definite")


def _scalar(mean: float, variance: float) -> Gaussian:
    checks.number("mean", mean), checks.positive("variance", variance)
    return Gaussian(torch.tensor([mean], dtype=torch.float64), torch.tensor([[variance]], dtype=torch.float64))


def _conditional(law: Gaussian, t: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return (slope [t], intercept [], variance []) of x_t | x_<t."""
    slope = torch.linalg.solve(law.covariance[:t, :t], law.covariance[:t, t])
    return slope, law.mean[t] - slope @ law.mean[:t], law.covariance[t, t] - slope @ law.covariance[:t, t]


def _mean_log_normalizer(
    law: Gaussian, t: int, conditionals: Sequence[tuple[Tensor, Tensor, Tensor]], weights: Sequence[float]
) -> Tensor:
    """Return E[log ∫ Π_k N(x_t; m_k(x_<t), v_k)^{w_k} dx_t] for x_<t ~ law.

    log Z_t = Σ_k w_k log N(0; 0, v_k) − log N(0; 0, 1/P) − ½ (Σ_k w_k m_k²/v_k − (Σ_k w_k m_k/v_k)²/P), P = Σ_k w_k/v_k.
    """
    slopes = torch.stack([slope for slope, _, _ in conditionals])
    means = slopes @ law.mean[:t] + torch.stack([intercept for _, intercept, _ in conditionals])
    second = slopes @ law.covariance[:t, :t] @ slopes.mT + torch.outer(means, means)
    scaled = torch.stack([w / v for w, (_, _, v) in zip(weights, conditionals, strict=True)])
    constants = torch.stack([-(2 * math.pi * v).log() / 2 for _, _, v in conditionals])
    quadratic = (torch.diag(scaled) - torch.outer(scaled, scaled) / scaled.sum()) * second
    weight = torch.tensor(weights, dtype=torch.float64)
    return weight @ constants + (2 * math.pi / scaled.sum()).log() / 2 - quadratic.sum() / 2


def _runge_kutta(slope: Callable[[Tensor, Tensor], Tensor], grid: Tensor, y: Tensor) -> Tensor:
    for start, end in pairwise(grid):
        h, middle = end - start, (start + end) / 2
        k1 = slope(start, y)
        k2 = slope(middle, y + h * k1 / 2)
        k3 = slope(middle, y + h * k2 / 2)
        k4 = slope(end, y + h * k3)
        y = y + h * (k1 + 2 * k2 + 2 * k3 + k4) / 6
    return y
