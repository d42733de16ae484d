r"""The effective β of a law q: the power p^β of the base law that is nearest to q, which is the one of equal likelihood.

    β* = argmin_β KL(q ‖ p^β/Z)        ⇔        E_{p^β*/Z}[log p] = E_q[log p]
    lost entropy:    KL(q ‖ p^β*/Z) = H(p^β*/Z) − H(q) ≥ 0

since d/dβ KL(q ‖ p^β/Z) = E_{p^β/Z}[log p] − E_q[log p], which grows with β. So no law has a larger entropy than p^β at its
mean log-likelihood: every other way to lower a temperature loses KL(q ‖ p^β*/Z) nats of entropy.

Source: Jaynes, "Information theory and statistical mechanics" (1957), https://doi.org/10.1103/PhysRev.106.620, for the largest
entropy at a given mean.
"""

import math
from collections.abc import Callable

import torch
from scipy.optimize import brentq
from torch import Tensor

from analysis.metrics.confidence import Estimate
from analysis.toys import checks

Mean = Callable[[float], float]  # β ↦ E_{p^β/Z}[log p]
LEAST, MOST = 1e-3, 1e9  # the range of β that is searched
TOLERANCE = 1e-10  # of log β
ROUNDING = 1e-10  # nats: a mean this near to its limit has reached it
STEP = 1e-4  # of log β, for the slope of the mean


def effective_beta(mean: Mean, log_likelihood: float) -> float:
    """Return the β* with E_{p^β*}[log p] = E_q[log p]; 0 below the smallest and ∞ above the largest mean of the range.

    Args:
        mean: β ↦ E_{p^β/Z}[log p], which does not fall with β.
        log_likelihood: E_q[log p].

    Raises:
        ValueError: a log-likelihood that is not a number.
    """
    if math.isnan(log_likelihood):
        raise checks.refusal("log_likelihood", "a number", log_likelihood)

    def excess(log_beta: float) -> float:
        return mean(math.exp(log_beta)) - log_likelihood

    low, high = 0.0, 0.0
    while excess(low) >= -ROUNDING:  # the bracket grows from β = 1, since powers far from 1 may be costly or not precise
        low -= 1.0
        if low < math.log(LEAST):
            return 0.0
    while excess(high) <= ROUNDING:
        high += 1.0
        if high > math.log(MOST):
            return math.inf
    return math.exp(brentq(excess, low, high, xtol=TOLERANCE))


def estimated(mean: Mean, log_likelihood: Estimate) -> Estimate:
    """Return β* of an estimated E_q[log p], with its standard error by the delta method.

    Args:
        mean: as in `effective_beta`.
        log_likelihood: the estimate of E_q[log p].
    """
    beta = effective_beta(mean, log_likelihood.value)
    if not 0 < beta < math.inf:
        return Estimate(beta, math.inf, log_likelihood.freedom)
    slope = (mean(beta * math.exp(STEP)) - mean(beta * math.exp(-STEP))) / (2 * STEP * beta)
    return Estimate(beta, log_likelihood.std_error / slope if slope > 0 else math.inf, log_likelihood.freedom)


def of_cells(log_p: Tensor) -> Mean:
    """Return β ↦ E_{p^β/Z}[log p] of a law of cells, or of a density on equally spaced points, log p [V]."""
    known = log_p[log_p > -math.inf]

    def mean(beta: float) -> float:
        return float((torch.softmax(beta * known, 0) * known).sum())

    return mean


def of_gaussian(variance: float) -> Mean:
    """Return β ↦ E_{p^β/Z}[log p] of N(m, a): −½ log 2πa − 1/(2β), so that β* = a/E_q[(x − m)²]."""
    checks.positive("variance", variance)
    return lambda beta: -(math.log(2 * math.pi * variance) + 1 / beta) / 2
