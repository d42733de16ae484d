r"""Schedules: the scale γ as a function of the noise level σ, for the `scale` of `LogLinear.guidance` and of a rule.

A schedule is any function from a noise level to a scale; these are the usual ones, with one number for all samples. Where
a schedule makes a weight the number 0, as at γ = 1 outside an interval, that score is not evaluated at all. A model whose
scale depends on σ has no joint law for `sample_joint` to correct it to.

Source: Kynkäänniemi et al., "Applying guidance in a limited interval" (2024), whose interval is (σ_lo, σ_hi].
"""

import math
from collections.abc import Callable

from torch import Tensor

from arguide import checks

Schedule = Callable[[Tensor], float]


def constant(scale: float) -> Schedule:
    """Return γ(σ) = γ."""
    _check(scale)
    return lambda _: scale


def interval(scale: float, low: float = 0.0, high: float = math.inf, *, outside: float = 1.0) -> Schedule:
    """Return γ(σ) = γ for low < σ ≤ high, and `outside` (unguided by default) elsewhere.

    On Gaussians, cond N(m, a) and uncond N(0, b), the variance of the guided ODE is a·ρ^{γ−1} with
    ρ = (a + low²)(b + high²) / ((a + high²)(b + low²)).
    """
    _check(scale, outside)
    checks.not_negative("low", low)
    checks.number("high", high, f"above low, {low}", lambda found: low < found)
    return lambda sigma: scale if low < float(sigma) <= high else outside


def ramp(first: float, last: float, high: float, low: float) -> Schedule:
    """Return `first` for σ ≥ high, `last` for σ ≤ low, and between them what is linear in log σ."""
    _check(first, last)
    checks.positive("low", low)
    checks.number("high", high, f"finite and above low, {low}", lambda found: low < found < math.inf)

    def at(sigma: Tensor) -> float:
        level = min(max(float(sigma), low), high)
        return first + (last - first) * math.log(high / level) / math.log(high / low)

    return at


def _check(*scales: float) -> None:
    for scale in scales:
        checks.number("scale", scale)
