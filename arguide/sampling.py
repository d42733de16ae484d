r"""Drawing from an autoregressive law, token by token: sequential sampling.

`init` and `step` are pure; `sample` is the thin loop over them. All randomness goes through one seam, `draw`: log-probs
[n, V] to tokens [n]. Running the sampler once along every branch of that seam gives its exact law.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arguide import checks
from arguide.models import Autoregressive
from arguide.stopping import check_length
from arguide.transforms import Transform, identity

Draw = Callable[[Tensor], Tensor]
Propose = Callable[[Any], Tensor]


class State(NamedTuple):
    """n prefixes: the model's state and the tokens so far, [n, t]."""

    model: Any
    tokens: Tensor


class Info(NamedTuple):
    """What one step did, each [n].

    log_target: log Π_k p_k(x_t|x_<t)^{w_k} of the drawn token, unnormalised.
    log_proposal: log-probability with which it was drawn.
    log_normalizer: log Z_t(x_<t); without a transform, and from the sequential law, it is the difference of the two.
    """

    log_target: Tensor
    log_proposal: Tensor
    log_normalizer: Tensor


class Sample(NamedTuple):
    """n sequences: tokens [n, T], and `Info`'s rows for every step, [n, T] each."""

    tokens: Tensor
    log_target: Tensor
    log_proposal: Tensor
    log_normalizer: Tensor


def categorical(generator: torch.Generator | None = None) -> Draw:
    """Return the draw of one token a row, where its distribution function exceeds a uniform level; never one of probability 0.

    One random number a row, of 53 bits: `torch.multinomial` draws one for every token of the law.

    Raises:
        ValueError: when it draws, from a law without a token, or with NaN.
    """

    def draw(log_probs: Tensor) -> Tensor:
        wide = torch.float32 if log_probs.device.type == "mps" else torch.float64  # which that device lacks
        probs = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32)).exp()
        cumulated = probs.to(wide).cumsum_(-1)
        level = torch.rand(len(cumulated), 1, generator=generator, dtype=wide, device=log_probs.device) * cumulated[:, -1:]
        # Rounded, u · total stays below the total for every u < 1; where nothing exceeds it there was no law.
        token = torch.searchsorted(cumulated, level, right=True).squeeze(-1)
        if (token == cumulated.shape[-1]).any():
            raise ValueError("nothing to draw from: a law without a token of positive probability, or with NaN")
        return token

    return draw


def sequential(state: Any) -> Tensor:
    """Propose from the model's own law, which for a combination is sequential guidance."""
    law: Tensor = state.log_probs
    return law


def branch(k: int) -> Propose:
    """Return the proposal that draws from branch k of a combination alone, the conditional model say."""
    return lambda state: state.laws[k]


def init(model: Autoregressive, n: int) -> State:
    """Return n empty prefixes."""
    state = model.start(n)
    return State(state, torch.empty((n, 0), dtype=torch.long, device=state.log_probs.device))


def step(
    model: Autoregressive,
    state: State,
    draw: Draw,
    transform: Transform = identity,
    propose: Propose = sequential,
    *,
    last: bool = False,
) -> tuple[State, Info]:
    """Draw one token a row from the transformed proposal and append it; the `last` one leaves the model without a state.

    A row with no token left (the branches' supports are disjoint, Z_t = 0) gets token 0 and log_target = −∞.
    """
    guided, law = state.model.log_probs, propose(state.model)
    log_normalizer = getattr(state.model, "log_normalizer", None)
    if log_normalizer is None:
        log_normalizer = torch.where(guided.amax(-1) == -math.inf, -math.inf, torch.zeros_like(guided[:, 0]))
    dead = log_normalizer == -math.inf
    if dead.any():
        law = torch.where(dead[:, None], 0.0, law).log_softmax(-1)
    law = transform(law)
    token = torch.where(dead, 0, draw(law))
    at = token[:, None]
    log_target = guided.gather(-1, at).squeeze(-1) + log_normalizer
    info = Info(log_target, law.gather(-1, at).squeeze(-1), log_normalizer)
    return State(None if last else model.append(state.model, token), torch.cat([state.tokens, at], -1)), info


def sample(
    model: Autoregressive,
    n: int,
    length: int,
    *,
    draw: Draw | None = None,
    generator: torch.Generator | None = None,
    transform: Transform = identity,
    propose: Propose = sequential,
) -> Sample:
    """Draw n sequences of `length` tokens from Π_t transform(p(x_t | x_<t)), fewer if all have ended before.

    Args:
        model: any autoregressive law; a `LogLinear` makes this sequential guidance or temperature.
        draw: the seam of randomness; `categorical(generator)` by default.
        transform: temperature and truncations after guidance.
        propose: what is transformed; the model's own law by default.

    Raises:
        ValueError: a prefix after which no token has positive probability; no row, a length below 0, or what is no model.
    """
    check(model, n, length)
    for name, part in (("draw", draw or categorical), ("transform", transform), ("propose", propose)):
        checks.function(name, part)
    drawn = rollout(model, n, length, draw=draw or categorical(generator), transform=transform, propose=propose)
    dead = (drawn.log_target == -math.inf).any(0)
    if dead.any():
        raise ValueError(f"dead end at position {int(dead.int().argmax())}: the branches leave no possible token")
    return drawn


def check(model: Autoregressive, n: int, length: int, least: int = 0) -> None:
    """Raise ValueError unless n rows of `length` tokens can be asked of a model."""
    checks.model("model", model)
    checks.integer("n", n)
    checks.integer("length", length, least)


def rollout(
    model: Autoregressive,
    n: int,
    length: int,
    *,
    draw: Draw,
    transform: Transform = identity,
    propose: Propose = sequential,
) -> Sample:
    """Draw as `sample` does; where a prefix leaves no possible token log_target is −∞."""
    check_length(model, length)
    state = init(model, n)
    infos: list[Info] = []
    for t in range(length):
        state, info = step(model, state, draw, transform, propose, last=t == length - 1)
        infos.append(info)
        if ended(state.model):
            break
    return Sample(state.tokens, *stacked(infos, state))


def retrace(model: Autoregressive, tokens: Tensor, *, transform: Transform = identity, propose: Propose = sequential) -> Sample:
    """Return given sequences, [n, T], as the sample that they would be if they had been drawn.

    Raises:
        ValueError: tokens outside the vocabulary.
    """
    columns, ends = iter(tokens.unbind(1)), tokens.aminmax() if tokens.numel() else (0, 0)
    least, largest = map(int, ends)
    checks.integer("tokens", least, 0)

    def repeat(law: Tensor) -> Tensor:
        checks.within("tokens", largest, law.shape[-1])
        return next(columns).to(law.device)

    return rollout(model, *tokens.shape, draw=repeat, transform=transform, propose=propose)


def ended(state: Any) -> bool:
    """Whether every row of a model's state has come to its end; a model without ends never has."""
    finished = getattr(state, "finished", None)
    return finished is not None and bool(finished.all())


def stacked(infos: list[Info], state: State) -> Info:
    """Return the infos of all steps as one, [n, T] each."""
    if not infos:
        return Info(*state.model.log_probs.new_empty((3, len(state.tokens), 0)))
    return Info(*(torch.stack(column, 1) for column in zip(*infos, strict=True)))
