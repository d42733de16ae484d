r"""Arcs: one step back and one step forward over all arcs of an n-gram automaton, and how often each arc is taken.

With t tokens left, M_t(s) = w(s, end) + Σ_v w(s, v) M_{t−1}(next(s, v)). A step is a product of a sparse matrix with the
exponentials of messages, and in log space where these leave the range of float64.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigs
from scipy.special import logsumexp

LEAST = 1e-250  # of a sum whose terms below 1e-308 are lost
SMALL = 64  # states of a dense matrix
BLOCK = 1 << 22  # numbers that are gathered at once


class Step(NamedTuple):
    """The messages before and after a step, [S], divided by common factors: E = M_{t−1} / e^m and M_t / e^{m + top}."""

    shift: float
    ahead: np.ndarray
    sums: np.ndarray


class Arcs:
    """The arcs of S contexts of V tokens, the last of which ends a text.

    Args:
        following: the context after a token, [S, V].
        log_weights: log w, [S, V].
    """

    def __init__(self, following: np.ndarray, log_weights: np.ndarray) -> None:
        self.following, self.log_weights = following, log_weights
        count, size = log_weights.shape
        top = log_weights.max(1)
        self.top = np.where(top > -math.inf, top, 0.0)
        self.scaled = np.exp(log_weights - self.top[:, None])
        rows = np.arange(0, count * (size - 1) + 1, size - 1)
        targets = np.ascontiguousarray(following[:, :-1])
        self.matrix = sparse.csr_array((self.scaled[:, :-1].ravel(), targets.ravel(), rows), shape=(count, count))

    def before(self, message: np.ndarray) -> np.ndarray:
        """Return log M_t from log M_{t−1}, [S]."""
        step = self._step(message)
        if step is None:
            return logsumexp(self._joined(slice(None), message), axis=1)
        with np.errstate(divide="ignore"):
            return np.log(step.sums) + self.top + step.shift

    def after(self, mass: np.ndarray, message: np.ndarray) -> np.ndarray:
        """Return the masses of contexts, [S], after one more token that does not end the text.

        Args:
            mass: of contexts with t tokens left, [S].
            message: log M_{t−1}, [S].
        """
        step, new = self._step(message), np.zeros_like(mass)
        if step is None:
            at = np.flatnonzero(mass)
            moved = mass[at, None] * self.steps(at, message)
            np.add.at(new, self.following[at, :-1], moved[:, :-1])
            return new
        return (self.matrix.T @ _divided(mass, step.sums)) * step.ahead

    def steps(self, states: np.ndarray, message: np.ndarray) -> np.ndarray:
        """Return q_t(v | s) = w(s, v) M_{t−1}(next(s, v)) / M_t(s) of contexts [n], [n, V]; rows of 0 where M_t(s) = 0."""
        joined = self._joined(states, message)
        total = logsumexp(joined, axis=1, keepdims=True)
        return np.exp(np.where(total > -math.inf, joined - total, -math.inf))

    def counts(self, masses: np.ndarray, messages: np.ndarray) -> np.ndarray:
        """Return how often each arc is taken on average, Σ_t mass_t(s) q_t(v | s), [S, V].

        Args:
            masses: of contexts with T … 1 tokens left, [T, S].
            messages: log M_{T−1} … log M_0, [T, S].
        """
        pairs = [(mass, message, self._step(message)) for mass, message in zip(masses, messages, strict=True)]
        near = [(_divided(mass, step.sums), step) for mass, _, step in pairs if step is not None]
        counts = self._near_counts(near) if near else np.zeros_like(self.scaled)
        for mass, message in ((mass, message) for mass, message, step in pairs if step is None):
            at = np.flatnonzero(mass)
            counts[at] += mass[at, None] * self.steps(at, message)
        return counts

    def _near_counts(self, steps: Sequence[tuple[np.ndarray, Step]]) -> np.ndarray:
        """Return Σ_t u_t(s) w(s, v) E_t(next(s, v)) with u = mass / sums, [S, V], in blocks of contexts."""
        taken, ahead = np.stack([u for u, _ in steps], 1), np.stack([step.ahead for _, step in steps], 1)
        counts, block = np.empty_like(self.scaled), max(1, BLOCK // (len(steps) * self.scaled.shape[1]))
        for first in range(0, len(counts), block):
            rows = slice(first, first + block)
            counts[rows] = (ahead[self.following[rows]] @ taken[rows, :, None])[..., 0]
        counts[:, -1] = taken @ np.exp([-step.shift for _, step in steps])
        counts *= self.scaled
        return counts

    def best(self, message: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return max_v w(s, v) M_{t−1}(next(s, v)) in logs, [S], and its v, [S]."""
        joined = self._joined(slice(None), message)
        return joined.max(1), joined.argmax(1)

    def growth(self) -> float:
        """Return the log of the spectral radius of w without the ending token: of the factor by which Z grows per token."""
        highest = self.top.max()
        matrix = sparse.diags_array(np.exp(self.top - highest)) @ self.matrix
        if len(self.top) <= SMALL:
            values = np.linalg.eigvals(matrix.toarray())
        else:
            values = eigs(matrix, k=1, which="LR", v0=np.ones(len(self.top)), return_eigenvectors=False)
        return math.log(values.real.max()) + float(highest)

    def _step(self, message: np.ndarray) -> Step | None:
        """Return a step in the exponentials of log M_{t−1}; None where they leave the range of float64."""
        shift = max(0.0, float(message.max()))
        ahead = np.exp(message - shift)
        sums = self.matrix @ ahead + self.scaled[:, -1] * math.exp(-shift)
        return Step(shift, ahead, sums) if sums.min() > LEAST else None

    def _joined(self, states: np.ndarray | slice, message: np.ndarray) -> np.ndarray:
        """Return log w(s, v) + log M_{t−1}(next(s, v)) of contexts, [n, V]."""
        ahead = message[self.following[states]]
        ahead[:, -1] = 0.0
        return self.log_weights[states] + ahead


def _divided(mass: np.ndarray, sums: np.ndarray) -> np.ndarray:
    return np.divide(mass, sums, out=np.zeros_like(mass), where=mass > 0)
