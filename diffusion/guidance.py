r"""The rule: the log-linear combination of scores, and its per-step log normalizer.

    s̄ = Σ_k w_k s_k,    log Z_step = ½ v (‖s̄‖² − Σ_k w_k ‖s_k‖²),    v = σ² − σ'² for a step from σ to σ'.

For guidance, weights (γ, 1 − γ), this is ½ γ(γ−1) v ‖s_c − s_u‖²: the normalizer of the product of two Gaussian reverse
kernels of variance v. For temperature, weight (β,), it is ½ β(β−1) v ‖s‖². In general it is the Feynman–Kac potential
that keeps particles which drift along s̄, at any noise level λ of the sampler, on Π_k p_{σ,k}^{w_k}: with
∂_τ log p = −½(∇·s + ‖s‖²) along the reverse variance τ, the divergences cancel and the rest is the potential.

Sources: Ho & Salimans (2022), eq. 6; Skreta et al., "Feynman–Kac correctors in diffusion" (2025), prop. 3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from arguide import checks
from arguide.guidance import Weight as Weight
from arguide.guidance import composition_weights as composition_weights
from arguide.guidance import guidance_weights as guidance_weights


def guide(cond: Tensor, uncond: Tensor, scale: Weight) -> Tensor:
    """Guide scores: return γ·cond + (1 − γ)·uncond, bit-exact at γ = 0 and γ = 1.

    Args:
        cond, uncond: scores [n, …]; any quantity affine in the score (denoised data, noise) combines alike.
        scale: γ, a number or one a sample, [n].

    Raises:
        ValueError: a scale that is not finite, or shapes that do not fit.
    """
    return combine((cond, uncond), guidance_weights(scale))


def combine(scores: Sequence[Tensor], weights: Sequence[Weight]) -> Tensor:
    """Return Σ_k w_k s_k, [n, …], for K scores [n, …] and K weights, numbers or [n].

    Raises:
        ValueError: weights that are not one finite number, or one per sample, for each score; shapes that differ.
    """
    checks.matched("weights", weights, scores, "score")
    for score, weight in zip(scores, weights, strict=True):
        checks.finite("weights", weight)
        if checks.tensor("scores", score).shape != scores[0].shape:
            raise checks.refusal("scores", f"of one shape, {tuple(scores[0].shape)}", score)
    return torch.stack([expand(w, s) * s for s, w in zip(scores, weights, strict=True)]).sum(0)


def log_normalizer(scores: Sequence[Tensor], weights: Sequence[Weight], variance: Weight) -> Tensor:
    """Return log Z_step = ½ v (‖Σ_k w_k s_k‖² − Σ_k w_k ‖s_k‖²), [n], for a step of variance v = σ² − σ'²."""
    if (torch.as_tensor(checks.finite("variance", variance)) < 0).any():
        raise checks.refusal("variance", "at least 0", variance)
    combined = combine(scores, weights)
    parts = torch.stack([expand(w, n) * n for n, w in zip(map(_norm2, scores), weights, strict=True)])
    return variance * (_norm2(combined) - parts.sum(0)) / 2


def _norm2(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1).square().sum(-1)


def expand(weight: Weight, like: Tensor) -> Tensor:
    """Return a weight as a tensor that broadcasts over the samples' own dimensions, never rounded to integers."""
    dtype = like.dtype if like.is_floating_point() else torch.get_default_dtype()
    column = torch.as_tensor(weight, dtype=dtype, device=like.device)
    if column.ndim and column.numel() not in (1, len(like)):
        raise checks.refusal("a weight or scale per sample", f"of shape ({len(like)},)", column)
    return column if column.ndim == 0 else column.reshape(-1, *(1,) * (like.ndim - 1))
