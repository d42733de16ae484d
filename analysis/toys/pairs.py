"""`Pair`: an exact p(x|y) beside any law that stands for p(x), coherent only where that law is the mixture of the labels."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from analysis.toys.table import Table

UNLIKELY = 0.01


class Pair(NamedTuple):
    """A conditional law, an unconditional one, the posterior of the label, and Bayes' bound.

    laws: a table with the rows (p(x|y), p(x)).
    log_posterior: log p(y|x) of the exact joint law, [V_1, …, V_T].
    bound: −log π_y, nats.
    counts: numbers of every x whose means are measured, [V_1, …, V_T] each.
    """

    laws: Table
    log_posterior: Tensor
    bound: float
    counts: Mapping[str, Tensor] = MappingProxyType({})

    @property
    def log_cond(self) -> Tensor:
        """The log of p(x|y), [V_1, …, V_T]."""
        return self.laws.log_probs(0)

    @property
    def log_ratio(self) -> Tensor:
        """The log-ratio log p(x|y)/p(x), [V_1, …, V_T]; −∞ where p(x|y) = 0."""
        return torch.where(self.log_cond == -math.inf, -math.inf, self.log_cond - self.laws.log_probs(1))


def paired(table: Table, label: int, log_fit: Tensor) -> Pair:
    """Return the pair of a label's exact law and an unconditional law.

    Args:
        table: the exact joint law.
        label: y.
        log_fit: log p(x), [V_1, …, V_T].
    """
    laws = Table.from_log(torch.stack([table.log_probs(label), log_fit]))
    return Pair(laws, table.log_class_probability()[label], -float(table.log_prior()[label]))


def unlikely(log_cond: Tensor) -> Tensor:
    """Return which x are the unlikeliest under p(x|y), with 1 % of its mass at most, [V_1, …, V_T]."""
    ordered, order = log_cond.flatten().sort()
    mask = torch.zeros(len(order), dtype=torch.bool)
    mask[order] = ordered.exp().cumsum(0) <= UNLIKELY
    return mask.reshape(log_cond.shape)
