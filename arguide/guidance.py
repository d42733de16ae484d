r"""The rule: a log-linear combination of next-token laws, and its log normalizer.

    log p̃(v) = Σ_k w_k log p_k(v),    Z = Σ_v exp log p̃(v),    log p_γ = log p̃ − log Z.

Guidance has weights (γ, 1 − γ) on (conditional, unconditional); temperature τ is one model with weight 1/τ; several
conditions γ_i have (γ_1, …, 1 − Σ γ_i). Zeros follow one policy, so that no NaN comes out:

* a weight of 0 ignores its branch, whatever it holds;
* log p_k = −∞ under a positive weight gives −∞, and so does −∞ in every branch;
* the remaining case, log p_k = −∞ under a negative weight, is an *improper tilt*: infinite mass on one token. It raises an
  error, unless a `floor` replaces log p_k by max(log p_k, floor) in branches of negative weight.

Sources: Ho & Salimans, "Classifier-free diffusion guidance", arXiv:2207.12598, eq. 6, for scores; Dieleman, "Guidance: a cheat
code for diffusion models" (2022), https://sander.ai/2022/05/26/guidance.html, for logits.
"""

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor

from arguide import checks

Weight = float | Tensor


class Normalized(NamedTuple):
    """Normalised log-probs, [..., V], and the log normalizer that was subtracted, [...]."""

    log_probs: Tensor
    log_normalizer: Tensor


def guidance_weights(scale: Weight) -> tuple[Weight, Weight]:
    """Return the weights (γ, 1 − γ) of (cond, uncond), which sum to 1 in double precision.

    Raises:
        ValueError: a scale that is not finite.

    Example:
        >>> arguide.guidance_weights(3.0)
        (3.0, -2.0)
    """
    cond, uncond = composition_weights((scale,))
    return cond, uncond


def composition_weights(scales: Sequence[Weight]) -> tuple[Weight, ...]:
    """Return the weights (γ_1, …, γ_K, 1 − Σ_i γ_i) of (cond_1, …, cond_K, uncond), which sum to 1 in double precision.

    Raises:
        ValueError: a scale that is not finite.
    """
    for scale in scales:
        checks.finite("scale", scale)
    wide = tuple(scale.double() if isinstance(scale, Tensor) else scale for scale in scales)
    return (*wide, 1 - sum(wide))


def guide(cond: Tensor, uncond: Tensor, scale: Weight, *, floor: float | None = None) -> Tensor:
    """Guide next-token logits: return γ·cond + (1 − γ)·uncond, unnormalised, bit-exact at γ = 0 and γ = 1.

    Args:
        cond: logits or log-probs under the condition, [..., V]. Half precisions are combined in float32.
        uncond: the same without the condition, [..., V].
        scale: γ, a number or one value per row, [...].
        floor: lower bound of the log-probs of a branch with negative weight; without it an improper tilt raises an error.

    Returns:
        Unnormalised guided logits [..., V]. Their `logsumexp` is the log normalizer log Z_t if both inputs are log-probs.

    Raises:
        ValueError: shapes that do not fit, a scale that is not finite, logits with NaN or +∞, or an improper tilt.

    Example:
        >>> cond, uncond = torch.tensor([0.1, 0.9]).log(), torch.tensor([0.5, 0.5]).log()
        >>> arguide.guide(cond, uncond, 2.0).softmax(-1)
        tensor([0.0122, 0.9878])
    """
    checks.tensor("cond", cond), checks.tensor("uncond", uncond)
    return combine((cond, uncond), guidance_weights(scale), floor=floor)


def combine(logits: Sequence[Tensor], weights: Sequence[Weight], *, floor: float | None = None) -> Tensor:
    """Combine K branches log-linearly: return Σ_k w_k log p_k, unnormalised, [..., V].

    Args:
        logits: K tensors [..., V].
        weights: K numbers, or tensors with one value per row, [...].
        floor: lower bound of the log-probs of branches with negative weight.

    Raises:
        ValueError: an improper tilt without a `floor`, a weight that is not finite or whose shape does not fit the rows, logits
            with NaN or +∞.

    Example:
        >>> logits = torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.5, 0.5]]).log().unbind()
        >>> arguide.combine(logits, (1.0, 0.5, -0.5)).softmax(-1)
        tensor([0.0526, 0.9474])
    """
    _check(logits, weights, floor)
    dtype = _precision(logits)
    wide = [branch.to(dtype) for branch in logits]
    if floor is None:
        columns = [_column(weight, branch) for weight, branch in zip(weights, wide, strict=True)]
        total = wide[0] * columns[0]
        for branch, column in zip(wide[1:], columns[1:], strict=True):
            total = total + branch * column
        if math.isfinite(total.sum().item()):  # one pass: the sum is finite only if all of its terms are
            return total
    return _combine_zeros(wide, weights, floor)


def _combine_zeros(logits: Sequence[Tensor], weights: Sequence[Weight], floor: float | None) -> Tensor:
    """Combine branches with −∞ by the policy of the module."""
    for weight in weights:
        checks.finite("weights", weight)
    total = logits[0].new_zeros(())
    vetoed = improper = undefined = torch.zeros_like(total, dtype=torch.bool)
    empty = torch.ones_like(vetoed)
    for branch, number in zip(logits, weights, strict=True):
        weight = torch.as_tensor(_column(number, branch), dtype=total.dtype, device=total.device)
        if floor is not None:
            branch = torch.where(weight < 0, branch.clamp(min=floor), branch)
        zero = branch == -math.inf
        undefined = undefined | (weight != 0) & ~(branch < math.inf)
        total = total + torch.where(weight == 0, 0.0, weight * branch.masked_fill(zero, 0.0))
        vetoed, improper, empty = vetoed | zero & (weight > 0), improper | zero & (weight < 0), empty & zero
    removed = vetoed | empty
    if (improper & ~removed).any():
        raise ValueError(
            "improper tilt: a branch of negative weight gives probability 0 to a token that the others allow; "
            "guide raw logits before any mask or truncation, or give a floor"
        )
    if (undefined | ~removed & ~(total < math.inf)).any():
        raise ValueError("logits must be finite or -inf in every branch whose weight is not 0, got NaN or +inf")
    return total.masked_fill(removed, -math.inf)


def _check(logits: Sequence[Tensor], weights: Sequence[Weight], floor: float | None) -> None:
    """Raise ValueError unless the branches share one vocabulary and one shape of rows, and each has a weight."""
    checks.matched("weights", weights, logits, "branch")
    shapes = [checks.tensor("logits", branch).shape for branch in logits]
    if len(set(shapes)) > 1:
        _check_shapes(shapes)
    if floor is not None:
        checks.number("floor", floor)
    for weight in weights:
        if not isinstance(weight, Tensor):  # tensors are checked by the sum in `combine`
            checks.finite("weights", weight)


def _check_shapes(shapes: Sequence[torch.Size]) -> None:
    """Raise ValueError unless shapes [..., V] have one V, and rows that broadcast."""
    found = " and ".join(str(tuple(shape)) for shape in shapes)
    if len({shape[-1] for shape in shapes}) > 1:
        raise ValueError(f"logits must share one vocabulary, got shapes {found}")
    if any(len({*sizes} - {1}) > 1 for sizes in zip_longest(*(shape[::-1] for shape in shapes), fillvalue=1)):
        raise ValueError(f"logits must have rows that fit each other, got shapes {found}")


def normalize(logits: Tensor) -> Normalized:
    """Return log-probs [..., V] and the log normalizer log Σ_v exp(logits), [...]; a row of −∞ stays −∞ with log Z = −∞.

    Raises:
        ValueError: logits with NaN or +∞.

    Example:
        >>> law = arguide.normalize(torch.tensor([0.2, 0.6]).log())
        >>> law.log_probs.exp(), law.log_normalizer.exp()
        (tensor([0.2500, 0.7500]), tensor(0.8000))
    """
    log_normalizer = checks.tensor("logits", logits).logsumexp(-1)
    if not (log_normalizer < math.inf).all():
        raise ValueError("logits must be finite or -inf, got NaN or +inf")
    reached = torch.where(log_normalizer == -math.inf, 0.0, log_normalizer)
    return Normalized(logits - reached[..., None], log_normalizer)


def _precision(logits: Sequence[Tensor]) -> torch.dtype:
    """Return the widest dtype of the branches, float32 at least."""
    dtype = torch.float32
    for branch in logits:
        dtype = torch.promote_types(dtype, branch.dtype)
    return dtype


def _column(weight: Weight, branch: Tensor) -> Weight:
    """Return a weight to broadcast over the vocabulary: a number as it is, a tensor with one more axis."""
    if not isinstance(weight, Tensor):
        return weight
    column = weight.to(branch)
    if column.ndim == 0:
        return column
    rows = branch.shape[:-1]
    if column.ndim > len(rows) or any(n not in (1, row) for n, row in zip(column.shape[::-1], rows[::-1], strict=False)):
        raise ValueError(f"a scale per row must have shape {tuple(rows)}, got {tuple(column.shape)}")
    return column[..., None]
