r"""`MarkovChain`: class-conditional Markov chains, exact at any length by transfer matrices in O(T·V²).

With first (i) = Σ_k w_k log p_k(x_1 = i) and step(i, j) = Σ_k w_k log p_k(j | i), both guided laws are Markov:

* joint: p(x) ∝ exp(first(x_1) + Σ_t step(x_t, x_{t+1})), normalised by backward messages
  m_t(i) = log Σ_j exp(step(i, j) + m_{t+1}(j)), m_T = 0, and log Z = log Σ_i exp(first(i) + m_1(i));
* sequential: every row of exp(step) is normalised on its own, Z_{t+1}(i) = Σ_j exp step(i, j), without messages.

The unconditional law must itself be Markov, and a mixture of chains is not. The default is the chain of the pooled expected
transition counts, which is what an unconditional model of order one would learn.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from analysis.toys import checks
from analysis.toys.autoregressive import ChainModel
from analysis.toys.law import Guided, Label, Weights, check_precise, check_proper, log_combine, log_divide

CHUNK = 256  # steps whose transitions are made at once, V² numbers each


class MarkovLaw(NamedTuple):
    """A law over V^T that is ∝ exp(first(x_1) + Σ_t step(x_t, x_{t+1})).

    first: [V]; step: [V, V]; messages: m_t, [T, V]; log_normalizer: log Z, [].
    """

    first: Tensor
    step: Tensor
    messages: Tensor
    log_normalizer: Tensor

    @property
    def length(self) -> int:
        """T."""
        return len(self.messages)

    def log_initial(self) -> Tensor:
        """Return log p(x_1), [V]."""
        return self.first + self.messages[0] - self.log_normalizer

    def log_transition(self, t: int) -> Tensor:
        """Return log p(x_{t+1} = j | x_t = i) for t = 1 … T − 1, [V, V]; rows of −∞ for states that have no future."""
        checks.integer("t", t, 1, self.length - 1)
        return log_divide(self.step + self.messages[t], self.messages[t - 1][:, None])

    def marginals(self) -> Tensor:
        """Return p(x_t = i), [T, V]."""
        return torch.cat([self.log_initial().exp()[None], *(rows[1:] for rows, _ in self._walk())])

    def transition_counts(self) -> Tensor:
        """Return the expected number of steps from i to j, Σ_t p(x_t = i, x_{t+1} = j), [V, V]."""
        counts = torch.zeros_like(self.step)
        for rows, transitions in self._walk():
            counts += torch.einsum("ti,tij->ij", rows[:-1], transitions)
        return counts

    def expectation(self, first: Tensor, step: Tensor) -> Tensor:
        """Return E[first(x_1) + Σ_t step(x_t, x_{t+1})], []; values where the law has no mass are ignored."""
        checks.alike("first", first, "the law's", self.first)
        checks.alike("step", step, "the law's", self.step)
        masses = ((self.log_initial().exp(), first), (self.transition_counts(), step))
        return torch.stack([(mass * torch.where(mass > 0, value, 0.0)).sum() for mass, value in masses]).sum()

    def _walk(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, in blocks of c ≤ CHUNK steps, the marginals before and after them, [c + 1, V], and transitions, [c, V, V]."""
        last = self.log_initial().exp()
        blocks = zip(torch.split(self.messages[:-1], CHUNK), torch.split(self.messages[1:], CHUNK), strict=True)
        for messages, ahead in blocks:
            transitions = log_divide(self.step + ahead[:, None], messages[:, :, None]).exp()
            rows = torch.stack(list(accumulate(transitions, torch.matmul, initial=last)))
            last = rows[-1]
            yield rows, transitions

    def entropy(self) -> Tensor:
        """Return −E[log p(x)] in nats, []."""
        return self.log_normalizer - self.expectation(self.first, self.step)

    def kl(self, other: "MarkovLaw") -> Tensor:
        """Return KL(self ‖ other) in nats, []."""
        checks.alike("other's messages", other.messages, "this law's", self.messages)
        return self.expectation(self.first - other.first, self.step - other.step) - self.log_normalizer + other.log_normalizer

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x), [n, T] ↦ [n].

        Raises:
            ValueError: codes outside 0 … V − 1, or another length.
        """
        checks.codes("x", x, [len(self.first)] * self.length)
        return self.first[x[:, 0]] + self.step[x[:, :-1], x[:, 1:]].sum(1) - self.log_normalizer

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n sequences, [n, T]."""
        checks.integer("n", n)
        tokens = [torch.multinomial(self.log_initial().exp(), n, replacement=True, generator=generator)]
        for t in range(1, self.length):
            rows = self.log_transition(t).exp()[tokens[-1]]
            tokens.append(torch.multinomial(rows, 1, generator=generator)[:, 0])
        return torch.stack(tokens, 1)


class MarkovChain(Guided[MarkovLaw, tuple[MarkovLaw, tuple[Tensor, Tensor]]]):
    """Class-conditional chains p(x_1 | y) Π_t p(x_{t+1} | x_t, y) of one length, with a Markov p(x).

    Args:
        initial: p(x_1 | y), [K, V].
        transition: p(x_{t+1} = j | x_t = i, y), [K, V, V].
        length: T.
        prior: p(y), [K]; uniform by default. Only the default unconditional chain uses it.
        unconditional: (p(x_1) [V], p(x_{t+1} | x_t) [V, V]); pooled by default.
        labels: K names.

    Raises:
        ValueError: shapes that do not fit, entries that are no probabilities, or T < 1.

    Example:
        >>> chain = analysis.MarkovChain([[0.5, 0.5], [0.9, 0.1]], [[[0.8, 0.2], [0.3, 0.7]], [[0.6, 0.4], [0.5, 0.5]]], 4)
        >>> chain.joint_guided(1, 3.0).log_normalizer
        tensor(0.7928, dtype=torch.float64)
    """

    def __init__(
        self,
        initial: Tensor | Sequence[Any],
        transition: Tensor | Sequence[Any],
        length: int,
        *,
        prior: Tensor | None = None,
        unconditional: tuple[Tensor, Tensor] | None = None,
        labels: tuple[str, ...] | None = None,
    ) -> None:
        initial, transition = checks.real("initial", initial), checks.real("transition", transition)
        checks.require(
            initial.ndim == 2 and 0 not in initial.shape, "initial", "[K, V], one row per label of the chain", initial
        )
        wanted = (*initial.shape, initial.shape[1])
        checks.require(transition.shape == wanted, "transition", f"[K, V, V] as initial, {wanted}", transition)
        checks.integer("length", length)
        checks.probabilities("the rows of a chain", initial, transition)
        self.length, self.labels = length, checks.names(labels, len(initial))
        self._laws: dict[int | None, tuple[Tensor, Tensor]] = dict(enumerate(zip(initial.log(), transition.log(), strict=True)))
        prior = _checked_prior(prior, len(initial))
        first, step = _checked_pair(self._pooled(prior) if unconditional is None else unconditional, initial.shape[1])
        self._laws[None] = first.log(), step.log()

    @property
    def size(self) -> int:
        """V."""
        return len(self._laws[0][0])

    def log_joint(self, weights: Weights) -> MarkovLaw:
        """Return the joint law Π_k p(x|y_k)^{w_k} / Z, with its log Z.

        Raises:
            ValueError: an improper tilt, or laws that share no sequence.
        """
        first, step = self._combined(weights)
        messages = [torch.zeros(self.size, dtype=torch.float64)]
        for _ in range(self.length - 1):
            messages.append((step + messages[-1]).logsumexp(1))
        log_normalizer = (first + messages[-1]).logsumexp(0)
        if log_normalizer == -math.inf:
            raise ValueError("the combined laws must share a sequence of positive probability, got laws that share none")
        return MarkovLaw(first, step, torch.stack(messages[::-1]), log_normalizer)

    def log_sequential(self, weights: Weights) -> tuple[MarkovLaw, tuple[Tensor, Tensor]]:
        """Return the sequential law, and its log normalizers (log Z_1 [], log Z_{t+1}(x_t) [V], the same at every t).

        Raises:
            ValueError: an improper tilt.
        """
        first, step = self._combined(weights)
        log_z1, log_z = first.logsumexp(0), step.logsumexp(1)
        zeros = torch.zeros(self.length, self.size, dtype=torch.float64)
        law = MarkovLaw(first - log_z1, log_divide(step, log_z[:, None]), zeros, zeros[0, 0])
        return law, (log_z1, log_z)

    def autoregressive(self, label: Label = None) -> ChainModel:
        """Return p(x | label) as an autoregressive model over V tokens."""
        return ChainModel(*self._laws[self.index(label)])

    def _combined(self, weights: Weights) -> tuple[Tensor, Tensor]:
        """Return the combined first [V] and step [V, V]; −∞ in the rows of states that no sequence leaves."""
        checks.weights(weights)
        values = list(weights.values())
        firsts, steps = zip(*(self._laws[self.index(label)] for label in weights), strict=True)
        first, step = check_proper(log_combine(firsts, values)), log_combine(steps, values)
        check_precise(first, firsts, values), check_precise(step, steps, values)
        return first, check_proper(step.masked_fill(~_left(first, step, self.length)[:, None], -math.inf))

    def _pooled(self, prior: Tensor) -> tuple[Tensor, Tensor]:
        """Return the chain of the expected initial and transition counts under p(y)."""
        laws = [self.log_law(label) for label in range(len(prior))]
        initial = prior @ torch.stack([law.log_initial().exp() for law in laws])
        counts = torch.tensordot(prior, torch.stack([law.transition_counts() for law in laws]), 1)
        total = counts.sum(1, keepdim=True)
        return initial, torch.where(total > 0, counts / total, 1 / len(counts))


def _left(first: Tensor, step: Tensor, length: int) -> Tensor:
    """Return which states some sequence of `length` reaches and leaves again, [V]."""
    reached = torch.zeros_like(first, dtype=torch.bool)
    if length > 1:
        reached = first > -math.inf
        for _ in range(min(length - 2, len(first))):
            reached = reached | (step[reached] > -math.inf).any(0)
    return reached


def _checked_prior(prior: Tensor | None, count: int) -> Tensor:
    """Return p(y) [K] in float64, uniform for None."""
    prior = torch.full((count,), 1 / count, dtype=torch.float64) if prior is None else checks.real("prior", prior)
    checks.require(prior.shape == (count,), "prior", f"one probability per label, [{count}]", prior)
    checks.probabilities("the prior of a chain", prior)
    return prior


def _checked_pair(laws: tuple[Tensor, Tensor], size: int) -> tuple[Tensor, Tensor]:
    """Return p(x_1) [V] and p(x_{t+1} | x_t) [V, V] in float64."""
    pair = isinstance(laws, Sequence) and len(laws) == 2
    checks.require(pair, "unconditional", "a pair of p(x_1) [V] and p(x_{t+1} | x_t) [V, V]", laws)
    first, step = (checks.real("unconditional", law) for law in laws)
    found = tuple(first.shape), tuple(step.shape)
    checks.require(found == ((size,), (size, size)), "unconditional", f"of shapes {(size,)} and {(size, size)}", found)
    checks.probabilities("the unconditional rows of a chain", first, step)
    return first, step
