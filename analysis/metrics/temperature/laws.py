r"""Ways to lower the temperature of a law of sequences p, exactly: their laws, and their figures of merit.

    joint         p(x)^β / Z: the power of the whole text
    sequential    Π_t p(x_t|x_<t)^β / Z_t(x_<t): the temperature τ = 1/β of every factor
    top-k         every factor restricted to its k likeliest tokens
    top-p         every factor restricted to the likeliest tokens that together have the probability p

Tables and n-gram models have all four exactly. Figures of merit: the mean log-likelihood E_q[log p], the entropy and, on
tables, whose texts can be listed, the expected values of the statistics that `draws` estimates.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from scipy.optimize import root
from torch import Tensor

import arguide
from analysis.metrics import distances
from analysis.metrics.temperature.effective_beta import effective_beta, of_cells
from analysis.toys import Table
from analysis.toys.law import Label
from analysis.toys.ngrams import NgramModels, TextLaw
from arguide.transforms import Transform

JOINT, SEQUENTIAL, TOP_K, TOP_P = "joint", "sequential", "top-k", "top-p"
FORMS = {JOINT: "p^{:g}", SEQUENTIAL: "τ = 1/{:g}", TOP_K: "top-k {:g}", TOP_P: "top-p {:g}"}
# (setting) ↦ the transform of every factor; the joint law has none.
TRANSFORMS: Mapping[str, Callable[[Any], Transform]] = {
    SEQUENTIAL: lambda beta: arguide.temperature(1 / beta),
    TOP_K: lambda k: arguide.top_k(int(k)),
    TOP_P: arguide.nucleus,
}
LIKELIHOOD, ENTROPY, LENGTH = "log_likelihood", "entropy", "length"
DISTINCT, BIGRAMS, REPEATED = "distinct texts", "distinct bigrams", "repeated bigrams"
SIZE = 16  # texts per group, in which distinct texts and bigrams are counted


class Laws(Protocol):
    """The laws that lower temperatures make of one law p."""

    def power(self, beta: float) -> Any:
        """Return p(x)^β / Z."""
        ...

    def mean(self, beta: float) -> float:
        """Return E_{p^β/Z}[log p]."""
        ...

    def nearest(self, merits: Mapping[str, float]) -> tuple[float, Any]:
        """Return β* of a law with these figures of merit, and the power of equal likelihood; None where β* is 0 or ∞."""
        beta = effective_beta(self.mean, merits[LIKELIHOOD])
        return beta, self.power(beta) if 0 < beta < math.inf else None

    def transformed(self, transform: Transform) -> Any:
        """Return the law of p with every factor transformed."""
        ...

    def merits(self, law: Any) -> dict[str, float]:
        """Return the figures of merit of a law, its mean log-likelihood under p and its entropy among them."""
        ...


@dataclass(frozen=True)
class OfTable(Laws):
    """The laws of p(x | label) of a table, of p(x) for None, as log-probabilities [V_1, …, V_T]."""

    table: Table
    label: Label = None

    def power(self, beta: float) -> Tensor:
        """Return log p(x)^β / Z."""
        return self.table.log_joint({self.label: beta})[0]

    def mean(self, beta: float) -> float:
        """Return E_{p^β/Z}[log p]."""
        return of_cells(self.table.log_probs(self.label).flatten())(beta)

    def transformed(self, transform: Transform) -> Tensor:
        """Return the log law of p with every factor transformed; prefixes of probability 0 keep it."""
        log_q = torch.zeros((), dtype=torch.float64)
        for law in self.table.log_conditionals(self.label):
            dead = law.amax(-1, keepdim=True) == -math.inf
            rows = transform(torch.where(dead, 0.0, law)).masked_fill(dead, -math.inf)
            log_q = log_q[..., None] + rows
        return log_q

    def merits(self, law: Tensor) -> dict[str, float]:
        """Return the mean log-likelihood, the entropy, and the expected statistics of groups of texts."""
        found = distances.expectation(law, self.table.log_probs(self.label)), distances.entropy(law)
        return dict(zip((LIKELIHOOD, ENTROPY), map(float, found), strict=True)) | group_means(law)


@dataclass(frozen=True)
class OfTexts(Laws):
    """The laws of p(x | label) of whole texts of n-gram models; all are restricted to the texts that end within T tokens."""

    models: NgramModels
    label: Label = None

    def power(self, beta: float) -> TextLaw:
        """Return p(x)^β / Z."""
        return self.models.log_joint({self.label: beta})

    def mean(self, beta: float) -> float:
        """Return E_{p^β/Z}[log p]."""
        return float(self.power(beta).expectation(self.models.log_probs(self.label)))

    def transformed(self, transform: Transform) -> TextLaw:
        """Return the law of p with every factor transformed.

        Raises:
            ValueError: no text ends within T tokens.
        """
        return TextLaw(self.models.contexts, transform(self.models.log_probs(self.label)), self.models.length)

    def merits(self, law: TextLaw) -> dict[str, float]:
        """Return the mean log-likelihood, the entropy, and the mean length; draws give the rest."""
        likelihood = law.expectation(self.models.log_probs(self.label))
        return {LIKELIHOOD: float(likelihood), ENTROPY: float(law.entropy()), LENGTH: float(law.mean_length())}


@dataclass(frozen=True)
class OfLength(OfTexts):
    """The same laws beside powers of equal likelihood and equal mean length, p(x)^β e^{ρ·length} / Z.

    Of all laws with this mean log-likelihood and this mean length they have the largest entropy, and H(p^β*) − H(q) is again
    KL(q ‖ p^β*): a power of the whole text that may not save tokens.
    """

    def nearest(self, merits: Mapping[str, float]) -> tuple[float, TextLaw | None]:
        """Return β* and the power, by the minimum of log Z − β E_q[log p] − ρ E_q[length], which is convex in (β, ρ)."""
        aim = np.array([merits[LIKELIHOOD], merits[LENGTH]])

        def rewarded(at: np.ndarray) -> TextLaw:
            weights = float(at[0]) * self.models.log_probs(self.label) + float(at[1])
            return TextLaw(self.models.contexts, weights, self.models.length)

        def excess(at: np.ndarray) -> np.ndarray:
            found = self.merits(rewarded(at))
            return np.array([found[LIKELIHOOD], found[LENGTH]]) - aim

        found = root(excess, np.array([1.0, 0.0]), tol=1e-9)
        return (float(found.x[0]), rewarded(found.x)) if found.success else (math.inf, None)


def group_means(log_q: Tensor, size: int = SIZE) -> dict[str, float]:
    """Return the expected share of distinct texts and bigrams in a group of independent texts, and of repeated bigrams.

    Args:
        log_q: the log law of texts of T ≥ 2 tokens, [V_1, …, V_T].
        size: texts per group.
    """
    q, texts = log_q.exp().flatten().numpy(), np.array(list(product(*map(range, log_q.shape))))
    pairs = texts[:, :-1] * max(log_q.shape) + texts[:, 1:]
    occurs = np.stack([(pairs == pair).any(1) for pair in np.unique(pairs)], 1)
    return {
        LENGTH: float(texts.shape[1]),
        DISTINCT: float(_seen(q, size).sum() / size),
        BIGRAMS: float(_seen(q @ occurs, size).sum() / (size * pairs.shape[1])),
        REPEATED: float(1 - q @ occurs.sum(1) / pairs.shape[1]),
    }


def _seen(probability: np.ndarray, size: int) -> np.ndarray:
    """Return the probability that an event occurs in at least one of `size` independent texts."""
    return 1 - (1 - probability.clip(0, 1)) ** size


class Way(NamedTuple):
    """One setting of one family, beside the power p^β* of equal likelihood.

    family, setting: of the law q.
    merits: of q.
    beta: β*, see `analysis.metrics.temperature.effective_beta`.
    equal: the figures of merit of p^β*; those of the limit are missing, {}, where β* is 0 or ∞.
    pair: q and p^β*, None where it is missing.
    """

    family: str
    setting: float
    merits: dict[str, float]
    beta: float
    equal: dict[str, float]
    pair: tuple[Any, Any]

    @property
    def lost(self) -> float:
        """H(p^β*) − H(q) = KL(q ‖ p^β*), in nats; NaN where there is no β*."""
        return self.equal[ENTROPY] - self.merits[ENTROPY] if self.equal else math.nan


def way(laws: Laws, family: str, setting: float) -> Way | None:
    """Return one setting of one family, and the power of equal likelihood; None where no text ends in time.

    Args:
        laws: of the base law.
        family: a key of `TRANSFORMS`.
        setting: β, k or p.
    """
    transform = TRANSFORMS[family](setting)
    try:
        law = laws.transformed(transform)
    except ValueError:
        return None
    merits = laws.merits(law)
    beta, power = laws.nearest(merits)
    return Way(family, setting, merits, beta, {} if power is None else laws.merits(power), (law, power))


def ways(laws: Laws, settings: Mapping[str, Sequence[float]]) -> list[Way]:
    """Return the ways of all settings, {family: settings}, at which texts end."""
    found = (way(laws, family, setting) for family, several in settings.items() for setting in several)
    return [each for each in found if each is not None]
