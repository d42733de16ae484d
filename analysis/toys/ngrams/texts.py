r"""`TextLaw`: a law over whole texts of at most T tokens, exact by messages over the contexts of n-grams.

Every arc, a token v after a context s, has a weight w(s, v), and a text has the product of its arcs. With t tokens left,

    M_0 = 0,    M_t(s) = w(s, end) + Σ_v w(s, v) M_{t−1}(next(s, v)),    Z = M_T(start).

So q_t(v | s) = w(s, v) M_{t−1}(next(s, v)) / M_t(s) draws the law exactly, and one pass forward gives the mean of every sum
over arcs. Each takes O(T · S · V) operations.

Sources: Cortes, Mohri, Rastogi and Riley, "On the computation of the relative entropy of probabilistic automata" (2008),
https://doi.org/10.1142/S0129054108005644, for sums over automata; Heafield, Geigle, Massung and Schwartz, "Normalized
log-linear interpolation of backoff language models is efficient" (2016), https://doi.org/10.18653/v1/P16-1083, for the
sequential law.
"""

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from analysis.toys import checks
from analysis.toys.ngrams.arcs import Arcs, Step
from analysis.toys.ngrams.contexts import Contexts


class TextLaw:
    """The law ∝ Π_t w(s_t, x_t) of texts that end within T tokens, the ending token included.

    Texts are codes [n, T], filled with the ending token, V − 1, after the end.

    Args:
        contexts: S contexts of V tokens.
        log_weights: log w, [S, V].
        length: T.

    Raises:
        ValueError: no text of at most T tokens has a positive weight.
    """

    def __init__(self, contexts: Contexts, log_weights: Tensor, length: int) -> None:
        self.contexts, self.log_weights, self.length = contexts, log_weights, checks.integer("length", length)
        self._arcs = Arcs(contexts.following, log_weights.numpy())
        self._steps, message = list[Step](), np.full(len(log_weights), -math.inf)
        for _ in range(length):
            self._steps.append(self._arcs.step(message))
            message = self._arcs.before(self._steps[-1])
        self._message = message
        if self.log_normalizer == -math.inf:
            raise ValueError(f"a text of at most {length} tokens must have positive probability, got none; try a larger length")

    @property
    def messages(self) -> Tensor:
        """The log M_t(s) of t = 0 … T tokens left, [T + 1, S]."""
        return torch.from_numpy(np.stack([*(step.message for step in self._steps), self._message]))

    @property
    def log_normalizer(self) -> Tensor:
        """The log of Z, []."""
        return torch.from_numpy(self._message)[self.contexts.start]

    @cached_property
    def log_growth(self) -> float:
        """The log of the factor by which Z grows per token as T → ∞, to five digits; where it is positive, Z has no limit."""
        return self._arcs.growth()

    def next_probs(self, left: int, state: Tensor) -> Tensor:
        """Return q_t(v | s) in contexts [n] with `left` tokens left, [n, V]; rows of 0 where no text can end in time."""
        checks.integer("left", left, 1, self.length)
        return torch.from_numpy(self._arcs.steps(state.numpy(), self._steps[left - 1].message))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n texts, [n, T]."""
        checks.integer("n", n)
        end, following = self.log_weights.shape[1] - 1, torch.from_numpy(self.contexts.following)
        texts = torch.full((n, self.length), end)
        state, rows = torch.full((n,), self.contexts.start), torch.arange(n)
        for t in range(self.length):
            token = torch.multinomial(self.next_probs(self.length - t, state), 1, generator=generator)[:, 0]
            texts[rows, t] = token
            goes_on = token != end
            state, rows = following[state, token][goes_on].long(), rows[goes_on]
            if not len(rows):
                break
        return texts

    def log_prob(self, texts: Tensor) -> Tensor:
        """Return log p(x), [n, T] ↦ [n]; −∞ for a text without an end.

        Raises:
            ValueError: codes outside 0 … V − 1, or another length.
        """
        size = self.log_weights.shape[1]
        checks.codes("texts", texts, [size] * self.length)
        following, state = torch.from_numpy(self.contexts.following), torch.full((len(texts),), self.contexts.start)
        total, ended = torch.zeros(len(texts), dtype=torch.float64), torch.zeros(len(texts), dtype=torch.bool)
        for token in texts.unbind(1):
            total += torch.where(ended, 0.0, self.log_weights[state, token])
            ended |= token == size - 1
            state = following[state, token].long()
        return torch.where(ended, total - self.log_normalizer, -math.inf)

    def most_likely(self) -> tuple[Tensor, Tensor]:
        """Return the text of the largest probability, [T], and its log-probability, []."""
        best, choices = np.full(len(self.log_weights), -math.inf), []
        for _ in range(self.length):
            best, choice = self._arcs.best(best)
            choices.append(choice)
        text, state = torch.full((self.length,), self.log_weights.shape[1] - 1), self.contexts.start
        for t, choice in enumerate(reversed(choices)):
            token = int(choice[state])
            if token == text[-1]:
                break
            text[t], state = token, int(self.contexts.following[state, token])
        return text, float(best[self.contexts.start]) - self.log_normalizer

    @cached_property
    def occupancy(self) -> Tensor:
        """p(a text is not over before its token t, and s is the context there), t = 1 … T, [T, S]."""
        rows = [np.zeros(len(self.log_weights))]
        rows[0][self.contexts.start] = 1.0
        for step in self._steps[:0:-1]:
            rows.append(self._arcs.after(rows[-1], step))
        return torch.from_numpy(np.stack(rows))

    def lengths(self) -> Tensor:
        """Return p(a text has t tokens, the ending one included), t = 1 … T, [T]."""
        return -self.occupancy.sum(1).diff(append=torch.zeros(1, dtype=torch.float64))

    def mean_length(self) -> Tensor:
        """Return the mean number of tokens of a text, the ending one included, []."""
        return self.lengths() @ torch.arange(1, self.length + 1, dtype=torch.float64)

    def marginals(self) -> Tensor:
        """Return p(x_t = v), t = 1 … T, [T, V]; the ending token fills what follows the end."""
        size = self.log_weights.shape[1]
        rows = torch.zeros(self.length, size, dtype=torch.float64)
        rows[:-1].index_add_(1, torch.from_numpy(self.contexts.last), self.occupancy[1:])
        rows[:, -1] = 1 - rows[:, :-1].sum(1)
        return rows

    @cached_property
    def arc_counts(self) -> Tensor:
        """The expected number of times that each token follows each context, [S, V]."""
        return torch.from_numpy(self._arcs.counts(self.occupancy.numpy(), self._steps[::-1]))

    def expectation(self, value: Tensor) -> Tensor:
        """Return E[Σ_t value(s_t, x_t)] of a value per arc, [S, V] ↦ []; arcs without mass are ignored."""
        checks.alike("value", value, "the weights", self.log_weights)
        return (self.arc_counts * torch.where(self.arc_counts > 0, value, 0.0)).sum()

    def entropy(self) -> Tensor:
        """Return −E[log p(x)] in nats, []."""
        return self.log_normalizer - self.expectation(self.log_weights)

    def kl(self, other: "TextLaw") -> Tensor:
        """Return KL(self ‖ other) in nats, []."""
        checks.require(other.length == self.length, "other", f"a law of texts of at most {self.length} tokens", other.length)
        difference = self.expectation(self.log_weights - other.log_weights)
        return difference - self.log_normalizer + other.log_normalizer
