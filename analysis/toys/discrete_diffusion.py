r"""Exact laws of x under guided discrete diffusion on a table, summed over all paths.

Guided rates are Π_k (rate of branch k)^{w_k}. With masks, branch k unmasks x_j to v at a rate ∝ p_k(v | x_U), U the unmasked
positions, so the guided rate is ∝ w_j(v | x_U) = Π_k p_k(v | x_U)^{w_k}. Only the order of the jumps matters:

* unnormalised rates: the next jump is (j, v) with probability w_j(v | x_U)/S(x_U), S = Σ over masked j of Z_j = Σ_v w_j(v);
  since the product of the w_j along any order is w(x), the law is w(x) Σ_orders Π_i 1/S(x_{U_i}), U_i the
  positions unmasked before jump i;
* rates normalised at every position: the probability is w_j(v | x_U)/(m Z_j), with m masks, and the law is the mean over
  orders of sequential laws.

Under uniform noise branch k goes from x to x', which differ at one position j, at rate p_{t,k}(x')/(V_j p_{t,k}(x)). The
guided process follows dq/ds = R_s q, R(x → x') = π_t(x')/(V_j π_t(x)), π_t = Π_k p_{t,k}^{w_k}, with falling t = t_max − s.

Sources: Nisonoff et al., "Unlocking guidance for discrete state-space diffusion and flow models" (2024), arXiv 2406.01572;
Schiff et al., "Simple guidance mechanisms for discrete diffusion models" (2024), arXiv 2412.10193.
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

    Args:
        table: p(y, x).
        weights: w_k by label.
        normalized: whether guided rates are normalised at every position.

    Raises:
        ValueError: an improper tilt.
    """
    checks.weights(weights)
    axes = range(table.length)
    laws, values = [table.log_probs(label) for label in weights], list(weights.values())
    reached = {frozenset[int](): torch.zeros((1,) * table.length, dtype=torch.float64)}
    for size in axes:
        for known in map(frozenset, combinations(axes, size)):
            masked = [axis for axis in axes if axis not in known]
            here = [_marginal(law, known) for law in laws]
            rates, log_z = {}, {}
            for axis in masked:
                conditionals = [log_divide(_marginal(law, known | {axis}), at) for law, at in zip(laws, here, strict=True)]
                rates[axis] = check_proper(log_combine(conditionals, values))
                log_z[axis] = rates[axis].logsumexp(axis, keepdim=True)
            total = torch.stack(list(log_z.values())).logsumexp(0)
            for axis in masked:
                through = log_z[axis] + math.log(len(masked)) if normalized else total
                path = reached[known] + log_divide(rates[axis], through)
                before = reached.get(known | {axis}, torch.full_like(path, -math.inf))
                reached[known | {axis}] = torch.logaddexp(before, path)
    return reached[frozenset(axes)]


def uniform_law(table: Table, weights: Weights, *, time: float = 25.0, accuracy: float = 1e-9) -> Tensor:
    """Return the log law of guided diffusion with uniform noise, [V_1, …, V_T].

    Args:
        table: p(y, x) without zeros.
        weights: w_k by label.
        time: t_max, at which x is uniform.
        accuracy: relative tolerance of the integrator.

    Raises:
        ValueError: a table with zeros, near which rates have no bound.
    """
    checks.weights(weights)
    checks.positive("time", time), checks.positive("accuracy", accuracy)
    laws = [table.log_probs(label) for label in weights]
    if any((law == -math.inf).any() for law in laws):
        raise ValueError("table must have no zeros under uniform noise, got some; try smoothing")

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
