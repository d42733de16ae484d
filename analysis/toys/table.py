r"""`Table`: any joint distribution p(y, x_1, …, x_T) of a label and T discrete variables, small enough to write down.

Joint and sequential laws cost one pass over the table. The table is also an autoregressive model (`autoregressive`) and,
its cells placed on a lattice, a mixture of points in R^T with exact scores (`mixture`): one law for both wings. Noised by
masks or by uniform values it has exact denoisers (`denoise_masked`, `denoise_uniform`), for diffusion of the tokens themselves.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from analysis.toys import checks
from analysis.toys.law import (
    Joint,
    Label,
    Sequential,
    Weights,
    check_precise,
    check_proper,
    guidance,
    log_combine,
    log_divide,
)
from analysis.toys.mixture import GaussianMixture

TOLERANCE = 1e-6


class Table:
    """A joint distribution over labels and sequences.

    Args:
        joint: probabilities [K, V_1, …, V_T], float64; their sum may be off 1 by 1e-6 and is mended.
        labels: K names; "0", "1", … by default. Methods take a label's index, its name, or None for p(x).
        values: for every x_t the V_t values its codes stand for; the codes themselves by default.

    Raises:
        ValueError: entries that are negative, NaN or do not sum to 1, no variable, or names that do not fit or repeat.
    """

    def __init__(
        self,
        joint: Tensor | np.ndarray,
        *,
        labels: Sequence[str] | None = None,
        values: Sequence[Sequence[object]] | None = None,
    ) -> None:
        joint = checks.real("joint", joint)
        if joint.ndim < 2 or 0 in joint.shape:
            raise ValueError(f"a table needs a label and at least one variable, [y, x_1, …], not shape {tuple(joint.shape)}")
        if not joint.isfinite().all() or (joint < 0).any():
            raise ValueError("a table's entries must be probabilities: some are negative, NaN or infinite")
        if abs(float(joint.sum()) - 1) > TOLERANCE:
            raise ValueError(f"a table's entries must sum to 1, not to {float(joint.sum()):.6g}")
        self._set((joint / joint.sum()).log(), labels, values)

    @classmethod
    def from_log(cls, log_joint: Tensor) -> "Table":
        """Return the table ∝ exp(log_joint), [K, V_1, …, V_T], which may underflow without harm."""
        if log_joint.ndim < 2 or not log_joint.amax().isfinite():
            raise checks.refusal("log_joint", "[K, V_1, …] without NaN, and not all -inf", log_joint)
        table = cls.__new__(cls)
        table._set(log_joint - log_joint.flatten().logsumexp(0), None, None)
        return table

    def _set(self, log_joint: Tensor, labels: Sequence[str] | None, values: Sequence[Sequence[object]] | None) -> None:
        self.log_joint_with_label = log_joint
        self.labels = checks.names(labels, len(log_joint))
        self.values = tuple(map(tuple, map(range, self.shape) if values is None else values))
        if tuple(map(len, self.values)) != self.shape:
            raise ValueError(f"values must hold one value per code, {self.shape}, got {tuple(map(len, self.values))}")
        self._conditionals: dict[int | None, tuple[Tensor, ...]] = {}
        self._marginals: dict[int | None, Tensor] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes (V_1, …, V_T)."""
        return tuple(self.log_joint_with_label.shape[1:])

    @property
    def length(self) -> int:
        """T."""
        return len(self.shape)

    def log_prior(self) -> Tensor:
        """Return log p(y), [K]."""
        return self.log_joint_with_label.flatten(1).logsumexp(1)

    def log_probs(self, label: Label = None) -> Tensor:
        """Return log p(x | label), or log p(x) for None, [V_1, …, V_T]."""
        index = self.index(label)
        if index is None:
            return self.log_joint_with_label.logsumexp(0)
        return self.log_joint_with_label[index] - self.log_prior()[index]

    def log_class_probability(self) -> Tensor:
        """Return log p(y | x), [K, V_1, …, V_T]; −∞ where p(x) = 0."""
        return log_divide(self.log_joint_with_label, self.log_probs())

    def log_conditionals(self, label: Label = None) -> tuple[Tensor, ...]:
        """Return log p(x_t | x_<t, label) for t = 1 … T, of shape [V_1, …, V_t]; −∞ after a prefix of probability 0."""
        index = self.index(label)
        if index not in self._conditionals:
            ahead, laws = self.log_probs(index), []
            while ahead.ndim:
                behind = ahead.logsumexp(-1)
                laws.append(log_divide(ahead, behind[..., None]))
                ahead = behind
            self._conditionals[index] = tuple(laws[::-1])
        return self._conditionals[index]

    def log_joint(self, weights: Weights) -> tuple[Tensor, Tensor]:
        """Return the joint law Π_k p(x|y_k)^{w_k} / Z in log space, [V_1, …, V_T], and log Z, [].

        Raises:
            ValueError: an improper tilt, weights whose laws share no x, or weights too large for float64.
        """
        checks.weights(weights)
        logs, values = [self.log_probs(label) for label in weights], list(weights.values())
        logits = check_proper(log_combine(logs, values))
        check_precise(logits.flatten(), [log.flatten() for log in logs], values)
        log_normalizer = logits.flatten().logsumexp(0)
        if log_normalizer == -math.inf:
            raise ValueError("the laws combined share no x of positive probability")
        return logits - log_normalizer, log_normalizer

    def log_sequential(self, weights: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the sequential law in log space, [V_1, …, V_T], and log Z_t(x_<t) for t = 1 … T, [V_1, …, V_{t−1}].

        Raises:
            ValueError: an improper tilt at a prefix, or weights too large for float64.
        """
        checks.weights(weights)
        log_q, log_normalizers = torch.zeros((), dtype=torch.float64), []
        for branches in zip(*(self.log_conditionals(label) for label in weights), strict=True):
            logits = check_proper(log_combine(branches, list(weights.values())))
            check_precise(logits, branches, list(weights.values()))
            log_normalizers.append(logits.logsumexp(-1))
            log_q = log_q[..., None] + log_divide(logits, log_normalizers[-1][..., None])
        return log_q, tuple(log_normalizers)

    def joint_guided(self, label: Label, scale: float, *, temperature: float = 1.0) -> Joint:
        """Return p(x)^{(1−γ)/τ} p(x|y)^{γ/τ} / Z with log Z."""
        log_p, log_normalizer = self.log_joint(guidance(self.index(label), scale, temperature))
        return Joint(log_p.exp(), log_normalizer)

    def sequential_guided(self, label: Label, scale: float, *, temperature: float = 1.0) -> Sequential:
        """Return Π_t p(x_t|x_<t)^{(1−γ)/τ} p(x_t|x_<t,y)^{γ/τ} / Z_t(x_<t) with log Z_t."""
        log_q, log_normalizers = self.log_sequential(guidance(self.index(label), scale, temperature))
        return Sequential(log_q.exp(), log_normalizers)

    def autoregressive(self, label: Label = None) -> "TableModel":
        """Return p(x | label) as an autoregressive model over max_t V_t tokens."""
        return TableModel(self.log_conditionals(label))

    def mixture(self, spacing: float = 1.0) -> GaussianMixture:
        """Return the table as points in R^T: code v of x_t stands at spacing·(v − (V_t − 1)/2)."""
        checks.positive("spacing", spacing)
        axes = [spacing * (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) for size in self.shape]
        points = torch.cartesian_prod(*axes).reshape(-1, self.length)
        return GaussianMixture(points, torch.zeros(len(points)), self.log_joint_with_label.flatten(1).exp())

    def denoise_masked(self, x: Tensor, _time: Tensor, label: Label = None) -> Tensor:
        """Return log p(x_j = v | the unmasked x, label), [n, T, V], for x [n, T] where −1 stands for a mask.

        Codes that x_j does not have, V_j ≤ v < V, are −∞. Time tells nothing that the masks do not.
        """
        checks.codes("x", x, self.shape, -1)
        index = self.index(label)
        if index not in self._marginals:
            log_p = self.log_probs(index)
            for axis in range(self.length):  # the last slot of an axis, which −1 points at, is the sum over it
                log_p = torch.cat([log_p, log_p.logsumexp(axis, keepdim=True)], axis)
            self._marginals[index] = log_p
        rows = [along(self._marginals[index], x, axis) for axis in range(self.length)]
        return _padded([log_divide(row[:, :-1], row[:, -1:]) for row in rows], max(self.shape))

    def denoise_uniform(self, x: Tensor, time: Tensor, label: Label = None) -> Tensor:
        """Return log p(x_0,j = v | x_t = x, label), [n, T, V], where each x_j is uniform with probability 1 − exp(−time)."""
        checks.codes("x", x, self.shape)
        checks.not_negative("time", time)
        rows = []
        for axis, size in enumerate(self.shape):
            others = [other for other in range(self.length) if other != axis]
            prior = along(noised(self.log_probs(label), float(time), others), x, axis)
            likelihood = torch.full((size, size), -math.expm1(-float(time)) / size, dtype=torch.float64)
            rows.append(prior + likelihood.diagonal_scatter(likelihood.diagonal() + math.exp(-float(time))).log()[x[:, axis]])
        return _padded([row.log_softmax(-1) for row in rows], max(self.shape))

    def index(self, label: Label) -> int | None:
        """Return a label's index from its index or its name; None stays None.

        Raises:
            ValueError: no such label, or one of probability 0.
        """
        if label is None:
            return None
        index = self.labels.index(label) if isinstance(label, str) and label in self.labels else label
        if not isinstance(index, int) or not 0 <= index < len(self.labels):
            raise ValueError(f"no label {label!r}; the labels are {', '.join(self.labels[:20])}")
        if (self.log_joint_with_label[index] == -math.inf).all():
            raise ValueError(f"label {self.labels[index]!r} has probability 0")
        return index


def noised(log_p: Tensor, time: float, axes: Sequence[int]) -> Tensor:
    """Return the log law, [V_1, …, V_T], after each x_j of `axes` became uniform with probability 1 − exp(−time)."""
    replaced = math.log(-math.expm1(-time)) if time > 0 else -math.inf
    for axis in axes:
        mean = log_p.logsumexp(axis, keepdim=True) - math.log(log_p.shape[axis])
        log_p = torch.logaddexp(log_p - time, mean + replaced)
    return log_p


def along(log_p: Tensor, x: Tensor, axis: int) -> Tensor:
    """Return log_p at x, [n, T], with every value in place of x_axis, [n, V_axis]."""
    others = (*x[:, :axis].unbind(1), *x[:, axis + 1 :].unbind(1))
    return log_p.movedim(axis, -1)[others].expand(len(x), -1)


def _padded(rows: Sequence[Tensor], size: int) -> Tensor:
    """Return T tensors [n, V_t] as one, [n, T, size], filled with −∞."""
    return torch.stack([functional.pad(row, (0, size - row.shape[1]), value=-math.inf) for row in rows], 1)


class TableState(NamedTuple):
    """n prefixes of t tokens: the law of the next, [n, V], and each prefix's flat index in [V_1, …, V_t], [n]."""

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
        """Append one token a row, [n]; after the last variable there is no law, [n, V] of −∞."""
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
