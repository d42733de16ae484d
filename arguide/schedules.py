r"""Schedules: the scale γ as a function of the position t = 0, 1, … of the token to come.

A schedule is any function from a position to a scale; these are the usual ones, with one number for all rows. The guided law
of a schedule is Π_t p(x_t|x_<t)^{1−γ_t} p(x_t|x_<t,y)^{γ_t} / Z_t: still sequential, and its joint counterpart is the product
of the same factors without Z_t.

Source: Kynkäänniemi et al., "Applying guidance in a limited interval", arXiv:2404.07724, for diffusion; here positions take the
place of noise levels.
"""

import math
from collections.abc import Callable

from arguide import checks

Schedule = Callable[[int], float]


def interval(scale: float, start: int = 0, stop: float = math.inf, *, outside: float = 1.0) -> Schedule:
    """Return γ_t = γ for start ≤ t < stop, and `outside` (unguided by default) elsewhere.

    Args:
        scale: γ.
        start: the first guided position.
        stop: the first position after the guided ones.
        outside: γ elsewhere.

    Raises:
        ValueError: a scale that is not finite, or a stop that is not above the start.

    Example:
        >>> scale = arguide.schedules.interval(3.0, 1, 3)
        >>> [scale(t) for t in range(4)]
        [1.0, 3.0, 3.0, 1.0]
    """
    checks.number("scale", scale), checks.number("outside", outside)
    checks.number("start", start)
    checks.number("stop", stop, f"a number above the start, {start}", lambda found: start < found)
    return lambda position: scale if start <= position < stop else outside


def ramp(first: float, last: float, length: int) -> Schedule:
    """Return γ_t = first + (last − first)·min(t / length, 1): linear over `length` tokens, constant after them.

    Args:
        first: γ at position 0.
        last: γ from position `length` on.
        length: number of tokens.

    Raises:
        ValueError: a scale that is not finite, or a length below 1.

    Example:
        >>> scale = arguide.schedules.ramp(1.0, 3.0, 2)
        >>> [scale(t) for t in range(4)]
        [1.0, 2.0, 3.0, 3.0]
    """
    checks.number("first", first), checks.number("last", last)
    checks.integer("length", length)
    return lambda position: first + (last - first) * min(position / length, 1.0)
