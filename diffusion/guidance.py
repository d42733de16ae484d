r"""The rule: the log-linear combination of scores, and its log normalizer per step.

    s̄ = Σ_k w_k s_k,    log Z_step = ½ v (‖s̄‖² − Σ_k w_k ‖s_k‖²),    v = σ² − σ'² for a step from σ to σ'.

For guidance, weights (γ, 1 − γ), this is ½ γ(γ−1) v ‖s_c − s_u‖²: the normalizer of the product of two Gaussian reverse
kernels of variance v. For temperature, weight (β,), it is ½ β(β−1) v ‖s‖². In general it is the Feynman–Kac potential
that keeps particles which drift along s̄, at any stochasticity λ of the sampler, on Π_k p_{σ,k}^{w_k}: with
∂_u log p = −½(∇·s + ‖s‖²), u = −σ², the divergences cancel and the rest is the potential.

Sources: Ho & Salimans, "Classifier-free diffusion guidance", arXiv:2207.12598, eq. 6; Skreta et al., "Feynman–Kac correctors
in diffusion", arXiv:2503.02819, prop. 3.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from arguide import checks
from arguide.guidance import Weight as Weight
from arguide.guidance import guidance_weights as guidance_weights


def guide(cond: Tensor, uncond: Tensor, scale: Weight) -> Tensor:
    """Guide scores: return γ·cond + (1 − γ)·uncond, bit-exact at γ = 0 and γ = 1.

    Args:
        cond: score with the condition, [n, …]; any quantity affine in the score (denoised data, noise) combines alike.
        uncond: the same without the condition, [n, …].
        scale: γ, a number or one per sample, [n].

    Raises:
        ValueError: a scale that is not finite, or shapes that do not fit.

    Example:
        >>> diffusion.guide(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]]), 3.0)
        tensor([[3., 0.]])
    """
    return combine((cond, uncond), guidance_weights(scale))


def combine(scores: Sequence[Tensor], weights: Sequence[Weight]) -> Tensor:
    """Return Σ_k w_k s_k, [n, …], for K scores [n, …] and K weights, numbers or [n].

    Raises:
        ValueError: weights that are not one finite number, or one per sample, for each score; shapes that differ.

    Example:
        >>> scores = torch.ones(1, 2), torch.zeros(1, 2), torch.full((1, 2), 2.0)
        >>> diffusion.combine(scores, (2.0, -2.0, 1.0))
        tensor([[4., 4.]])
    """
    checks.matched("weights", weights, scores, "score")
    for score, weight in zip(scores, weights, strict=True):
        checks.finite("weights", weight)
        if checks.tensor("scores", score).shape != scores[0].shape:
            raise checks.refusal("scores", f"of one shape, {tuple(scores[0].shape)}", score)
    return weighted_sum(scores, weights)


def weighted_sum(terms: Sequence[Tensor], weights: Sequence[Weight]) -> Tensor:
    """Return Σ_k w_k t_k for K terms [n, …] of one shape and K weights, numbers or [n]."""
    total, *rest = (expand(weight, term) * term for term, weight in zip(terms, weights, strict=True))
    return sum(rest, total)


def log_normalizer(scores: Sequence[Tensor], weights: Sequence[Weight], variance: Weight) -> Tensor:
    """Return log Z_step = ½ v (‖Σ_k w_k s_k‖² − Σ_k w_k ‖s_k‖²), [n].

    Args:
        scores: s_k, K tensors [n, …].
        weights: w_k, K numbers, or tensors [n].
        variance: v = σ² − σ'², a number or one per sample, [n].

    Raises:
        ValueError: as `combine`, and a variance that is negative or not finite.

    Example:
        >>> scores = torch.ones(1, 2), torch.zeros(1, 2)
        >>> diffusion.log_normalizer(scores, (3.0, -2.0), 0.1)
        tensor([0.6000])
    """
    if (torch.as_tensor(checks.finite("variance", variance)) < 0).any():
        raise checks.refusal("variance", "at least 0", variance)
    combine(scores, weights)  # checks shapes and weights
    return variance * potential(scores, weights)


def potential(scores: Sequence[Tensor], weights: Sequence[Weight]) -> Tensor:
    """Return r = ½(‖s̄‖² − Σ_k w_k ‖s_k‖²), log Z per unit of variance, [n], for scores [n, …] and weights as in `combine`.

    It is computed as ½((W − 1) Σ_k w_k ‖s_k‖² − Σ_{k<l} w_k w_l ‖s_k − s_l‖²), W = Σ_k w_k, which is free of cancellation.
    """
    pairs = list(zip(scores, weights, strict=True))
    terms = [(v * w / -2, a - b) for (a, v), (b, w) in combinations(pairs, 2)]
    total = sum(weights)
    if isinstance(total, Tensor) or abs(total - 1) > 1e-12:
        terms += [((total - 1) * weight / 2, score) for score, weight in pairs]
    norms = [torch.linalg.vector_norm(term.flatten(1).to(_floating(term)), dim=1).square() for _, term in terms]
    if not terms:  # one score of weight 1: zeros, but NaN where the score has NaN
        return 0 * scores[0].flatten(1).sum(1)
    return weighted_sum(norms, [weight for weight, _ in terms])


def _floating(like: Tensor) -> torch.dtype:
    return like.dtype if like.is_floating_point() else torch.get_default_dtype()


def columns(values: Tensor, like: Tensor) -> Tensor:
    """Return values [n], or [1], as [n, 1, …, 1], to broadcast with samples `like` [n, …]."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def expand(weight: Weight, like: Tensor) -> Weight:
    """Return a weight to broadcast with samples `like` [n, …]: a number as it is, a tensor [n] as [n, 1, …, 1].

    Raises:
        ValueError: a tensor with neither one value nor n.
    """
    if not isinstance(weight, Tensor):
        return weight
    column = weight.to(device=like.device, dtype=_floating(like))
    if column.ndim and column.numel() not in (1, len(like)):
        raise checks.refusal("a weight or scale per sample", f"of shape ({len(like)},)", column)
    return column if column.ndim == 0 else columns(column, like)
