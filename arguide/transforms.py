r"""Transforms of the next-token law: temperature, truncations and defensive mixtures, applied after guidance.

A transform maps log-probs [..., V] to normalised log-probs [..., V]; `compose` applies several in the order given. Guidance and
temperature commute within a token; truncation and guidance do not, so truncate last.

Sources: Fan et al., "Hierarchical neural story generation", arXiv:1805.04833, for top-k; Holtzman et al., "The curious case of
neural text degeneration", arXiv:1904.09751, for the nucleus; Meister et al., "Locally typical sampling", arXiv:2202.00666;
Hesterberg, "Weighted average importance sampling and defensive mixture distributions",
doi:10.1080/00401706.1995.10484303.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from arguide import checks

Transform = Callable[[Tensor], Tensor]
NO_LAW = "log_probs must have a possible token in every row and no NaN, got a row that does not; try a weaker truncation"


def identity(log_probs: Tensor) -> Tensor:
    """Return the law unchanged."""
    return log_probs


def compose(*transforms: Transform) -> Transform:
    """Return the transform that applies the given transforms in their order.

    Raises:
        ValueError: a transform that is no function.

    Example:
        >>> log_probs = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
        >>> arguide.compose(arguide.temperature(0.5), arguide.top_k(2))(log_probs).exp()
        tensor([0.6400, 0.3600, 0.0000, 0.0000])
    """
    for transform in transforms:
        checks.function("transforms", transform)

    def apply(log_probs: Tensor) -> Tensor:
        for transform in transforms:
            log_probs = transform(log_probs)
        return log_probs

    return apply


def temperature(tau: float) -> Transform:
    """Return p ↦ p^{1/τ} / Σ p^{1/τ}, for τ > 0.

    Raises:
        ValueError: τ that is not positive and finite; on calls, a row with NaN or without a possible token.

    Example:
        >>> log_probs = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
        >>> arguide.temperature(0.5)(log_probs).exp()
        tensor([0.5333, 0.3000, 0.1333, 0.0333])
    """
    checks.positive("tau", tau)
    return _lawful(lambda log_probs: log_probs / tau)


def top_k(k: int) -> Transform:
    """Return the law restricted to its k likeliest tokens, and those as likely as the k-th.

    Raises:
        ValueError: k below 1; on calls, a row with NaN or without a possible token.

    Example:
        >>> log_probs = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
        >>> arguide.top_k(2)(log_probs).exp()
        tensor([0.5714, 0.4286, 0.0000, 0.0000])
    """
    checks.integer("k", k)

    def apply(log_probs: Tensor) -> Tensor:
        least = log_probs.topk(min(k, log_probs.shape[-1]), dim=-1).values[..., -1:]
        return log_probs.masked_fill(log_probs < least, -math.inf)

    return _lawful(apply)


def nucleus(mass: float) -> Transform:
    """Return the restriction to the smallest set of likeliest tokens whose total probability is at least `mass` (top-p).

    Raises:
        ValueError: a mass outside (0, 1]; on calls, a row with NaN or without a possible token.

    Example:
        >>> log_probs = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
        >>> arguide.nucleus(0.8)(log_probs).exp()
        tensor([0.4444, 0.3333, 0.2222, 0.0000])
    """
    return _smallest_set(mass, torch.neg)


def typical(mass: float) -> Transform:
    """Return the restriction to the tokens of least |−log p − H|, H the entropy, as few as have the probability `mass`.

    Raises:
        ValueError: a mass outside (0, 1]; on calls, a row with NaN or without a possible token.

    Example:
        >>> log_probs = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
        >>> arguide.typical(0.5)(log_probs).exp()
        tensor([0.4444, 0.3333, 0.2222, 0.0000])
    """

    def distance(log_probs: Tensor) -> Tensor:
        entropy = -torch.special.xlogy(log_probs.exp(), log_probs.exp()).sum(-1, keepdim=True)
        return (-log_probs - entropy).abs()

    return _smallest_set(mass, distance)


def only(tokens: Sequence[int]) -> Transform:
    """Return the law restricted to these tokens.

    Raises:
        ValueError: no tokens, or tokens that are no indices; on calls, a row with NaN or without a possible token.

    Example:
        >>> log_probs = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
        >>> arguide.only([0, 3])(log_probs).exp()
        tensor([0.8000, 0.0000, 0.0000, 0.2000])
    """
    kept = checks.tokens("tokens", tokens)
    return _lawful(lambda log_probs: log_probs.masked_fill(~(one_of(kept, log_probs) | log_probs.isnan()), -math.inf))


def defensive(share: float) -> Transform:
    """Return p ↦ (1 − ε) p + ε/K on the K possible tokens: a proposal without tiny probabilities.

    Under guidance a token that is almost never proposed may have so large a weight that log Ẑ is too low in nearly every run.
    With this proposal no weight exceeds p̃ K/ε. It costs about a share ε of the particles per token.

    Raises:
        ValueError: a share outside [0, 1); on calls, a law without a possible token.

    Example:
        >>> log_probs = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
        >>> arguide.defensive(0.2)(log_probs).exp()
        tensor([0.3700, 0.2900, 0.2100, 0.1300])
    """
    checks.number("share", share, "in [0, 1)", lambda found: 0 <= found < 1)
    if share == 0:
        return identity

    def apply(log_probs: Tensor) -> Tensor:
        possible = ~(log_probs == -math.inf)
        if not checks.tensor("log_probs", log_probs).amax(-1).isfinite().all():
            raise ValueError(NO_LAW)
        even = math.log(share) - possible.sum(-1, keepdim=True).to(log_probs).log()
        return torch.logaddexp(log_probs + math.log1p(-share), even).masked_fill(~possible, -math.inf)

    return apply


def one_of(tokens: Sequence[int], like: Tensor) -> Tensor:
    """Return which entries of the vocabulary of log-probs [..., V] are among the tokens, [V]."""
    checks.within("tokens", max(tokens), like.shape[-1])
    which = torch.zeros(like.shape[-1], dtype=torch.bool, device=like.device)
    which[list(tokens)] = True
    return which


def _smallest_set(mass: float, rank: Callable[[Tensor], Tensor]) -> Transform:
    """Return the restriction to the tokens of lowest rank, up to the one where their probability reaches `mass`."""
    checks.number("mass", mass, "in (0, 1]", lambda found: 0 < found <= 1)
    if mass == 1:
        return identity

    def apply(log_probs: Tensor) -> Tensor:
        order = rank(log_probs).argsort(stable=True, dim=-1)
        ranked = log_probs.gather(-1, order).exp()
        outside = ranked.cumsum(-1) - ranked >= mass
        return log_probs.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), -math.inf)

    return _lawful(apply)


def _lawful(logits_of: Transform) -> Transform:
    """Return the transform log_probs ↦ log_softmax(logits_of(log_probs))."""

    def apply(log_probs: Tensor) -> Tensor:
        law = logits_of(checks.tensor("log_probs", log_probs)).log_softmax(-1)
        if law[..., 0].isnan().any():  # in a row with NaN, or of −∞ alone, every entry is NaN
            raise ValueError(NO_LAW)
        return law

    return apply
