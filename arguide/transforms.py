r"""What users put after guidance: temperature and truncations of the next-token law, and what proposals are made of.

A transform maps a law to a law, log-probs [..., V] to normalised log-probs [..., V]; `compose` chains them in the order
given. Guidance and temperature commute within a token; truncations and guidance do not, so truncate last.

Sources: Fan et al. (2018) for top-k; Holtzman et al., "The curious case of neural text degeneration" (2020) for the nucleus;
Meister et al., "Locally typical sampling" (2023); Hesterberg, "Weighted average importance sampling and defensive mixture
distributions" (1995).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from arguide import checks

Transform = Callable[[Tensor], Tensor]
NO_LAW = "log_probs must hold a possible token in every row and no NaN, got a row that does not; nothing is left to draw"


def identity(log_probs: Tensor) -> Tensor:
    """Return the law as it is."""
    return log_probs


def compose(*transforms: Transform) -> Transform:
    """Return the transform that applies the given ones, the first first."""
    for transform in transforms:
        checks.function("transforms", transform)

    def apply(log_probs: Tensor) -> Tensor:
        for transform in transforms:
            log_probs = transform(log_probs)
        return log_probs

    return apply


def temperature(tau: float) -> Transform:
    """Return p ↦ p^{1/τ} / Σ p^{1/τ}, for τ > 0."""
    checks.positive("tau", tau)
    return _lawful(lambda log_probs: log_probs / tau)


def top_k(k: int) -> Transform:
    """Return the law restricted to its k likeliest tokens; ties with the k-th stay."""
    checks.integer("k", k)

    def apply(log_probs: Tensor) -> Tensor:
        least = log_probs.topk(min(k, log_probs.shape[-1]), dim=-1).values[..., -1:]
        return log_probs.masked_fill(log_probs < least, -math.inf)

    return _lawful(apply)


def nucleus(mass: float) -> Transform:
    """Return the law restricted to the smallest set of likeliest tokens that holds at least `mass` (top-p)."""
    _check_mass(mass)
    if mass == 1:
        return identity
    return _lawful(lambda log_probs: _smallest_set(log_probs, -log_probs, mass))


def typical(mass: float) -> Transform:
    """Return the law restricted to the smallest set of tokens nearest the entropy, |−log p − H|, that holds `mass`."""
    _check_mass(mass)
    if mass == 1:
        return identity

    def apply(log_probs: Tensor) -> Tensor:
        entropy = -torch.special.xlogy(log_probs.exp(), log_probs.exp()).sum(-1, keepdim=True)
        return _smallest_set(log_probs, (-log_probs - entropy).abs(), mass)

    return _lawful(apply)


def only(tokens: Sequence[int]) -> Transform:
    """Return the law restricted to these tokens."""
    kept = checks.tokens("tokens", tokens)
    return _lawful(lambda log_probs: log_probs.masked_fill(~(one_of(kept, log_probs) | log_probs.isnan()), -math.inf))


def defensive(share: float) -> Transform:
    """Return p ↦ (1 − ε) p + ε/K on the K tokens that are possible: a proposal that misses none of them by far.

    Under guidance a token that is hardly ever proposed may weigh so much that log Ẑ is too low in nearly every run; from
    this proposal no weight exceeds p̃ K/ε. It costs about ε of the particles a token.
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
    """Return which entries of a vocabulary like that of log-probs [..., V] are these tokens, [V]."""
    checks.within("tokens", max(tokens), like.shape[-1])
    which = torch.zeros(like.shape[-1], dtype=torch.bool, device=like.device)
    which[list(tokens)] = True
    return which


def _smallest_set(log_probs: Tensor, rank: Tensor, mass: float) -> Tensor:
    """Keep the tokens of least rank up to the one whose cumulated probability reaches `mass`."""
    order = rank.argsort(stable=True, dim=-1)
    ranked = log_probs.gather(-1, order).exp()
    before = ranked.cumsum(-1) - ranked
    return log_probs.masked_fill(torch.zeros_like(ranked, dtype=torch.bool).scatter(-1, order, before >= mass), -math.inf)


def _lawful(logits_of: Transform) -> Transform:
    """Return the transform of laws to the laws of these logits; NaN in a row, or −∞ alone, makes its first entry NaN."""

    def apply(log_probs: Tensor) -> Tensor:
        law = logits_of(checks.tensor("log_probs", log_probs)).log_softmax(-1)
        if law[..., 0].isnan().any():
            raise ValueError(NO_LAW)
        return law

    return apply


def _check_mass(mass: float) -> None:
    checks.number("mass", mass, "in (0, 1]", lambda found: 0 < found <= 1)
