r"""Sequential sampling: draw from an autoregressive law, token by token.

`init` and `step` are pure; `sample` is a loop over them. All randomness comes from `draw`, log-probs [n, V] ↦ tokens [n], see
`arguide.smc.draws`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arguide import checks
from arguide.models import Autoregressive
from arguide.smc.draws import Draw
from arguide.smc.draws import categorical as categorical
from arguide.smc.driver import walk
from arguide.smc.samples import Info, Sample
from arguide.stopping import check_length
from arguide.transforms import Transform, identity

Propose = Callable[[Any], Tensor]


class State(NamedTuple):
    """n prefixes: the state of the model, and the tokens x, [n, t]."""

    model: Any
    x: Tensor


def sequential(state: Any) -> Tensor:
    """Propose from the model's own law, which for a combination is sequential guidance."""
    law: Tensor = state.log_probs
    return law


def branch(k: int) -> Propose:
    """Return the proposal that draws from branch k of a combination alone, such as the conditional model."""
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
    """Draw one token per row from the transformed proposal, and append it.

    A row without a possible token (Z_t = 0) gets token 0 and log_target = −∞. Without a transform, and from the sequential
    law, log_normalizer = log_target − log_proposal.

    Args:
        model: the model that `state` belongs to.
        state: n prefixes.
        draw: log-probs [n, V] ↦ tokens [n].
        transform: of the proposal.
        propose: model state ↦ log-probs of the proposal, [n, V].
        last: whether no token follows; the new state then has no model state.
    """
    guided, law = state.model.log_probs, propose(state.model)
    log_normalizer = getattr(state.model, "log_normalizer", None)
    if log_normalizer is None:
        log_normalizer = guided.new_zeros(len(guided)).masked_fill(guided.amax(-1) == -math.inf, -math.inf)
    dead = log_normalizer == -math.inf
    if dead.any():
        law = torch.where(dead[:, None], 0.0, law).log_softmax(-1)
    law = transform(law)
    token = torch.where(dead, 0, draw(law))
    at = token[:, None]
    log_target = guided.gather(-1, at).squeeze(-1) + log_normalizer
    info = Info(log_target, law.gather(-1, at).squeeze(-1), log_normalizer)
    return State(None if last else model.append(state.model, token), torch.cat([state.x, at], -1)), info


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
    """Draw n sequences of `length` tokens from Π_t transform(p(x_t | x_<t)), fewer tokens if all sequences have ended.

    Args:
        model: any autoregressive law; a `LogLinear` makes this sequential guidance or temperature.
        n: number of sequences.
        length: T, number of tokens.
        draw: log-probs [n, V] ↦ tokens [n]; `categorical(generator)` by default.
        generator: of the default draw.
        transform: temperature and truncations after guidance.
        propose: model state ↦ the law that is transformed; the model's own law by default.

    Raises:
        ValueError: a prefix after which no token has positive probability; n below 1, a length below 0, or no model.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> law = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 3.0)
        >>> drawn = arguide.sample(law, 1000, 2)
        >>> drawn.tokens.shape, drawn.log_normalizer.shape
        (torch.Size([1000, 2]), torch.Size([1000, 2]))
    """
    check_sizes(model, n, length)
    draw = checks.function("draw", draw or categorical(generator))
    checks.functions(transform=transform, propose=propose)
    drawn = rollout(model, n, length, draw=draw, transform=transform, propose=propose)
    dead = (drawn.log_target == -math.inf).any(0)
    if dead.any():
        at = int(dead.int().argmax())
        raise ValueError(f"dead end at position {at}: the branches leave no possible token; try a length of at most {at}")
    return drawn


def check_sizes(model: Autoregressive, n: int, length: int, least: int = 0) -> None:
    """Raise ValueError unless n and the length fit a model.

    Args:
        model: an autoregressive model; one with a cap needs the cap as its length.
        n: number of sequences, 1 at least.
        length: T.
        least: the smallest T that passes.
    """
    checks.model("model", model)
    checks.integer("n", n)
    check_length(model, checks.integer("length", length, least))


def rollout(
    model: Autoregressive,
    n: int,
    length: int,
    *,
    draw: Draw,
    transform: Transform = identity,
    propose: Propose = sequential,
) -> Sample:
    """Draw as `sample` does, without checks; log_target is −∞ where a prefix leaves no possible token.

    Args:
        model: as in `sample`, as are all other arguments.
        n: number of sequences.
        length: T.
        draw: log-probs [n, V] ↦ tokens [n].
        transform: of the proposal.
        propose: the proposal before the transform.
    """
    state = init(model, n)
    if length == 0:
        none = state.model.log_probs.new_empty((n, 0))
        return Sample(state.x, none, none, none)
    move = partial(step, model, draw=draw, transform=transform, propose=propose)
    return walk(state, [*[move] * (length - 1), partial(move, last=True)], stop=ended)


def retrace(model: Autoregressive, tokens: Tensor, *, transform: Transform = identity, propose: Propose = sequential) -> Sample:
    """Return given sequences with the densities that they would have if `sample` had drawn them.

    Args:
        model: as in `sample`.
        tokens: x, [n, T].
        transform: as in `sample`.
        propose: as in `sample`.

    Raises:
        ValueError: tokens outside the vocabulary, or a T that is not the cap of the model.
    """
    check_length(model, tokens.shape[1])
    columns, ends = iter(tokens.unbind(1)), tokens.aminmax() if tokens.numel() else (0, 0)
    least, largest = map(int, ends)
    checks.integer("tokens", least, 0)

    def repeat(law: Tensor) -> Tensor:
        checks.within("tokens", largest, law.shape[-1])
        return next(columns).to(law.device)

    return rollout(model, *tokens.shape, draw=repeat, transform=transform, propose=propose)


def ended(state: State) -> bool:
    """Whether every row has ended; False for a model without endings."""
    finished = getattr(state.model, "finished", None)
    return finished is not None and bool(finished.all())
