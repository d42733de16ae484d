r"""Compare samplers at equal accuracy: two curves of a measure against accuracy, at levels that both reach.

Every sampler traces a curve as γ grows from 1: accuracy rises, and everything else changes. At equal γ two samplers differ in
both; at equal accuracy the difference is what one of them gains without following the label less. A curve ends at its highest
accuracy, since accuracy may fall again. Models of different seeds differ in accuracy, so every seed has levels of its own,
equally spaced over the accuracies that both samplers reach; differences at the k-th level are averaged over the seeds.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.metrics.confidence import Difference, decide, paired_difference

LEVELS = 5
NARROWEST = 0.01  # of accuracy; a narrower range has one level
# The smallest differences of interest: of shares, of the spread in units of the data's, of distances and of nats per sample.
MEASURES = {
    "spread": 0.05,
    "coverage": 0.05,
    "distinct": 0.05,
    "memorised": 0.05,
    "new rows": 0.05,
    "energy distance": 0.02,
    "log p(x|y)": 1.0,
}
LOWER_IS_BETTER = {"memorised", "energy distance"}


class Level(NamedTuple):
    """The difference of two samplers in one measure at one level of accuracy, a mean over the seeds."""

    accuracy: float
    difference: Difference


def levels(frame: pd.DataFrame, first: str, second: str, measures: tuple[str, ...]) -> dict[str, list[Level]]:
    """Return first − second at up to five levels of accuracy, with 95 % intervals that are simultaneous over the levels.

    Args:
        frame: of a study.
        first: a sampler.
        second: the sampler to compare it with.
        measures: quantities of the frame; those that a sampler lacks are left out.

    Returns:
        measure ↦ levels; empty where the samplers share no accuracy in some seed.
    """
    pairs = [tuple(curve(own, family) for family in (first, second)) for _, own in frame.groupby("seed")]
    if not pairs or any(each.empty for pair in pairs for each in pair):
        return {}
    low, high = np.array([[max(a.index.min(), b.index.min()), min(a.index.max(), b.index.max())] for a, b in pairs]).T
    if (low > high).any():
        return {}
    at = np.linspace(low, high, LEVELS) if (high - low).mean() >= NARROWEST else (low + high)[None] / 2
    shared = [name for name in measures if all(name in each for pair in pairs for each in pair)]
    found = {}
    for name in shared:
        values = [
            [np.interp(at[:, i], each.index, each[name]) for i, each in enumerate(column)]
            for column in zip(*pairs, strict=True)
        ]
        rows = zip(at.mean(1), *(np.stack(each, 1).tolist() for each in values), strict=True)
        found[name] = [
            Level(float(level), Difference(*paired_difference(a, b, len(at)), MEASURES[name])) for level, a, b in rows
        ]
    return found


def curve(frame: pd.DataFrame, family: str) -> pd.DataFrame:
    """Return the measures of a sampler against its accuracy, from γ = 1 to the scale of the highest accuracy.

    Args:
        frame: of one seed of a study.
        family: the sampler.

    Returns:
        A frame with one row per accuracy, in ascending order; equal accuracies are averaged.
    """
    rows = frame[(frame["family"] == family) & (frame["scale"] >= 1)]
    wide = rows.pivot_table(index="scale", columns="quantity", values="value")
    if "accuracy" not in wide:
        return wide.iloc[:0]
    wide = wide[wide.index <= wide["accuracy"].idxmax()]
    return wide.groupby("accuracy").mean()


def decision(found: list[Level], *, lower_is_better: bool = False) -> str:
    """Return one of `DECISIONS`, by the differences of all levels."""
    return decide([each.difference for each in found], lower_is_better=lower_is_better)
