r"""`MarkovChain`: class-conditional Markov chains, exact at any length by transfer matrices in O(T·V²).

With first (i) = Σ_k w_k log p_k(x_1 = i) and step(i, j) = Σ_k w_k log p_k(j | i), both guided laws are Markov:

* joint: p(x) ∝ exp(first(x_1) + Σ_t step(x_t, x_{t+1})), normalised by backward messages
  m_t(i) = log Σ_j exp(step(i, j) + m_{t+1}(j)), m_T = 0, and log Z = log Σ_i exp(first(i) + m_1(i));
* sequential: every row of exp(step) normalised by itself, Z_{t+1}(i) = Σ_j exp step(i, j), no messages.

The unconditional law must itself be Markov; a mixture of chains is not. Left out, it is the chain of the pooled expected
transition counts, what an unconditional model of order one would learn.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from analysis.toys import checks
from analysis.toys.law import Joint, Label, Weights, check_precise, check_proper, guidance, log_combine, log_divide

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
        rows = [rows for rows, _ in self._walk()]
        return torch.cat([self.log_initial().exp()[None], *(block[1:] for block in rows)])

    def expectation(self, first: Tensor, step: Tensor) -> Tensor:
        """Return E[first(x_1) + Σ_t step(x_t, x_{t+1})], []; values where the law has no mass do not count."""
        checks.alike("first", first, "the law's", self.first)
        checks.alike("step", step, "the law's", self.step)
        pairs = torch.zeros_like(self.step)
        for rows, transitions in self._walk():
            pairs += torch.einsum("ti,tij->ij", rows[:-1], transitions)
        return _weighted(self.log_initial().exp(), first) + _weighted(pairs, step)

    def _walk(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, in blocks of c ≤ CHUNK steps, the marginals before and after them, [c + 1, V], and transitions, [c, V, V]."""
        rows = [self.log_initial().exp()]
        for messages, ahead in zip(
            *(torch.split(part, CHUNK) for part in (self.messages[:-1], self.messages[1:])), strict=True
        ):
            transitions = log_divide(self.step + ahead[:, None], messages[:, :, None]).exp()
            rows = list(accumulate(transitions, torch.matmul, initial=rows[-1]))
            yield torch.stack(rows), transitions

    def entropy(self) -> Tensor:
        """Return −E[log p(x)] in nats, []."""
        return self.log_normalizer - self.expectation(self.first, self.step)

    def kl(self, other: "MarkovLaw") -> Tensor:
        """Return KL(self ‖ other), []."""
        checks.alike("other's messages", other.messages, "this law's", self.messages)
        gap = self.expectation(_gap(self.first, other.first), _gap(self.step, other.step))
        return gap - self.log_normalizer + other.log_normalizer

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
        initial = self.log_initial().exp()
        tokens = [torch.multinomial(initial, n, replacement=True, generator=generator)]
        for t in range(1, self.length):
            rows = self.log_transition(t).exp()[tokens[-1]]
            tokens.append(torch.multinomial(rows, 1, generator=generator)[:, 0])
        return torch.stack(tokens, 1)


class MarkovChain:
    """Class-conditional chains p(x_1 | y) Π_t p(x_{t+1} | x_t, y) of one length, with a Markov p(x).

    Args:
        initial: p(x_1 | y), [K, V].
        transition: p(x_{t+1} = j | x_t = i, y), [K, V, V].
        length: T.
        prior: p(y), [K]; uniform by default. Only the default unconditional chain uses it.
        unconditional: (p(x_1) [V], p(x_{t+1} | x_t) [V, V]); pooled by default.
        labels: K names.

    Raises:
        ValueError: shapes that do not fit, entries that are no probabilities, T < 1.
    """

    def __init__(
        self,
        initial: Tensor,
        transition: Tensor,
        length: int,
        *,
        prior: Tensor | None = None,
        unconditional: tuple[Tensor, Tensor] | None = None,
        labels: tuple[str, ...] | None = None,
    ) -> None:
        initial, transition = checks.real("initial", initial), checks.real("transition", transition)
        if initial.ndim != 2 or 0 in initial.shape:
            raise checks.refusal("initial", "[K, V], one row per label of the chain", initial)
        if transition.shape != (*initial.shape, initial.shape[1]):
            raise checks.refusal("transition", f"[K, V, V] as initial, {(*initial.shape, initial.shape[1])}", transition)
        checks.integer("length", length)
        _check_laws(initial, transition)
        prior = torch.full((len(initial),), 1 / len(initial)) if prior is None else checks.real("prior", prior)
        if prior.shape != (len(initial),):
            raise checks.refusal("prior", f"one probability per label, [{len(initial)}]", prior)
        self.length, self.labels = length, checks.names(labels, len(initial))
        self._laws: dict[int | None, tuple[Tensor, Tensor]] = {
            y: (initial[y].log(), transition[y].log()) for y in range(len(initial))
        }
        if unconditional is None:
            _check_laws(prior)
            unconditional = self._pooled(prior.double())
        unconditional = _unconditional(unconditional, initial.shape[1])
        self._laws[None] = (unconditional[0].double().log(), unconditional[1].double().log())

    @property
    def size(self) -> int:
        """V."""
        return len(self._laws[None][0])

    def index(self, label: Label) -> int | None:
        """Return a label's index from its index or its name; None stays None."""
        index = self.labels.index(label) if isinstance(label, str) and label in self.labels else label
        if not isinstance(index, int | None) or index not in self._laws:
            raise ValueError(f"no label {label!r}; the labels are {', '.join(self.labels[:20])}")
        return index

    def log_joint(self, weights: Weights) -> MarkovLaw:
        """Return the joint law Π_k p(x|y_k)^{w_k} / Z, its normalizer in it.

        Raises:
            ValueError: an improper tilt, or laws that share no sequence.
        """
        checks.weights(weights)
        first, step = self._combined(weights)
        messages = [torch.zeros(self.size, dtype=torch.float64)]
        for _ in range(self.length - 1):
            messages.append((step + messages[-1]).logsumexp(1))
        log_normalizer = (first + messages[-1]).logsumexp(0)
        if log_normalizer == -math.inf:
            raise ValueError("the laws combined share no sequence of positive probability")
        return MarkovLaw(first, step, torch.stack(messages[::-1]), log_normalizer)

    def log_sequential(self, weights: Weights) -> tuple[MarkovLaw, tuple[Tensor, Tensor]]:
        """Return the sequential law, and its log normalizers (log Z_1 [], log Z_{t+1}(x_t) [V], the same at every t)."""
        checks.weights(weights)
        first, step = self._combined(weights)
        log_z1, log_z = first.logsumexp(0), step.logsumexp(1)
        zeros = torch.zeros(self.length, self.size, dtype=torch.float64)
        law = MarkovLaw(first - log_z1, log_divide(step, log_z[:, None]), zeros, zeros[0, 0])
        return law, (log_z1, log_z)

    def joint_guided(self, label: Label, scale: float, *, temperature: float = 1.0) -> MarkovLaw:
        """Return p(x)^{(1−γ)/τ} p(x|y)^{γ/τ} / Z, log Z in `.log_normalizer`."""
        return self.log_joint(guidance(self.index(label), scale, temperature))

    def sequential_guided(
        self, label: Label, scale: float, *, temperature: float = 1.0
    ) -> tuple[MarkovLaw, tuple[Tensor, Tensor]]:
        """Return the law guided step by step, and (log Z_1, log Z_{t+1}(x_t))."""
        return self.log_sequential(guidance(self.index(label), scale, temperature))

    def log_law(self, label: Label = None) -> MarkovLaw:
        """Return p(x | label), p(x) for None."""
        return self.log_joint({label: 1.0})

    def table(self, label: Label) -> Joint:
        """Return p(x | label) written out, [V, …, V], with log Z = 0; for small V^T."""
        first, step = self._laws[self.index(label)]
        log_p = first
        for _ in range(self.length - 1):
            log_p = log_p[..., None] + step
        return Joint(log_p.exp(), torch.zeros((), dtype=torch.float64))

    def autoregressive(self, label: Label = None) -> "ChainModel":
        """Return p(x | label) as an autoregressive model over V tokens."""
        return ChainModel(*self._laws[self.index(label)])

    def _combined(self, weights: Weights) -> tuple[Tensor, Tensor]:
        laws = [self._laws[self.index(label)] for label in weights]
        values = list(weights.values())
        first = check_proper(log_combine([first for first, _ in laws], values))
        step = log_combine([step for _, step in laws], values)
        for logits, part in ((first, 0), (step, 1)):
            check_precise(logits, [law[part] for law in laws], values)
        left = _reached(first, step, self.length)
        return first, check_proper(step.masked_fill(~left[:, None], -math.inf))

    def _pooled(self, prior: Tensor) -> tuple[Tensor, Tensor]:
        """Return the chain of the expected initial and transition counts under p(y)."""
        initial = sum(weight * self._laws[y][0].exp() for y, weight in enumerate(prior))
        counts = torch.zeros(2 * (len(self._laws[0][0]),), dtype=torch.float64)
        for y, weight in enumerate(prior):
            first, step = self._laws[y]
            marginal, visits = first.exp(), torch.zeros_like(first)
            for _ in range(self.length - 1):
                visits, marginal = visits + marginal, marginal @ step.exp()
            counts += weight * visits[:, None] * step.exp()
        total = counts.sum(1, keepdim=True)
        return torch.as_tensor(initial), torch.where(total > 0, counts / total, 1 / len(counts))


class ChainState(NamedTuple):
    """n prefixes of a chain: the law of the next token, [n, V]; the last token is all that it depends on."""

    log_probs: Tensor


class ChainModel:
    """A Markov chain as an `arguide.Autoregressive`."""

    def __init__(self, first: Tensor, step: Tensor) -> None:
        self._first, self._step = first, step

    def start(self, n: int) -> ChainState:
        """Return n empty prefixes."""
        return ChainState(self._first.expand(n, -1))

    def append(self, state: ChainState, token: Tensor) -> ChainState:
        """Append one token a row, [n]."""
        return ChainState(self._step[token])

    def select(self, state: ChainState, index: Tensor) -> ChainState:
        """Return the state whose row i is row index[i]."""
        return ChainState(state.log_probs[index])


def _reached(first: Tensor, step: Tensor, length: int) -> Tensor:
    """Return which states some sequence of `length` leaves again, [V]."""
    reached = torch.zeros_like(first, dtype=torch.bool)
    if length > 1:
        reached = first > -math.inf
        for _ in range(min(length - 2, len(first))):
            reached = reached | (step[reached] > -math.inf).any(0)
    return reached


def _check_laws(*laws: Tensor) -> None:
    for law in laws:
        if not law.isfinite().all() or (law < 0).any() or ((law.sum(-1) - 1).abs() > 1e-6).any():
            raise ValueError("a chain's rows must be probabilities that sum to 1")


def _unconditional(laws: tuple[Tensor, Tensor], size: int) -> tuple[Tensor, Tensor]:
    """Return p(x_1) [V] and p(x_{t+1} | x_t) [V, V] in float64, checked."""
    if not isinstance(laws, Sequence) or len(laws) != 2:
        raise checks.refusal("unconditional", "a pair of p(x_1) [V] and p(x_{t+1} | x_t) [V, V]", laws)
    first, step = (checks.real("unconditional", law) for law in laws)
    if first.shape != (size,) or step.shape != (size, size):
        raise checks.refusal(
            "unconditional", f"of shapes {(size,)} and {(size, size)}", (tuple(first.shape), tuple(step.shape))
        )
    _check_laws(first, step)
    return first, step


def _weighted(mass: Tensor, value: Tensor) -> Tensor:
    return (mass * torch.where(mass > 0, value, 0.0)).sum()


def _gap(p: Tensor, q: Tensor) -> Tensor:
    """Return p − q in log space; what p excludes does not count."""
    return torch.where(p == -math.inf, 0.0, p - q)
