"""Tables, chains and n-grams as `arguide.Autoregressive`, which they satisfy by their shape; the exact law of a model."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor


class TableState(NamedTuple):
    """n prefixes of t tokens: the law of the next token, [n, V], and the flat index of each prefix in [V_1, …, V_t], [n]."""

    log_probs: Tensor
    prefix: Tensor
    position: int


class TableModel:
    """A table's conditionals as an `arguide.Autoregressive`."""

    def __init__(self, log_conditionals: tuple[Tensor, ...]) -> None:
        self._laws = [law.flatten(0, -2) if law.ndim > 1 else law[None] for law in log_conditionals]
        self._vocabulary = max(law.shape[1] for law in self._laws)

    def start(self, n: int) -> TableState:
        """Return n empty prefixes."""
        return self._state(torch.zeros(n, dtype=torch.long), 0)

    def append(self, state: TableState, token: Tensor) -> TableState:
        """Append one token per row, [n]; the law after the last variable is −∞, [n, V]."""
        if state.position >= len(self._laws):
            return state
        size = self._laws[state.position].shape[1]
        return self._state(state.prefix * size + token, state.position + 1)

    def select(self, state: TableState, index: Tensor) -> TableState:
        """Return the state whose row i is row index[i]."""
        return TableState(state.log_probs[index], state.prefix[index], state.position)

    def _state(self, prefix: Tensor, position: int) -> TableState:
        law = torch.full((len(prefix), self._vocabulary), -math.inf, dtype=torch.float64)
        if position < len(self._laws):
            rows = self._laws[position][prefix.clamp(max=len(self._laws[position]) - 1)]
            law[:, : rows.shape[1]] = rows
        return TableState(law, prefix, position)


class ChainState(NamedTuple):
    """n prefixes of a chain: the law of the next token, [n, V], which depends on the last token only."""

    log_probs: Tensor


class ChainModel:
    """A Markov chain as an `arguide.Autoregressive`."""

    def __init__(self, first: Tensor, step: Tensor) -> None:
        self._first, self._step = first, step

    def start(self, n: int) -> ChainState:
        """Return n empty prefixes."""
        return ChainState(self._first.expand(n, -1))

    def append(self, state: ChainState, token: Tensor) -> ChainState:
        """Append one token per row, [n]."""
        return ChainState(self._step[token])

    def select(self, state: ChainState, index: Tensor) -> ChainState:
        """Return the state whose row i is row index[i]."""
        return ChainState(state.log_probs[index])


class NgramState(NamedTuple):
    """n prefixes: the law of the next token, [n, V], and the context of each, [n]; S after the end."""

    log_probs: Tensor
    context: Tensor


class NgramModel:
    """An n-gram model as an `arguide.Autoregressive`; after the last token, which ends a text, only that token follows."""

    def __init__(self, log_probs: Tensor, following: Tensor, start: int) -> None:
        count, size = log_probs.shape
        ended = torch.full((1, size), -math.inf, dtype=log_probs.dtype)
        ended[0, -1] = 0.0
        self._laws, self._start = torch.cat([log_probs, ended]), start
        self._following = torch.cat([following, torch.full((1, size), count, dtype=following.dtype)])
        self._following[:, -1] = count

    def start(self, n: int) -> NgramState:
        """Return n empty prefixes."""
        return self._state(torch.full((n,), self._start))

    def append(self, state: NgramState, token: Tensor) -> NgramState:
        """Append one token per row, [n]."""
        return self._state(self._following[state.context, token].long())

    def select(self, state: NgramState, index: Tensor) -> NgramState:
        """Return the state whose row i is row index[i]."""
        return NgramState(state.log_probs[index], state.context[index])

    def _state(self, context: Tensor) -> NgramState:
        return NgramState(self._laws[context], context)


def law_of(model: Any, shape: tuple[int, ...]) -> Tensor:
    """Return the log law of an autoregressive model, [V_1, …, V_T], read along every branch.

    Args:
        model: an `arguide.Autoregressive`.
        shape: sizes (V_1, …, V_T), the number of tokens at every position.
    """
    return every_branch(model, shape)[0]


def every_branch(model: Any, shape: tuple[int, ...]) -> tuple[Tensor, Any]:
    """Return the log law as `law_of`, and the model's state after every sequence, with one row per sequence.

    Args:
        model: as in `law_of`.
        shape: as in `law_of`.
    """
    state, log_p = model.start(1), torch.zeros(1, dtype=torch.float64)
    for size in shape:
        rows = torch.arange(len(log_p))
        log_p = (log_p[:, None] + state.log_probs[:, :size]).flatten()
        state = model.append(model.select(state, rows.repeat_interleave(size)), torch.arange(size).repeat(len(rows)))
    return log_p.reshape(shape), state
