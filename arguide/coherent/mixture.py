r"""A mixture of autoregressive models, which is an autoregressive model too.

    p(x) = Σ_k π_k p_k(x),    p(x_t | x_<t) = Σ_k ρ_k(x_<t) p_k(x_t | x_<t),    ρ_k(x_<t) ∝ π_k p_k(x_<t)

The pair (p_y, p) is *coherent*: p_y(x)/p(x) = ρ_y(x)/π_y ≤ 1/π_y, as Bayes' rule demands. A conditional and an unconditional
model that are learned separately, or by dropping labels, satisfy no such bound. Guided by a coherent pair, each token follows
p(x_t|x_<t) [ρ_y(x_≤t)/ρ_y(x_<t)]^γ, so guidance fades where the label is certain.

Sources: Cohn-Gordon et al., "Pragmatically informative image captioning with character-level inference", arXiv:1804.05417, and
"An incremental iterated response model of pragmatics", arXiv:1810.00367, for the same law by increments; Krause et al., "GeDi",
arXiv:2009.06367, and Yang & Klein, "FUDGE", arXiv:2104.05218, which guide another base model by such posteriors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arguide import checks
from arguide.guidance import Weight, normalize
from arguide.models import Autoregressive, Composite, LogLinear


class Mixed(NamedTuple):
    """State of a `Mixture`: the states of its components, log ρ_k of every prefix [n, K], and the log-probs [n, V]."""

    branches: tuple[Any, ...]
    log_posterior: Tensor
    log_probs: Tensor

    @property
    def laws(self) -> tuple[Tensor, ...]:
        """Log-probs of the next token of every component, K tensors [n, V]."""
        return tuple(branch.log_probs for branch in self.branches)


@dataclass(frozen=True, eq=False)
class Mixture(Composite):
    """The law Σ_k π_k p_k(x), with the posterior of its components as part of the state.

    Attributes:
        models: K models over one vocabulary, p_k = p(x|k).
        log_prior: log π, K numbers or a tensor [K]; the probabilities must sum to 1.

    Raises:
        ValueError: an object that is no model, or a prior that is not one probability per model with sum 1.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> mixture = arguide.Mixture([table.autoregressive(0), table.autoregressive(1)], table.log_prior())
        >>> mixture.guidance(1, 3.0).start(1).log_probs.exp()
        tensor([[0.1052, 0.8948]], dtype=torch.float64)
    """

    models: tuple[Autoregressive, ...]
    log_prior: Sequence[float] | Tensor

    def __post_init__(self) -> None:
        checks.matched("log_prior", self.log_prior, self.models, "model")
        for model in self.models:
            checks.model("models", model)
        object.__setattr__(self, "models", tuple(self.models))
        object.__setattr__(self, "log_prior", checked_prior(self.log_prior))

    def guidance(self, label: int, scale: Weight | Callable[[Any], Weight], *, temperature: float = 1.0) -> LogLinear:
        """Return the sequential law of γ guided by the coherent pair (p_y, p); all components are read once.

        Args:
            label: index y of the conditional model.
            scale: γ, a number or a function of the position.
            temperature: τ.

        Raises:
            ValueError: a label that the mixture lacks, or of prior 0, and as `LogLinear.guidance`.
        """
        return LogLinear.guidance(self.models[checked_label(self.log_prior, label)], self, scale, temperature=temperature)

    def start(self, n: int) -> Mixed:
        """Return the state of n empty prefixes.

        Raises:
            ValueError: models with different vocabularies.
        """
        branches = self._started(n)
        sizes = [branch.log_probs.shape[-1] for branch in branches]
        if len(set(sizes)) > 1:
            raise checks.refusal("models", "over one vocabulary", sizes, "these are the numbers of their tokens")
        like = branches[0].log_probs
        prior = torch.as_tensor(self.log_prior).to(like)
        return _mixed(branches, prior.expand(n, -1))

    def append(self, state: Mixed, token: Tensor) -> Mixed:
        """Return the state after one more token per row, [n]."""
        log_posterior = updated(state.log_posterior, state.laws, token)
        return _mixed(self._appended(state.branches, token), log_posterior)

    def select(self, state: Mixed, index: Tensor) -> Mixed:
        """Return the state whose row i is row index[i] of this one."""
        return Mixed(self._selected(state.branches, index), state.log_posterior[index], state.log_probs[index])


def mixed(laws: Sequence[Tensor], log_posterior: Tensor) -> Tensor:
    """Return log Σ_k ρ_k p_k(v), [..., V], of K laws [..., V] and log ρ, [..., K]."""
    return reduce(torch.logaddexp, [law + log_posterior[..., k, None] for k, law in enumerate(laws)])


def updated(log_posterior: Tensor, laws: Sequence[Tensor], token: Tensor) -> Tensor:
    """Return log ρ after one more token by Bayes' rule, [n, K]; −∞ after a token that no component can produce.

    Args:
        log_posterior: log ρ before the token, [n, K].
        laws: log p_k of the token, K tensors [n, V].
        token: [n].
    """
    return normalize(log_posterior + of_token(laws, token)).log_probs


def of_token(laws: Sequence[Tensor], token: Tensor) -> Tensor:
    """Return log p_k of one token per row, [n, K], from K laws [n, V] and tokens [n]."""
    return torch.cat([law.gather(-1, token[:, None]) for law in laws], -1)


def checked_prior(log_prior: Sequence[float] | Tensor) -> Tensor:
    """Return log π as a tensor [K] in double precision, or raise ValueError unless its probabilities sum to 1."""
    try:
        values = torch.as_tensor(log_prior, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise checks.refusal("log_prior", "K log-probabilities", log_prior) from None
    total = float(values.exp().sum())
    if values.ndim != 1 or not abs(total - 1) < 1e-6:
        raise checks.refusal("exp(log_prior)", "of sum 1", total, "try torch.tensor(prior).log()")
    return values.log_softmax(0)


def checked_label(log_prior: Tensor | Sequence[float], label: int) -> int:
    """Return the index of a component with a positive prior, or raise ValueError."""
    if not checks.integer("label", label, 0) < len(log_prior):
        raise checks.refusal("label", f"the index of a component, below {len(log_prior)}", label)
    if float(log_prior[label]) == -torch.inf:
        raise checks.refusal("label", "a component with a positive prior", label)
    return label


def _mixed(branches: tuple[Any, ...], log_posterior: Tensor) -> Mixed:
    return Mixed(branches, log_posterior, mixed([branch.log_probs for branch in branches], log_posterior))
