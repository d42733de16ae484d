r"""What is guided: autoregressive models, and their log-linear combinations, which are autoregressive models again.

A model is stepped on an explicit state that holds the law of the next token. The combination normalises at every
position, so it *is* sequential guidance; the normalizers Z_t it keeps are what separates it from the joint law:

    q(x) = Π_t p̃(x_t | x_<t) / Z_t(x_<t),    Z_t(x_<t) = Σ_v Π_k p_k(v | x_<t)^{w_k}.

Source: Dieleman, "Guidance: a cheat code for diffusion models" (2022), the section on autoregressive models.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

from torch import Tensor

from arguide import checks
from arguide.guidance import Weight, check_temperature, combine, composition_weights, normalize

Weights = Sequence[Weight] | Callable[[int], Sequence[Weight]]


class State(Protocol):
    """A batch of n prefixes."""

    @property
    def log_probs(self) -> Tensor:
        """Law of the next token after each prefix, log p(x_t | x_<t), [n, V]."""
        ...


class Autoregressive(Protocol):
    """A law of sequences, one token at a time; its condition, if any, is part of the model."""

    def start(self, n: int) -> Any:
        """Return the state of n empty prefixes."""
        ...

    def append(self, state: Any, token: Tensor) -> Any:
        """Return the state after one more token a row, [n]."""
        ...

    def select(self, state: Any, index: Tensor) -> Any:
        """Return the state whose row i is row index[i] of this one: a reordering, or a resampling."""
        ...


class Combined(NamedTuple):
    """State of a `LogLinear`: its branches' states, and the guided law with its log normalizer log Z_t, [n]."""

    branches: tuple[Any, ...]
    position: int
    log_probs: Tensor
    log_normalizer: Tensor

    @property
    def laws(self) -> tuple[Tensor, ...]:
        """Every branch's own law of the next token, K tensors [n, V]."""
        return tuple(branch.log_probs for branch in self.branches)


@dataclass(frozen=True)
class LogLinear:
    """The sequential law Π_t (Π_k p_k(x_t|x_<t)^{w_k}) / Z_t(x_<t).

    Attributes:
        models: K models over one vocabulary.
        weights: K weights, or a function from the position t = 0, 1, … to K weights (a schedule of the scale).
        floor: the policy for improper tilts, see `arguide.guidance`.

    Raises:
        ValueError: no model, what is no model, or weights that are not one finite number per model.
    """

    models: tuple[Autoregressive, ...]
    weights: Weights
    floor: float | None = None

    def __post_init__(self) -> None:
        if not callable(self.weights):
            checks.matched("weights", self.weights, self.models, "model")
            for weight in self.weights:
                checks.finite("weights", weight)
        for model in self.models:
            checks.model("models", model)
        if self.floor is not None:
            checks.number("floor", self.floor)

    @classmethod
    def guidance(
        cls,
        cond: Autoregressive,
        uncond: Autoregressive,
        scale: Weight | Callable[[int], Weight],
        *,
        temperature: float = 1.0,
    ) -> Self:
        """Return p(x_t|x_<t)^{(1−γ)/τ} p(x_t|x_<t,y)^{γ/τ} at every position; γ a number, one a row, or a function of t."""
        scales = (lambda position: (scale(position),)) if callable(scale) else (scale,)
        return cls.composition(uncond, (cond,), scales, temperature=temperature)

    @classmethod
    def composition(
        cls, uncond: Autoregressive, conds: Sequence[Autoregressive], scales: Weights, *, temperature: float = 1.0
    ) -> Self:
        """Return p(x_t|x_<t)^{(1 − Σ_i γ_i)/τ} Π_i p(x_t|x_<t,y_i)^{γ_i/τ} at every position; a negative γ_i steers away.

        Args:
            scales: γ_i, K numbers or tensors with one a row, or a function of t to them.
        """
        check_temperature(temperature)

        def at(scales: Sequence[Weight]) -> tuple[Weight, ...]:
            checks.matched("scales", scales, conds, "condition", 0)
            return tuple(weight / temperature for weight in composition_weights(scales))

        return cls((*conds, uncond), (lambda position: at(scales(position))) if callable(scales) else at(scales))

    @classmethod
    def temperature(cls, model: Autoregressive, temperature: float) -> Self:
        """Return p(x_t|x_<t)^{1/τ} at every position; its joint law, p(x)^{1/τ}, is what power sampling draws from."""
        check_temperature(temperature)
        return cls((model,), (1 / temperature,))

    def start(self, n: int) -> Combined:
        """Return the state of n empty prefixes."""
        return self._combined(tuple(model.start(n) for model in self.models), 0)

    def append(self, state: Combined, token: Tensor) -> Combined:
        """Return the state after one more token a row, [n]."""
        pairs = zip(self.models, state.branches, strict=True)
        return self._combined(tuple(model.append(branch, token) for model, branch in pairs), state.position + 1)

    def select(self, state: Combined, index: Tensor) -> Combined:
        """Return the state whose row i is row index[i] of this one.

        Raises:
            ValueError: weights with one value a row, which cannot follow the rows.
        """
        if any(isinstance(weight, Tensor) and weight.ndim for weight in self._weights_at(state.position)):
            raise ValueError("rows with a scale of their own cannot be reordered; use one scale for the whole batch")
        pairs = zip(self.models, state.branches, strict=True)
        branches = tuple(model.select(branch, index) for model, branch in pairs)
        return Combined(branches, state.position, state.log_probs[index], state.log_normalizer[index])

    def _weights_at(self, position: int) -> Sequence[Weight]:
        return self.weights(position) if callable(self.weights) else self.weights

    def _combined(self, branches: tuple[Any, ...], position: int) -> Combined:
        laws = [branch.log_probs for branch in branches]
        law = normalize(combine(laws, self._weights_at(position), floor=self.floor))
        return Combined(branches, position, *law)
