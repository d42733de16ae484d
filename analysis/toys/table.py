r"""`Table`: any joint distribution p(y, x_1, …, x_T) of a label and T discrete variables, small enough to write down.

Joint and sequential laws cost one pass over the table. Both wings can sample it: as an autoregressive model
(`autoregressive`), as a mixture of points on a lattice in R^T, with exact scores (`mixture`), and with the exact denoisers of
masked and uniform noise for discrete diffusion (`denoise_masked`, `denoise_uniform`).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from analysis.toys import checks
from analysis.toys.autoregressive import TableModel
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


class Table:
    """A joint distribution over labels and sequences.

    Args:
        joint: probabilities [K, V_1, …, V_T], float64; they are normalised if their sum is within 1e-6 of 1.
        labels: K names; "0", "1", … by default. Methods take a label's index, its name, or None for p(x).
        values: for every x_t the V_t values that its codes stand for; the codes themselves by default.

    Raises:
        ValueError: entries that are no probabilities, no variable, or names that do not fit or repeat.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> table.joint_guided(1, 3.0).probabilities
        tensor([[0.0111, 0.1392],
                [0.1392, 0.7104]], dtype=torch.float64)
        >>> table.sequential_guided(1, 3.0).probabilities
        tensor([[0.0078, 0.0974],
                [0.1466, 0.7481]], dtype=torch.float64)
    """

    def __init__(
        self,
        joint: Tensor | np.ndarray | Sequence[Any],
        *,
        labels: Sequence[str] | None = None,
        values: Sequence[Sequence[object]] | None = None,
    ) -> None:
        joint = checks.real("joint", joint)
        checks.require(joint.ndim >= 2 and 0 not in joint.shape, "joint", "[y, x_1, …] with at least one variable", joint)
        checks.probabilities("joint", joint.flatten())
        self._set((joint / joint.sum()).log(), labels, values)

    @classmethod
    def from_log(cls, log_joint: Tensor) -> "Table":
        """Return the table ∝ exp(log_joint), [K, V_1, …, V_T], in which exp may underflow.

        Raises:
            ValueError: no variable, NaN or +∞, or −∞ alone.
        """
        fits = log_joint.ndim >= 2 and log_joint.amax().isfinite()
        checks.require(fits, "log_joint", "[K, V_1, …] without NaN, and not all -inf", log_joint)
        table = cls.__new__(cls)
        table._set(log_joint - log_joint.flatten().logsumexp(0), None, None)
        return table

    def _set(self, log_joint: Tensor, labels: Sequence[str] | None, values: Sequence[Sequence[object]] | None) -> None:
        self.log_joint_with_label = log_joint
        self.labels = checks.names(labels, len(log_joint))
        self.values = tuple(map(tuple, map(range, self.shape) if values is None else values))
        sizes = tuple(map(len, self.values))
        checks.require(sizes == self.shape, "values", f"one value per code, {self.shape}", sizes)
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
        logs, values = [self.log_probs(label).flatten() for label in weights], list(weights.values())
        logits = check_precise(check_proper(log_combine(logs, values)), logs, values)
        log_normalizer = logits.logsumexp(0)
        if log_normalizer == -math.inf:
            raise ValueError("the combined laws must share an x of positive probability, got laws that share none")
        return (logits - log_normalizer).view(self.shape), log_normalizer

    def log_sequential(self, weights: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the sequential law in log space, [V_1, …, V_T], and log Z_t(x_<t) for t = 1 … T, [V_1, …, V_{t−1}].

        Raises:
            ValueError: an improper tilt at a prefix, or weights too large for float64.
        """
        checks.weights(weights)
        log_q, log_normalizers, values = torch.zeros((), dtype=torch.float64), [], list(weights.values())
        for branches in zip(*(self.log_conditionals(label) for label in weights), strict=True):
            logits = check_precise(check_proper(log_combine(branches, values)), branches, values)
            log_normalizers.append(logits.logsumexp(-1))
            log_q = log_q[..., None] + log_divide(logits, log_normalizers[-1][..., None])
        return log_q, tuple(log_normalizers)

    def joint_guided(self, label: Label, scale: float, *, temperature: float = 1.0) -> Joint:
        """Return p(x)^{(1−γ)/τ} p(x|y)^{γ/τ} / Z with log Z.

        Args:
            label: y, by its index or its name.
            scale: γ.
            temperature: τ.

        Raises:
            ValueError: no such label, or as `log_joint`.
        """
        log_p, log_normalizer = self.log_joint(guidance(self.index(label), scale, temperature))
        return Joint(log_p.exp(), log_normalizer)

    def sequential_guided(self, label: Label, scale: float, *, temperature: float = 1.0) -> Sequential:
        """Return Π_t p(x_t|x_<t)^{(1−γ)/τ} p(x_t|x_<t,y)^{γ/τ} / Z_t(x_<t) with log Z_t.

        Args:
            label: y, by its index or its name.
            scale: γ.
            temperature: τ.

        Raises:
            ValueError: no such label, or as `log_sequential`.
        """
        log_q, log_normalizers = self.log_sequential(guidance(self.index(label), scale, temperature))
        return Sequential(log_q.exp(), log_normalizers)

    def autoregressive(self, label: Label = None) -> TableModel:
        """Return p(x | label) as an autoregressive model over max_t V_t tokens."""
        return TableModel(self.log_conditionals(label))

    def mixture(self, spacing: float = 1.0) -> GaussianMixture:
        """Return the table as points in R^T: code v of x_t lies at spacing·(v − (V_t − 1)/2)."""
        checks.positive("spacing", spacing)
        axes = [spacing * (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) for size in self.shape]
        points = torch.cartesian_prod(*axes).reshape(-1, self.length)
        return GaussianMixture(points, torch.zeros(len(points)), self.log_joint_with_label.flatten(1).exp())

    def denoise_masked(self, x: Tensor, _time: Tensor, label: Label = None) -> Tensor:
        """Return log p(x_j = v | the unmasked x, label), [n, T, V]; −∞ for V_j ≤ v < V = max_t V_t.

        Args:
            x: codes, [n, T], −1 for a mask.
            _time: unused, since the law does not depend on it.
            label: y; None for p(x).

        Raises:
            ValueError: x of another shape or with other codes, or no such label.
        """
        checks.codes("x", x, self.shape, -1)
        index = self.index(label)
        if index not in self._marginals:
            log_p = self.log_probs(index)
            for axis in range(self.length):  # the last slot of an axis, at index −1, is the sum over it
                log_p = torch.cat([log_p, log_p.logsumexp(axis, keepdim=True)], axis)
            self._marginals[index] = log_p
        rows = [along(self._marginals[index], x, axis) for axis in range(self.length)]
        return _padded([log_divide(row[:, :-1], row[:, -1:]) for row in rows], max(self.shape))

    def denoise_uniform(self, x: Tensor, time: Tensor, label: Label = None) -> Tensor:
        """Return log p(x_0,j = v | x_t = x, label), [n, T, V]; −∞ for V_j ≤ v < V = max_t V_t.

        Args:
            x: codes, [n, T].
            time: t; noise replaces every x_j by a uniform value with probability 1 − exp(−t).
            label: y; None for p(x).

        Raises:
            ValueError: x of another shape or with other codes, a negative time, or no such label.
        """
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
        """Return the index of a label that is given by its index or its name; None stays None.

        Raises:
            ValueError: no such label, or one of probability 0.
        """
        index = checks.label(label, self.labels)
        if index is not None and (self.log_joint_with_label[index] == -math.inf).all():
            raise ValueError(f"label must have a positive probability, got {self.labels[index]!r} of probability 0")
        return index


def noised(log_p: Tensor, time: float, axes: Sequence[int]) -> Tensor:
    """Return the log law of noised x, [V_1, …, V_T].

    Args:
        log_p: the log law of x, [V_1, …, V_T].
        time: t; noise replaces x_j by a uniform value with probability 1 − exp(−t).
        axes: the j that are noised.
    """
    replaced = math.log(-math.expm1(-time)) if time > 0 else -math.inf
    for axis in axes:
        mean = log_p.logsumexp(axis, keepdim=True) - math.log(log_p.shape[axis])
        log_p = torch.logaddexp(log_p - time, mean + replaced)
    return log_p


def along(log_p: Tensor, x: Tensor, axis: int) -> Tensor:
    """Return log p(x_1, …, v, …, x_T) for every value v of x_axis, [n, V_axis].

    Args:
        log_p: a log law, [V_1, …, V_T].
        x: codes, [n, T].
        axis: which x_t varies.
    """
    others = (*x[:, :axis].unbind(1), *x[:, axis + 1 :].unbind(1))
    return log_p.movedim(axis, -1)[others].expand(len(x), -1)


def _padded(rows: Sequence[Tensor], size: int) -> Tensor:
    """Return T tensors [n, V_t] as one, [n, T, size], filled with −∞."""
    return torch.stack([functional.pad(row, (0, size - row.shape[1]), value=-math.inf) for row in rows], 1)
