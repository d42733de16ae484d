r"""Compare the samplers of a study: paired differences over its seeds, at equal scale, at equal accuracy, or between two β.

The data are split once; every seed trains and samples anew. Intervals are simultaneous 95 % confidence intervals by Student's t
over the seeds, for all comparisons of one answer.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.frames import Cells, pick
from analysis.metrics.confidence import Difference, mean_of, paired_difference
from analysis.metrics.sample_quality import LIMITS

MEASURES = ("accuracy", "coverage", "spread")
SMALLEST = 0.05  # the smallest difference of interest: of shares, and of the spread in units of the data's


class Comparison(NamedTuple):
    """The difference between a joint sampler and its proposal, at the largest scale where the joint sampler converged.

    Attributes:
        scale: that γ.
        at_scale: quantity ↦ difference at that γ.
        at_accuracy: the difference of coverage at equal accuracy, None if no accuracy occurs in both.
        remaining: Var(Ẑ)/Z², a proxy for the share of the bias that remains.
    """

    scale: float
    at_scale: dict[str, Difference]
    at_accuracy: Difference | None
    remaining: float


def compare(frame: pd.DataFrame, first: str, second: str) -> Comparison | None:
    """Return first − second at the largest scale where the first, a joint sampler, converged; None if it never did.

    Args:
        frame: of a study.
        first: the joint sampler.
        second: its proposal.
    """
    scales = converged(frame, first)
    if not scales:
        return None
    scale = max(scales)
    found = {name: difference_at(frame, name, (first, second), scale, comparisons=len(MEASURES)) for name in MEASURES}
    mean, half, count = at_accuracy(frame, "coverage", first, second, scales)
    equal = Difference(mean, half, SMALLEST) if count else None
    return Comparison(scale, found, equal, mean_at(frame, first, "left", scale))


def by_seed(frame: pd.DataFrame, family: str, quantity: str, by: str = "scale") -> pd.DataFrame:
    """Return a quantity of a sampler with one row per seed.

    Args:
        frame: of a study.
        family: the sampler.
        quantity: of the frame.
        by: "scale" or "beta", of which every value has a column.
    """
    return pick(frame, family=family, quantity=quantity).pivot_table(index="seed", columns=by, values="value")


def mean_at(frame: pd.DataFrame, family: str, quantity: str, scale: float) -> float:
    """Return the mean of a quantity of a sampler over seeds.

    Args:
        frame: of a study.
        family: the sampler.
        quantity: of the frame.
        scale: γ.
    """
    return float(pick(frame, family=family, quantity=quantity, scale=scale)["value"].mean())


def by_value(frame: pd.DataFrame, families: Sequence[str], quantity: str, by: str = "scale", form: str = ".2f") -> Cells:
    """Return the table of the means of a quantity over the seeds with their 95 % intervals: γ or β by sampler.

    Args:
        frame: of a study.
        families: the samplers, one column each; those without the quantity are left out.
        quantity: of the frame.
        by: "scale" or "beta".
        form: of a number.
    """
    tables = {family: by_seed(frame, family, quantity, by) for family in families}
    tables = {family: table for family, table in tables.items() if not table.empty}
    rows = []
    for at in sorted({at for table in tables.values() for at in table.columns}):
        found = [mean_of(table[at].dropna().tolist()) if at in table else None for table in tables.values()]
        rows.append([f"{at:g}", *("–" if each is None else f"{each:{form}}" for each in found)])
    return ("γ" if by == "scale" else "β", *tables), rows


def paired(first: pd.Series, second: pd.Series, smallest: float = SMALLEST, comparisons: int = 1) -> Difference:
    """Return the mean of first − second over seeds, with its interval.

    Args:
        first: one value per seed.
        second: one value per seed, in the same order.
        smallest: the smallest difference of interest.
        comparisons: how many intervals hold simultaneously.
    """
    return Difference(*paired_difference(first.tolist(), second.tolist(), comparisons), smallest)


def difference_at(
    frame: pd.DataFrame, quantity: str, pair: tuple[str, str], at: float, *, by: str = "scale", comparisons: int
) -> Difference:
    """Return the difference of two samplers at one scale or β, paired by seed.

    Args:
        frame: of a study.
        quantity: of the frame.
        pair: the samplers, first − second.
        at: γ, or β.
        by: "scale" or "beta".
        comparisons: how many intervals hold simultaneously.
    """
    first, second = (by_seed(frame, family, quantity, by)[at] for family in pair)
    return paired(first, second, comparisons=comparisons)


def at_accuracy(
    frame: pd.DataFrame, quantity: str, first: str, second: str, scales: Sequence[float]
) -> tuple[float, float, int]:
    """Return first − second at equal accuracy, as a mean over scales, half its interval, and the number of terms.

    The second sampler's quantity is interpolated between its scales, up to that of its highest accuracy. A scale of the first
    is left out where the second never has its accuracy; the mean is NaN if that leaves none in some seed.

    Args:
        frame: of a study.
        quantity: of the frame.
        first: a sampler.
        second: the sampler to compare it with.
        scales: γ of the first.
    """
    means, count = [], 0
    for _, rows in frame.groupby("seed"):
        wide = rows[rows["quantity"].isin(["accuracy", quantity])].pivot_table(
            index=["family", "scale"], columns="quantity", values="value"
        )
        if not {first, second} <= set(wide.index.get_level_values(0)):
            return float("nan"), float("nan"), 0
        own, other = wide.loc[first], pd.DataFrame(wide.loc[second])
        other = other[other.index <= other["accuracy"].idxmax()].sort_values(by="accuracy")  # above, accuracy falls again
        own = own[own.index.isin(scales) & own["accuracy"].between(other["accuracy"].min(), other["accuracy"].max())]
        if own.empty:
            return float("nan"), float("nan"), 0
        means.append(float((own[quantity] - np.interp(own["accuracy"], other["accuracy"], other[quantity])).mean()))
        count += len(own)
    mean, half = paired_difference(means, [0.0] * len(means))
    return mean, half, count


def converged(frame: pd.DataFrame, family: str, by: str = "scale") -> list[float]:
    """Return the scales, or β, at which a joint sampler converged, in ascending order.

    It converged where the halves of its populations agree on log Ẑ within half a nat, and Var(Ẑ)/Z², a proxy for the remaining
    bias, is at most ½; both are means over labels and seeds. The joint sampler of γ = 0 and 1 and of β = 1 has no weights and
    no such numbers.

    Args:
        frame: of a study.
        family: the sampler.
        by: "scale" or "beta".
    """
    apart, left = (by_seed(frame, family, name, by).mean() for name in ("log_z_apart", "left"))
    return [float(scale) for scale in apart.index[(apart <= LIMITS["log_z_apart"]) & (left <= LIMITS["left"])]]


def listed(values: Sequence[float] | pd.Series | pd.Index, form: str = ".2f") -> str:
    """Return numbers as text, with commas."""
    return ", ".join(f"{value:{form}}" for value in values)
