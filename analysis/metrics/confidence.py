r"""Estimates with standard errors, and what 95 % confidence intervals decide about a difference.

    different      the interval excludes 0
    alike          the interval includes 0, and lies between −δ and δ, with δ the smallest difference of interest
    not decided    the interval includes 0, and reaches beyond −δ or δ

Intervals are Student's t. A combination of independent estimates has the degrees of freedom of Welch and Satterthwaite.

Sources: Welch, "The generalization of Student's problem when several different population variances are involved" (1947);
Schuirmann, "A comparison of the two one-sided tests procedure and the power approach" (1987).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from scipy.special import stdtrit

from analysis.typeset import signed

LEVEL = 0.95
BETTER, WORSE, BOTH, ALIKE, OPEN = "better", "worse", "better and worse", "no difference", "not decided"
DECISIONS = (BETTER, WORSE, BOTH, ALIKE, OPEN)


class Estimate(NamedTuple):
    """A number, its standard error, and the degrees of freedom of that error."""

    value: float
    std_error: float
    freedom: float

    def __str__(self) -> str:
        return format(self)

    def __format__(self, form: str) -> str:
        form = form or ".3f"
        return f"{self.value:z{form}}" + ("" if self.exact else f" ± {self.half:{form}}")

    @property
    def exact(self) -> bool:
        """Whether a computation without draws gave the number."""
        return self.std_error == 0 and math.isinf(self.freedom)

    @property
    def half(self) -> float:
        """Half the width of the 95 % interval."""
        return self.half_of(1)

    def half_of(self, comparisons: int) -> float:
        """Return half the width of one of so many simultaneous 95 % confidence intervals (Bonferroni)."""
        quantile = float(stdtrit(min(self.freedom, 1e9), 1 - (1 - LEVEL) / (2 * comparisons)))
        return quantile * self.std_error if self.std_error > 0 else self.std_error

    @property
    def interval(self) -> tuple[float, float]:
        """The lower and upper end of the 95 % interval."""
        return self.value - self.half, self.value + self.half

    def minus(self, other: "Estimate") -> "Estimate":
        """Return the difference of two independent estimates."""
        return combined((1.0, -1.0), (self, other))


def combined(weights: Sequence[float], estimates: Sequence[Estimate]) -> Estimate:
    """Return Σ_i w_i e_i of independent estimates."""
    value = sum(weight * each.value for weight, each in zip(weights, estimates, strict=True))
    variances = [(weight * each.std_error) ** 2 for weight, each in zip(weights, estimates, strict=True)]
    total = sum(variances)
    parts = sum(variance**2 / each.freedom for variance, each in zip(variances, estimates, strict=True))
    freedom = total**2 / parts if parts > 0 else min(each.freedom for each in estimates)
    return Estimate(value, math.sqrt(total), freedom)


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of independent estimates."""
    return combined([1 / len(estimates)] * len(estimates), estimates)


def mean_of(values: Any) -> Estimate:
    """Return the mean of n independent values, with standard error s/√n (NaN for n = 1) and n − 1 degrees of freedom."""
    numbers = torch.as_tensor(values, dtype=torch.float64)
    error = float(numbers.std()) / len(numbers) ** 0.5 if len(numbers) > 1 else math.nan
    return Estimate(float(numbers.mean()), error, len(numbers) - 1.0)


def of_row(row: Any) -> Estimate:
    """Return the estimate in a row of a tidy frame; without `freedom` its error is normal, or 0."""
    freedom = float(row.get("freedom", math.inf))
    return Estimate(float(row["value"]), float(row["std_error"]), math.inf if math.isnan(freedom) else freedom)


def by_family(frame: pd.DataFrame) -> dict[str, Estimate]:
    """Return the estimate of every family of a frame with one row per family."""
    return {str(row["family"]): of_row(row) for _, row in frame.iterrows()}


class Difference(NamedTuple):
    """A difference, half the width of its 95 % interval, and the smallest difference of interest."""

    mean: float
    half: float
    smallest: float

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return abs(self.mean) > self.half

    @property
    def small(self) -> bool:
        """Whether the interval lies between −δ and δ, with δ the smallest difference of interest."""
        return abs(self.mean) + self.half < self.smallest

    @property
    def answer(self) -> str:
        """What the interval decides, in words."""
        if self.clear:
            return "a difference, though a smaller one than would matter" if self.small else "a difference"
        return "no difference that would matter" if self.small else "not decided"

    @property
    def text(self) -> str:
        """The difference with its sign and its interval."""
        return f"{signed(self.mean)} ± {self.half:.3f}"

    def __str__(self) -> str:
        return f"{self.text} ({self.smallest:g} would matter)"


def difference(first: Estimate, second: Estimate, smallest: float, comparisons: int = 1) -> Difference:
    """Return first − second of independent estimates.

    Args:
        first: an estimate.
        second: the estimate that is subtracted.
        smallest: the smallest difference of interest.
        comparisons: number of simultaneous intervals that this one belongs to.
    """
    gap = first.minus(second)
    return Difference(gap.value, gap.half_of(comparisons), smallest)


def decide(found: Sequence[Difference], *, lower_is_better: bool = False) -> str:
    """Return one of `DECISIONS` on several differences, of which only those that are clear and not small are used."""
    sign = -1 if lower_is_better else 1
    gains = [sign * each.mean > 0 for each in found if each.clear and not each.small]
    if gains:
        return BOTH if len(set(gains)) > 1 else BETTER if gains[0] else WORSE
    return ALIKE if found and all(each.small for each in found) else OPEN


def paired_difference(first: Sequence[float], second: Sequence[float], comparisons: int = 1) -> tuple[float, float]:
    """Return the mean of first − second over paired values, and half the width of its 95 % interval (NaN for one pair).

    Args:
        first: one value per pair, for example per seed.
        second: the values that are subtracted.
        comparisons: number of simultaneous intervals that this one belongs to.
    """
    gap = mean_of([a - b for a, b in zip(first, second, strict=True)])
    return gap.value, gap.half_of(comparisons)


def nearest(distances: dict[str, Estimate]) -> str:
    """Return a sentence that names the smallest of several distances if its difference from the second smallest is clear."""
    first, second = sorted(distances, key=lambda name: distances[name].value)[:2]
    gap = difference(distances[second], distances[first], 0.0)
    if gap.clear:
        return f"the nearest is {first}"
    return f"the nearest is not decided ({second} − {first}: {gap.text})"
