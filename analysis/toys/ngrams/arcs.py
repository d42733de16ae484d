r"""Arcs: one step back and one step forward over all arcs of an n-gram automaton, and the expected use of each arc.

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
    """One token of all contexts, [S]: log M_{t−1} after it; and divided by common factors, M_{t−1}/e^m and M_t/e^{m + top}.

    `shift` is m; `sums` is None where these numbers leave the range of float64.
    """

    message: np.ndarray
    shift: float
    ahead: np.ndarray
    sums: np.ndarray | None


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
        self.going, self.ending = (np.exp(part - self.top[:, None]) for part in np.split(log_weights, [size - 1], 1))
        rows = np.arange(0, count * (size - 1) + 1, size - 1)
        targets = np.ascontiguousarray(following[:, :-1])
        self.matrix = sparse.csr_array((self.going.ravel(), targets.ravel(), rows), shape=(count, count))

    def step(self, message: np.ndarray) -> Step:
        """Return the step from log M_{t−1}, [S]."""
        shift = max(0.0, float(message.max()))
        ahead = np.exp(message - shift)
        sums = self.matrix @ ahead + self.ending[:, 0] * math.exp(-shift)
        return Step(message, shift, ahead, sums if sums.min() > LEAST else None)

    def before(self, step: Step) -> np.ndarray:
        """Return log M_t, [S]."""
        if step.sums is None:
            return np.asarray(logsumexp(self._joined(slice(None), step.message), axis=1))
        return np.log(step.sums) + self.top + step.shift

    def after(self, mass: np.ndarray, step: Step) -> np.ndarray:
        """Return the masses of contexts after the step, [S], of texts that go on.

        Args:
            mass: of contexts before it, [S].
            step: the step.
        """
        if step.sums is not None:
            return np.asarray(self.matrix.T @ (mass / step.sums)) * step.ahead
        at, new = np.flatnonzero(mass), np.zeros_like(mass)
        moved = mass[at, None] * self.steps(at, step.message)
        np.add.at(new, self.following[at, :-1], moved[:, :-1])
        return new

    def steps(self, states: np.ndarray, message: np.ndarray) -> np.ndarray:
        """Return q_t(v | s) = w(s, v) M_{t−1}(next(s, v)) / M_t(s) of contexts [n], [n, V]; rows of 0 where M_t(s) = 0."""
        joined = self._joined(states, message)
        total = logsumexp(joined, axis=1, keepdims=True)
        return np.exp(np.where(total > -math.inf, joined - total, -math.inf))

    def counts(self, masses: np.ndarray, steps: Sequence[Step]) -> np.ndarray:
        """Return the expected number of times that each arc is taken, Σ_t mass_t(s) q_t(v | s), [S, V].

        Args:
            masses: of contexts before each step, [T, S].
            steps: T steps.
        """
        near = [(mass / step.sums, step) for mass, step in zip(masses, steps, strict=True) if step.sums is not None]
        counts = self._near_counts(near) if near else np.zeros_like(self.log_weights)
        for mass, step in zip(masses, steps, strict=True):
            if step.sums is None:
                at = np.flatnonzero(mass)
                counts[at] += mass[at, None] * self.steps(at, step.message)
        return counts

    def _near_counts(self, steps: Sequence[tuple[np.ndarray, Step]]) -> np.ndarray:
        """Return Σ_t u_t(s) w(s, v) E_t(next(s, v)) with u = mass / sums, [S, V], in blocks of contexts."""
        taken, ahead = np.stack([u for u, _ in steps], 1), np.stack([step.ahead for _, step in steps], 1)
        counts, block = np.empty_like(self.log_weights), max(1, BLOCK // (len(steps) * self.log_weights.shape[1]))
        for first in range(0, len(counts), block):
            rows = slice(first, first + block)
            counts[rows] = (ahead[self.following[rows]] @ taken[rows, :, None])[..., 0]
        counts[:, -1] = taken @ np.exp([-step.shift for _, step in steps])
        counts[:, :-1] *= self.going
        counts[:, -1:] *= self.ending
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

    def _joined(self, states: np.ndarray | slice, message: np.ndarray) -> np.ndarray:
        """Return log w(s, v) + log M_{t−1}(next(s, v)) of contexts, [n, V]."""
        ahead = message[self.following[states]]
        ahead[:, -1] = 0.0
        return self.log_weights[states] + ahead
