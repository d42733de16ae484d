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

from arguide.guidance import Weight as Weight
from arguide.guidance import composition_weights as composition_weights
from arguide.guidance import guidance_weights as guidance_weights


def guide(cond: Tensor, uncond: Tensor, scale: Weight) -> Tensor:
    """Guide scores: return γ·cond + (1 − γ)·uncond, bit-exact at γ = 0 and γ = 1.

    Args:
        cond, uncond: scores [n, …]; any quantity affine in the score (denoised data, noise) combines alike.
        scale: γ, a number or one a sample, [n].
    """
    if not torch.as_tensor(scale).isfinite().all():
        raise ValueError(f"scale must be finite, not {scale}")
    return combine((cond, uncond), guidance_weights(scale))


def combine(scores: Sequence[Tensor], weights: Sequence[Weight]) -> Tensor:
    """Return Σ_k w_k s_k, [n, …], for K scores [n, …] and K weights, numbers or [n]."""
    return torch.stack([expand(w, s) * s for s, w in zip(scores, weights, strict=True)]).sum(0)


def log_normalizer(scores: Sequence[Tensor], weights: Sequence[Weight], variance: Weight) -> Tensor:
    """Return log Z_step = ½ v (‖Σ_k w_k s_k‖² − Σ_k w_k ‖s_k‖²), [n], for a step of variance v = σ² − σ'²."""
    parts = torch.stack([expand(w, n) * n for n, w in zip(map(_norm2, scores), weights, strict=True)])
    return variance * (_norm2(combine(scores, weights)) - parts.sum(0)) / 2


def _norm2(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1).square().sum(-1)


def expand(weight: Weight, like: Tensor) -> Tensor:
    """Return a weight as a tensor that broadcasts over the samples' own dimensions."""
    column = torch.as_tensor(weight, dtype=like.dtype, device=like.device)
    return column if column.ndim == 0 else column.reshape(-1, *(1,) * (like.ndim - 1))
