r"""Predictions: what a network may predict in place of the score, and transforms of the denoised estimate.

With x = x_0 + σ·ε and α = 1/√(1+σ²), conditional means given x are

    denoised  D = x + σ²·s,    noise  ε = −σ·s,    velocity  v = α·ε − √(1−α²)·D = −ασ·(x + (1+σ²)·s).

All are affine in the score s, so plain guidance gives the same score through each of them. Thresholds and `nonlinear_guidance`
do not.

Sources: Karras et al., "Elucidating the design space of diffusion-based generative models", arXiv:2206.00364, eq. 3; Salimans &
Ho, "Progressive distillation for fast sampling of diffusion models", arXiv:2202.00512, appendix D, for v; Saharia et al.,
"Photorealistic text-to-image diffusion models with deep language understanding" (Imagen), arXiv:2205.11487, section 2.3, for
thresholds.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from arguide import checks
from diffusion.models import Field

Convert = Callable[[Tensor, Tensor, Tensor], Tensor]
Transform = Callable[[Tensor], Tensor]


class Prediction(NamedTuple):
    """A quantity affine in the score.

    of: (score [n, …], x [n, …], σ []) ↦ the prediction, [n, …].
    score: (prediction, x, σ) ↦ the score; the inverse.
    """

    of: Convert
    score: Convert


def _velocity(score: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    return -sigma * (1 + sigma**2) ** -0.5 * (x + (1 + sigma**2) * score)


def _score_of_velocity(velocity: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    alpha = (1 + sigma**2) ** -0.5
    return -alpha * (velocity / sigma + alpha * x)


denoised = Prediction(lambda score, x, sigma: x + sigma**2 * score, lambda clean, x, sigma: (clean - x) / sigma**2)
noise = Prediction(lambda score, _x, sigma: -sigma * score, lambda epsilon, _x, sigma: -epsilon / sigma)
velocity = Prediction(_velocity, _score_of_velocity)


def with_denoised(score: Field, transform: Transform) -> Field:
    """Return the score (f(D) − x)/σ² of a transformed denoised estimate, D = x + σ²·s ↦ f(D).

    Raises:
        ValueError: an argument that is no function.

    Example:
        >>> normal = lambda x, sigma: -x / (1 + sigma**2)
        >>> score = diffusion.with_denoised(normal, diffusion.dynamic_threshold(0.995))
        >>> score(torch.full((1, 2), 10.0), torch.tensor(1.0))
        tensor([[-9., -9.]])
    """
    checks.functions(score=score, transform=transform)

    def transformed(x: Tensor, sigma: Tensor) -> Tensor:
        return denoised.score(transform(denoised.of(score(x, sigma), x, sigma)), x, sigma)

    return transformed


def dynamic_threshold(quantile: float = 0.995, bound: float = 1.0) -> Transform:
    """Return the transform D ↦ clip(D, −s, s)·bound/s, for data in [−bound, bound].

    s is the interpolated `quantile` of |D| over each sample, and at least `bound`; a sample within the bound is unchanged.

    Raises:
        ValueError: a quantile outside [0, 1], or a bound that is not positive.

    Example:
        >>> diffusion.dynamic_threshold(1.0)(torch.tensor([[2.0, -1.0], [0.5, 0.0]]))
        tensor([[ 1.0000, -0.5000],
                [ 0.5000,  0.0000]])
    """
    checks.share("quantile", quantile), checks.positive("bound", bound)

    def transform(clean: Tensor) -> Tensor:
        flat = clean.flatten(1)
        s = _quantile(flat.abs(), quantile).clamp(min=bound)[:, None]
        return (flat.clamp(-s, s) * (bound / s)).reshape(clean.shape)

    return transform


def _quantile(rows: Tensor, quantile: float) -> Tensor:
    """Return the quantile of every row, [n, d] ↦ [n]; `torch.quantile` takes at most 2^24 numbers."""
    ordered, at = rows.sort(1).values, quantile * (rows.shape[1] - 1)
    below = int(at)
    return torch.lerp(ordered[:, below], ordered[:, min(below + 1, rows.shape[1] - 1)], at - below)
