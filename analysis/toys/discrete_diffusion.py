r"""Exact laws of guided discrete diffusion on a table: which x comes out, summed over every path that leads there.

Guided rates are Π_k (rate of branch k)^{w_k}. Masked, branch k unmasks x_j to v at a rate ∝ p_k(v | x_U), so the guided one
is ∝ w_j(v | x_U) = Π_k p_k(v | x_U)^{w_k}. Only the order of the jumps matters:

* rates as they are: the next jump is (j, v) with probability w_j(v | x_U)/S(x_U), S = Σ over masked j of Z_j = Σ_v w_j(v);
  since the product of the w_j along any order is w(x), the law is w(x) Σ_π Π_k 1/S(x_{π<k});
* normalised at every position: it is w_j(v | x_U)/(m Z_j), m the number of masks: the mean over orders of sequential laws.

Under uniform noise branch k goes from x to x', one site apart, at rate p_{t,k}(x')/(V_j p_{t,k}(x)), so the guided process
follows the linear equation dq/ds = R_s q, R(x → x') = π_t(x')/(V_j π_t(x)), π_t = Π_k p_{t,k}^{w_k}, as t = t_max − s falls.

Sources: Nisonoff et al., "Unlocking guidance for discrete state-space diffusion and flow models" (2024); Schiff et al.,
"Simple guidance mechanisms for discrete diffusion models" (2024).
"""

import math
from itertools import combinations

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from analysis.toys import checks
from analysis.toys.law import Weights, check_proper, log_combine, log_divide
from analysis.toys.table import Table, noised


def masked_law(table: Table, weights: Weights, *, normalized: bool) -> Tensor:
    """Return the log law of guided masked diffusion, [V_1, …, V_T], by dynamic programming over the sets of unmasked x_j.

    Raises:
        ValueError: an improper tilt.
    """
    checks.weights(weights)
    axes = range(table.length)
    laws = [table.log_probs(label) for label in weights]
    reached = {frozenset[int](): torch.zeros((1,) * table.length, dtype=torch.float64)}
    for size in axes:
        for known in map(frozenset, combinations(axes, size)):
            masked = [axis for axis in axes if axis not in known]
            here = [_marginal(law, known) for law in laws]
            rates, log_z = {}, {}
            for axis in masked:
                there = [_marginal(law, known | {axis}) for law in laws]
                pairs = zip(there, here, strict=True)
                rates[axis] = check_proper(log_combine([log_divide(a, b) for a, b in pairs], list(weights.values())))
                log_z[axis] = rates[axis].logsumexp(axis, keepdim=True)
            total = torch.stack(list(log_z.values())).logsumexp(0)
            for axis in masked:
                through = log_z[axis] + math.log(len(masked)) if normalized else total
                path = reached[known] + log_divide(rates[axis], through)
                before = reached.get(known | {axis}, torch.full_like(path, -math.inf))
                reached[known | {axis}] = torch.logaddexp(before, path)
    return reached[frozenset(axes)]


def uniform_law(table: Table, weights: Weights, *, time: float = 25.0, accuracy: float = 1e-9) -> Tensor:
    """Return the log law of guided diffusion with uniform noise from t = `time`, where x is uniform, [V_1, …, V_T].

    Raises:
        ValueError: a table with zeros, near which rates grow without bound.
    """
    checks.weights(weights)
    checks.positive("time", time), checks.positive("accuracy", accuracy)
    laws = [table.log_probs(label) for label in weights]
    if any((law == -math.inf).any() for law in laws):
        raise ValueError("the law under uniform noise is solved for tables without zeros")

    def slope(s: float, q: np.ndarray) -> np.ndarray:
        t, mass = time - s, torch.from_numpy(q).reshape(table.shape)
        pi = log_combine([noised(law, t, range(table.length)) for law in laws], list(weights.values()))
        change = torch.zeros_like(mass)
        for axis, size in enumerate(table.shape):
            # Mass at x flows to x' at rate π(x')/(V π(x)): in, π(x) Σ' q(x')/π(x') / V; out, q(x) Σ' π(x')/π(x) / V.
            level = (pi - pi.amax(axis, keepdim=True)).exp()
            change += (level * (mass / level).sum(axis, True) - mass * level.sum(axis, True) / level) / size
        return change.flatten().numpy()

    first = np.full(laws[0].numel(), 1 / laws[0].numel())
    solved = solve_ivp(slope, (0.0, time), first, method="LSODA", rtol=accuracy, atol=accuracy * 1e-3)
    return torch.from_numpy(solved.y[:, -1]).reshape(table.shape).clamp(min=0).log()


def _marginal(log_p: Tensor, known: frozenset[int]) -> Tensor:
    """Return the log marginal of the known axes, the others of size 1."""
    others = [axis for axis in range(log_p.ndim) if axis not in known]
    return log_p.logsumexp(others, keepdim=True) if others else log_p
