r"""Drawing from an autoregressive law, token by token: sequential sampling.

`init` and `step` are pure; `sample` is the thin loop over them. All randomness goes through one seam, `draw`: log-probs
[n, V] to tokens [n]. Running the sampler once along every branch of that seam gives its exact law.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arguide.models import Autoregressive
from arguide.truncation import Transform, identity

Draw = Callable[[Tensor], Tensor]


class State(NamedTuple):
    """n prefixes: the model's state and the tokens so far, [n, t]."""

    model: Any
    tokens: Tensor


class Info(NamedTuple):
    """What one step did, each [n].

    log_target: log Π_k p_k(x_t|x_<t)^{w_k} of the drawn token, unnormalised.
    log_proposal: log-probability with which it was drawn. Without a transform the difference is log Z_t(x_<t).
    """

    log_target: Tensor
    log_proposal: Tensor


class Sample(NamedTuple):
    """n sequences: tokens [n, T], and `Info`'s rows for every step, [n, T] each."""

    tokens: Tensor
    log_target: Tensor
    log_proposal: Tensor


def categorical(generator: torch.Generator | None = None) -> Draw:
    """Return the draw that samples one token a row with `torch.multinomial`."""

    def draw(log_probs: Tensor) -> Tensor:
        return torch.multinomial(log_probs.exp(), 1, generator=generator).squeeze(-1)

    return draw


def init(model: Autoregressive, n: int) -> State:
    """Return n empty prefixes."""
    state = model.start(n)
    return State(state, torch.empty((n, 0), dtype=torch.long, device=state.log_probs.device))


def step(model: Autoregressive, state: State, draw: Draw, transform: Transform = identity) -> tuple[State, Info]:
    """Draw one token a row from the transformed law and append it.

    A row with no token left (the branches' supports are disjoint, Z_t = 0) gets token 0 and log_target = −∞.
    """
    guided = state.model.log_probs
    log_normalizer = getattr(state.model, "log_normalizer", torch.zeros_like(guided[:, 0]))
    dead = (guided == -math.inf).all(-1)
    law = transform(torch.where(dead[:, None], 0.0, guided).log_softmax(-1)) if dead.any() else transform(guided)
    token = torch.where(dead, 0, draw(law))
    at = token[:, None]
    log_target = torch.where(dead, -math.inf, guided.gather(-1, at).squeeze(-1) + log_normalizer)
    info = Info(log_target, law.gather(-1, at).squeeze(-1))
    return State(model.append(state.model, token), torch.cat([state.tokens, at], -1)), info


def sample(
    model: Autoregressive,
    n: int,
    length: int,
    *,
    draw: Draw | None = None,
    generator: torch.Generator | None = None,
    transform: Transform = identity,
) -> Sample:
    """Draw n sequences of `length` tokens from Π_t transform(p(x_t | x_<t)).

    Args:
        model: any autoregressive law; a `LogLinear` makes this sequential guidance or temperature.
        draw: the seam of randomness; `categorical(generator)` by default.
        transform: temperature and truncations after guidance.

    Raises:
        ValueError: a prefix after which no token has positive probability.
    """
    draw = draw or categorical(generator)
    state = init(model, n)
    log_target, log_proposal = state.model.log_probs.new_empty((2, n, length))
    for t in range(length):
        state, info = step(model, state, draw, transform)
        if (info.log_target == -math.inf).any():
            raise ValueError(f"dead end at position {t}: the branches leave no possible token")
        log_target[:, t], log_proposal[:, t] = info
    return Sample(state.tokens, log_target, log_proposal)
