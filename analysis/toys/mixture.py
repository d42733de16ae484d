r"""`GaussianMixture`: labelled Gaussians or points in R^d, with exact density, score and class probability at every σ.

    p_σ(x | y) = Σ_m p(m | y) N(x; μ_m, Σ_m + σ²I),    score = Σ_m r_m(x) (Σ_m + σ²I)^{−1} (μ_m − x),    r = softmax.

Densities are computed by log-sum-exp, so they stay finite far from the data. A component may belong to several labels.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from analysis.toys import checks
from analysis.toys.law import Joint, Label, Sequential

if TYPE_CHECKING:
    from analysis.toys.table import Table


class GaussianMixture:
    """A mixture of M Gaussians in d dimensions under K labels.

    Args:
        means: μ, [M, d].
        covariances: isotropic variances [M], or full covariances [M, d, d]; variance 0 makes a point.
        weights: p(y, m), [K, M], summing to 1; or p(m), [M], for one label per component.

    Raises:
        ValueError: shapes that do not fit, negative variances or weights, covariances that are not symmetric, weights that
            do not sum to 1.

    Example:
        >>> mixture = analysis.GaussianMixture([[-1.0], [1.0]], [0.5, 0.5], [0.5, 0.5])
        >>> mixture.score(torch.zeros(1, 1).double(), torch.tensor(1.0), 1)
        tensor([[0.6667]], dtype=torch.float64)
    """

    def __init__(
        self, means: Tensor | Sequence[Any], covariances: Tensor | Sequence[Any], weights: Tensor | Sequence[Any]
    ) -> None:
        self.means, covariances = checks.real("means", means), checks.real("covariances", covariances)
        weights = checks.real("weights", weights)
        self.weights = torch.diag(weights) if weights.ndim == 1 else weights
        self._check_shapes(covariances)
        checks.require(self.means.isfinite().all(), "means", "finite in a mixture", self.means)
        checks.probabilities("weights of a mixture", self.weights.flatten())
        symmetric = torch.allclose(covariances, covariances.mT if covariances.ndim == 3 else covariances, equal_nan=True)
        if covariances.ndim == 1:
            self.variances, self._axes = covariances[:, None], None
        else:
            self.variances, self._axes = torch.linalg.eigh(covariances.nan_to_num(nan=-1.0, posinf=-1.0))
        proper = symmetric and (self.variances >= -1e-12).all() and self.variances.isfinite().all()
        checks.require(proper, "covariances", "symmetric, finite and positive semi-definite in a mixture", covariances)
        self.variances = self.variances.clamp(min=0.0)
        self._centre = self.means.mean(0)

    def _check_shapes(self, covariances: Tensor) -> None:
        checks.require(self.means.ndim == 2 and 0 not in self.means.shape, "means", "[M, d] of a mixture", self.means)
        count, dim = self.means.shape
        fits = covariances.shape in ((count,), (count, dim, dim))
        checks.require(fits, "covariances", f"those of the mixture, [{count}] or [{count}, {dim}, {dim}]", covariances)
        fits = self.weights.ndim == 2 and self.weights.shape[1] == count
        checks.require(fits, "weights", f"those of the mixture, [K, {count}] or [{count}]", self.weights)

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.means.shape[1]

    def log_density(self, x: Tensor, sigma: Tensor | float = 0.0, label: Label = None) -> Tensor:
        """Return log p_σ(x | label), [n].

        Args:
            x: points, [n, d].
            sigma: standard deviation of the noise.
            label: y; None for p_σ(x).

        Raises:
            ValueError: x of another shape, points without noise, or no such label.
        """
        return (self._log_components(x, sigma) + self._log_weights(label)).logsumexp(1)

    def score(self, x: Tensor, sigma: Tensor | float, label: Label = None) -> Tensor:
        """Return ∇_x log p_σ(x | label), [n, d]; arguments and errors as in `log_density`."""
        posterior = (self._log_components(x, sigma) + self._log_weights(label)).softmax(1)
        spread = self._spread(sigma)
        if self._axes is None:
            return posterior @ (self.means / spread) - (posterior @ (1 / spread)) * x
        precision, pull = self._natural(spread)
        mean_precision = (posterior @ precision.flatten(1)).reshape(-1, self.dim, self.dim)
        return posterior @ pull - (mean_precision @ (x - self._centre)[..., None])[..., 0]

    def log_class_probability(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """Return log p(y | x, σ), [n, d] ↦ [n, K], the exact classifier of noised data."""
        log_components = self._log_components(x, sigma)
        return (log_components[:, None] + self.weights.log()).logsumexp(-1).log_softmax(1)

    def sample(
        self, n: int, sigma: Tensor | float = 0.0, label: Label = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw x_σ ~ p_σ(· | label), [n, d].

        Args:
            n: number of draws.
            sigma: standard deviation of the noise.
            label: y; None for p_σ(x).
            generator: source of randomness; the global one by default.

        Raises:
            ValueError: n < 1, a negative sigma, or no such label.
        """
        checks.integer("n", n), checks.not_negative("sigma", sigma)
        component = torch.multinomial(self._log_weights(label).exp(), n, replacement=True, generator=generator)
        xi = torch.randn((n, self.dim), generator=generator, dtype=torch.float64)
        xi = xi * (self.variances + sigma**2)[component].sqrt()
        if self._axes is not None:
            xi = torch.einsum("nde,ne->nd", self._axes[component], xi)
        return self.means[component] + xi

    def nearest(self, x: Tensor) -> Tensor:
        """Return the index of the nearest mean, [n, d] ↦ [n]."""
        checks.points("x", x, self.dim)
        return torch.cdist(x, self.means).argmin(1)

    def axes(self, points: int | None = None, width: float = 9.0) -> tuple[Tensor, ...]:
        """Return d axes of equally spaced points (d ≤ 2).

        Args:
            points: number of points per axis; 4001 on the line and 401 in the plane by default.
            width: how many standard deviations the axes reach beyond the means.

        Raises:
            ValueError: d > 2, fewer than 2 points, or a width that is not positive.
        """
        if self.dim > 2:
            raise ValueError(f"a mixture on a grid must have at most 2 dimensions, got {self.dim}")
        checks.positive("width", width), checks.integer("points", points or 2, 2)
        reach = width * self.variances.max().sqrt()
        count = points or (4001 if self.dim == 1 else 401)
        bounds = zip(self.means.amin(0) - reach, self.means.amax(0) + reach, strict=True)
        return tuple(torch.linspace(float(low), float(high), count, dtype=torch.float64) for low, high in bounds)

    def on_grid(self, axes: Sequence[Tensor] | None = None, sigma: Tensor | float = 0.0) -> "Table":
        """Return p_σ(y, x) on a grid as a `Table` of cell masses, which has every law by quadrature.

        Args:
            axes: d axes of equally spaced points; those of `axes()` by default.
            sigma: standard deviation of the noise.

        Raises:
            ValueError: d > 2, or another number of axes.
        """
        from analysis.toys.table import Table

        axes = self.axes() if axes is None else tuple(axes)
        checks.require(len(axes) == self.dim, "axes", f"one per dimension, {self.dim}", len(axes))
        points = torch.cartesian_prod(*axes).reshape(-1, self.dim)
        prior = self.weights.sum(1).log()
        log_joint = torch.stack([self.log_density(points, sigma, label) + prior[label] for label in range(len(prior))])
        return Table.from_log(log_joint.reshape(-1, *(len(axis) for axis in axes)))

    def joint_guided(self, label: Label, scale: float, *, axes: Sequence[Tensor] | None = None) -> Joint:
        """Return the joint tilt by quadrature on a grid (d ≤ 2): cell masses [V_1, …, V_d], and log Z.

        Args:
            label: y.
            scale: γ.
            axes: as in `on_grid`.

        Raises:
            ValueError: an improper tilt, or d > 2.
        """
        self.check_proper(label, scale)
        return self.on_grid(axes).joint_guided(label, scale)

    def sequential_guided(self, label: Label, scale: float, *, axes: Sequence[Tensor] | None = None) -> Sequential:
        """Return the law guided coordinate by coordinate, by quadrature; arguments and errors as in `joint_guided`."""
        self.check_proper(label, scale)
        return self.on_grid(axes).sequential_guided(label, scale)

    def check_proper(self, label: Label, scale: float) -> None:
        """Require p(x)^{1−γ} p(x|y)^γ to have a finite mass.

        For γ ≥ 0 it has, since p(y|x)^γ ≤ 1. For γ < 0 the tails decide: along a direction u the widest component dominates,
        and (1−γ) min_m uᵀP_m u + γ min_{m of y} uᵀP_m u must be positive. The directions are 720 in the plane, and the axes
        of every pair of components in more dimensions.

        Raises:
            ValueError: an improper tilt, a scale that is not finite, or no such label.
        """
        checks.number("scale", scale)
        if scale >= 0:
            return
        precision = self._precisions()
        cond = precision[self._log_weights(label) > -math.inf]
        directions = self._directions((1 - scale) * precision[:, None] + scale * cond)
        widest, widest_cond = (torch.einsum("ud,mde,ue->um", directions, p, directions).amin(1) for p in (precision, cond))
        if ((1 - scale) * widest + scale * widest_cond <= 0).any():
            raise ValueError(f"improper tilt: at scale {scale:g} the density p(x)^(1-scale) p(x|y)^scale has infinite mass")

    def _directions(self, tails: Tensor) -> Tensor:
        if self.dim != 2:
            return torch.linalg.eigh(tails)[1].mT.reshape(-1, self.dim)
        angle = torch.linspace(0, math.pi, 720, dtype=torch.float64)
        return torch.stack([angle.cos(), angle.sin()], 1)

    def _precisions(self) -> Tensor:
        axes = torch.eye(self.dim, dtype=torch.float64) if self._axes is None else self._axes
        inverse = (1 / self.variances).expand(-1, self.dim)
        return axes @ torch.diag_embed(inverse) @ axes.mT

    def _spread(self, sigma: Tensor | float) -> Tensor:
        """Return the noised variances along each component's axes, [M, 1] or [M, d]."""
        spread = self.variances + sigma**2
        if not (spread > 0).all():
            raise ValueError("sigma must be positive, because points have no density without noise, got 0 or NaN")
        return spread

    def _natural(self, spread: Tensor) -> tuple[Tensor, Tensor]:
        """Return the noised precisions P_m, [M, d, d], and P_m (μ_m − c), [M, d], for variances along the axes [M, d]."""
        assert self._axes is not None
        precision = (self._axes / spread[:, None]) @ self._axes.mT
        return precision, (precision @ (self.means - self._centre)[..., None])[..., 0]

    def _log_components(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return log N(x; μ_m, Σ_m + σ²I), [n, M]."""
        checks.points("x", x, self.dim)
        spread = self._spread(sigma)
        if self._axes is None:
            return self._log_isotropic(x - self._centre, spread)
        return self._log_full(x - self._centre, spread)

    def _log_isotropic(self, x: Tensor, spread: Tensor) -> Tensor:
        """Return `_log_components` for covariances v_m·I, as one affine map of (x, ‖x‖²), [n, M]."""
        means = self.means - self._centre
        bias = means.square().sum(1) / spread[:, 0] + self.dim * (2 * math.pi * spread[:, 0]).log()
        slopes = torch.cat([means, torch.full_like(spread, -0.5)], 1) / spread
        return torch.addmm(-bias / 2, torch.cat([x, x.square().sum(1, keepdim=True)], 1), slopes.T)

    def _log_full(self, x: Tensor, spread: Tensor) -> Tensor:
        """Return `_log_components` for full covariances, as one affine map of (x, x xᵀ), [n, M]."""
        precision, pull = self._natural(spread)
        bias = ((self.means - self._centre) * pull).sum(1) + (2 * math.pi * spread).log().sum(1)
        squares = (x[:, :, None] * x[:, None]).flatten(1)
        return torch.addmm(-bias / 2, torch.cat([x, squares], 1), torch.cat([pull, -precision.flatten(1) / 2], 1).T)

    def _log_weights(self, label: Label) -> Tensor:
        """Return log p(m | label), [M]."""
        index = checks.label(label, range(len(self.weights)))
        weights = self.weights.sum(0) if index is None else self.weights[index]
        if weights.sum() == 0:
            raise ValueError(f"label must have a positive probability, got label {index} of probability 0")
        return (weights if index is None else weights / weights.sum()).log()
