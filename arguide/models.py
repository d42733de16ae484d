r"""Autoregressive models, and their log-linear combinations, which are autoregressive models too.

A model maps a state and a token to a state that has the law of the next token. A combination normalises at every position, so
it *is* sequential guidance. Its normalizers Z_t are the difference from the joint law:

    q(x) = Π_t p̃(x_t | x_<t) / Z_t(x_<t),    Z_t(x_<t) = Σ_v Π_k p_k(v | x_<t)^{w_k}.

Source: Dieleman, "Guidance: a cheat code for diffusion models" (2022), https://sander.ai/2022/05/26/guidance.html, the section
on autoregressive models.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from arguide import checks
from arguide.guidance import combine, normalize
from arguide.product import Product


class State(Protocol):
    """A batch of n prefixes."""

    @property
    def log_probs(self) -> Tensor:
        """Law of the next token after each prefix, log p(x_t | x_<t), [n, V]."""
        ...


class Autoregressive(Protocol):
    """A law of sequences, one token at a time; its condition, if any, is part of the model.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> model = table.autoregressive(1)
        >>> model.append(model.start(2), torch.tensor([0, 1])).log_probs.exp()
        tensor([[0.3333, 0.6667],
                [0.2857, 0.7143]], dtype=torch.float64)
    """

    def start(self, n: int) -> Any:
        """Return the state of n empty prefixes."""
        ...

    def append(self, state: Any, token: Tensor) -> Any:
        """Return the state after one more token per row, [n]."""
        ...

    def select(self, state: Any, index: Tensor) -> Any:
        """Return the state whose row i is row index[i] of this one: for reordering or resampling."""
        ...


class Composite:
    """A model made of others, whose state holds theirs as `branches`; every distinct model is read once."""

    models: tuple[Autoregressive, ...]

    @cached_property
    def _places(self) -> tuple[tuple[int, int] | None, ...]:
        """Return, per model, where another one of the models holds it, as (model, its branch); None if it is read itself."""
        held = {
            id(part): (i, k)
            for i, whole in enumerate(self.models)
            if isinstance(whole, Composite)
            for k, part in enumerate(whole.models)
        }
        return tuple(held.get(id(model)) for model in self.models)

    def _started(self, n: int) -> tuple[Any, ...]:
        return self._each(lambda i: self.models[i].start(n))

    def _appended(self, branches: Sequence[Any], token: Tensor) -> tuple[Any, ...]:
        return self._each(lambda i: self.models[i].append(branches[i], token))

    def _selected(self, branches: Sequence[Any], index: Tensor) -> tuple[Any, ...]:
        return self._each(lambda i: self.models[i].select(branches[i], index))

    def _each(self, read: Callable[[int], Any]) -> tuple[Any, ...]:
        """Return the state of every model, those that another model holds from its state."""
        own = {i: read(i) for i, place in enumerate(self._places) if place is None}

        def state(i: int) -> Any:
            place = self._places[i]
            return own[i] if place is None else state(place[0]).branches[place[1]]

        return tuple(map(state, range(len(self.models))))


class Combined(NamedTuple):
    """State of a `LogLinear`: the states of its branches, the guided log-probs [n, V], and log Z_t, [n]."""

    branches: tuple[Any, ...]
    position: int
    log_probs: Tensor
    log_normalizer: Tensor

    @property
    def laws(self) -> tuple[Tensor, ...]:
        """Log-probs of the next token of every branch, K tensors [n, V]."""
        return tuple(branch.log_probs for branch in self.branches)


@dataclass(frozen=True)
class LogLinear(Product[Autoregressive], Composite):
    """The sequential law Π_t (Π_k p_k(x_t|x_<t)^{w_k}) / Z_t(x_<t).

    Attributes:
        models: K models over one vocabulary.
        weights: K weights, or a function from the position t = 0, 1, … to K weights (a schedule of the scale).
        floor: the policy for improper tilts, see `arguide.guidance`.

    Raises:
        ValueError: no model, an object that is no model, or weights that are not one finite number per model.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> law = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 3.0)
        >>> state = law.start(1)
        >>> state.log_probs.exp(), state.log_normalizer
        (tensor([[0.1052, 0.8948]], dtype=torch.float64), tensor([0.2368], dtype=torch.float64))
    """

    floor: float | None = None
    _check_model = staticmethod(checks.model)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.floor is not None:
            checks.number("floor", self.floor)

    def start(self, n: int) -> Combined:
        """Return the state of n empty prefixes."""
        return self._combined(self._started(n), 0)

    def append(self, state: Combined, token: Tensor) -> Combined:
        """Return the state after one more token per row, [n]."""
        return self._combined(self._appended(state.branches, token), state.position + 1)

    def select(self, state: Combined, index: Tensor) -> Combined:
        """Return the state whose row i is row index[i] of this one.

        Raises:
            ValueError: weights with one value per row, which cannot follow the rows.
        """
        if any(isinstance(weight, Tensor) and weight.ndim for weight in self.weights_at(state.position)):
            raise ValueError("scale must be one number where rows are reordered, got one per row; try one scale for the batch")
        return Combined(
            self._selected(state.branches, index), state.position, state.log_probs[index], state.log_normalizer[index]
        )

    def resume(self, state: Combined | None, tokens: Tensor, kept: int) -> Combined:
        """Return the state after tokens, [n, t]; arguments as in `resumed`."""
        branches = (None,) * len(self.models) if state is None else state.branches
        return self._combined(self._each(lambda i: resumed(self.models[i], branches[i], tokens, kept)), tokens.shape[1])

    def _combined(self, branches: tuple[Any, ...], position: int) -> Combined:
        laws = [branch.log_probs for branch in branches]
        law = normalize(combine(laws, self.weights_at(position), floor=self.floor))
        return Combined(branches, position, *law)


def resumed(model: Autoregressive, state: Any, tokens: Tensor, kept: int) -> Any:
    """Return the state of n prefixes: from a former one if the model has `resume(state, tokens, kept)`, else read anew.

    Args:
        model: the model.
        state: a former state of the model, after other tokens, which becomes invalid; None if there is none.
        tokens: the prefixes, [n, t].
        kept: number of first tokens of every row that the former state has read, and that have not changed.
    """
    resume = getattr(model, "resume", None)
    return _after(model, tokens) if resume is None else resume(state, tokens, kept)


def check_law(model: Autoregressive, length: int = 3, *, keeps_states: bool = True, tolerance: float = 1e-4) -> None:
    """Raise ValueError unless a model satisfies, on a few random prefixes, what samplers assume.

    The law is normalised, [n, V], with one dtype and device and without NaN. `append` and `select` do not change the old state.
    `select` copies and reorders rows. The laws of a batch are those of its rows.

    Args:
        model: the model to check.
        length: number of tokens whose laws are read, 2 at least.
        keeps_states: False for a model whose `append` and `select` may change the old state, such as one with a cache.
        tolerance: largest difference of probabilities.

    Raises:
        ValueError: the first of these that fails, named in the message.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> arguide.check_law(table.autoregressive(1), length=2)
    """
    checks.model("model", model), checks.integer("length", length, 2), checks.positive("tolerance", tolerance)
    generator, index = torch.Generator().manual_seed(0), torch.tensor([2, 0, 0, 1])
    state, rows = model.start(3), torch.empty(3, 0, dtype=torch.long)
    first = law = _law(state, 3)
    for _ in range(length - 2):
        token = torch.multinomial(law.exp().cpu().double(), 1, generator=generator)
        old, state, before = state, model.append(state, token[:, 0].to(first.device)), law
        rows, law = torch.cat([rows, token], 1), _law(state, 3, first)
        if keeps_states:
            _same("`append` must not change the law of the old state", _law(old, 3, first), before, tolerance)
    chosen = model.select(state, index.to(first.device))
    if keeps_states:
        _same("`select` must not change the law of the old state", _law(state, 3, first), law, tolerance)
    _same("`select` must return rows index[i] of the state", _law(chosen, 4, first), law[index], tolerance)
    token = law[index].argmax(1, keepdim=True)
    after = _law(model.append(chosen, token[:, 0]), 4, first)
    alone = torch.cat([_law(_after(model, row[None]), 1, first) for row in torch.cat([rows[index], token.cpu()], 1)])
    _same("a batch must give the laws of its rows, each read alone, after `select` too", after, alone, tolerance)


def _after(model: Autoregressive, rows: Tensor) -> Any:
    """Return the state after prefixes, [n, t]."""
    state = model.start(len(rows))
    for token in rows.unbind(1):
        state = model.append(state, token.to(state.log_probs.device))
    return state


def _law(state: Any, n: int, first: Tensor | None = None) -> Tensor:
    """Return the law of a state, [n, V], or raise ValueError."""
    law = getattr(state, "log_probs", None)
    if not isinstance(law, Tensor) or not law.is_floating_point() or law.ndim != 2 or len(law) != n:
        raise checks.refusal("log_probs", f"a floating-point tensor [{n}, V]", law)
    if first is not None and (law.shape[1], law.dtype, law.device) != (first.shape[1], first.dtype, first.device):
        raise checks.refusal("log_probs", f"of {first.shape[1]} tokens, {first.dtype} on {first.device}, at every step", law)
    total = law.double().logsumexp(1)
    if not (total.abs() < 1e-3).all():
        raise checks.refusal("Σ_v exp(log_probs)", "1 in every row", total.exp().tolist(), "try log_softmax(-1)")
    return law


def _same(law: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Raise ValueError unless two laws are the same."""
    distance = float((found.double().exp() - expected.double().exp()).abs().max())
    if not distance <= tolerance:
        raise ValueError(f"{law}, got a difference of {distance:.2g} in probability")
