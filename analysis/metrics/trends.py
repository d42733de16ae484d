"""Read from a frame what the title of a figure may state: where laws agree, and what rises, falls, or is clearly larger."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.metrics.confidence import Estimate, by_family, difference, mean_of

EQUAL = 1e-9  # exact laws that differ by less are equal


def direction(frame: pd.DataFrame, x: str, by: str) -> int:
    """Return 1 where the values of every group rise with x, −1 where all fall, 0 otherwise; equal neighbours are no exception.

    Args:
        frame: a tidy frame with one row per group and x.
        x: the column in whose order the values are read.
        by: the column that separates the groups.
    """
    every = np.array([step for _, rows in frame.groupby(by) for step in np.diff(rows.sort_values(x)["value"])])
    if (every >= -EQUAL).all() and (every > EQUAL).any():
        return 1
    return -1 if (every <= EQUAL).all() and (every < -EQUAL).any() else 0


def without_gap(frame: pd.DataFrame, by: str) -> list[object]:
    """Return the groups of a frame whose values are 0 throughout."""
    most = frame.assign(value=frame["value"].abs()).groupby(by, sort=False)["value"].max()
    return list(most.index[most < EQUAL])


def clearly(first: Estimate, second: Estimate) -> int:
    """Return 1 where the first of two independent estimates is clearly larger, −1 where it is smaller, 0 where undecided."""
    gap = difference(first, second, 0.0)
    return (1 if gap.mean > 0 else -1) if gap.clear and abs(gap.mean) > EQUAL else 0


def clearly_paired(first: Sequence[float], second: Sequence[float]) -> int:
    """Return the same for values that are paired, for example by seed."""
    gap = mean_of([a - b for a, b in zip(first, second, strict=True)])
    return clearly(gap, Estimate(0.0, 0.0, gap.freedom))


def above(frame: pd.DataFrame, x: str, families: Sequence[str], floor: str, smallest: float) -> list[float]:
    """Return the x at which each of some families is clearly above a floor, by more than would matter.

    Args:
        frame: a tidy frame with one row per family and x.
        x: a column.
        families: the samplers.
        floor: the family that they are compared with.
        smallest: the smallest difference of interest.
    """
    found = []
    for at, rows in frame.groupby(x):
        values = by_family(rows)
        gaps = [difference(values[name], values[floor], smallest, len(families)) for name in families if name in values]
        if floor in values and gaps and all(gap.clear and gap.mean > 0 and not gap.small for gap in gaps):
            found.append(float(str(at)))
    return found


def nearest_along(frame: pd.DataFrame, x: str, symbol: str, names: Mapping[str, str]) -> str:
    """Return which of several exact laws is the nearest along x, as text: "A up to T = 8, then B".

    Args:
        frame: a tidy frame of distances with one row per family and x.
        x: a column.
        symbol: of x in the text.
        names: family ↦ its name in the text.
    """
    wide = frame[frame["family"].isin(list(names))].pivot(index=x, columns="family", values="value").sort_index()
    wide = wide[wide.max(axis=1) > 1e-6].dropna()  # where all are equal, none is the nearest
    best = wide.idxmin(axis=1).astype(str)
    changes = best.index[best != best.shift()]
    if len(changes) == 1:
        return f"Nearest to the joint law: {names[best.iloc[0]]}"
    if len(changes) == 2:
        last = best.index[best.index < changes[1]].max()
        return f"Nearest: {names[best.iloc[0]]} up to {symbol} = {last:g}, then {names[best.iloc[-1]]}"
    return "Distance to the joint law"
