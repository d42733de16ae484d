"""Set sample texts of several samplers side by side, per scale and label."""

from collections.abc import Sequence
from functools import partial

import pandas as pd

from analysis.frames import Cells, pick

LABELS, TEXTS, LETTERS, SCALES = 4, 4, 160, 5
SHORT = 24  # characters; texts that are no longer are set in one line


def texts(frame: pd.DataFrame, families: Sequence[str]) -> Cells:
    """Return the table of the first texts of the first four labels, a row per scale and label, a column per sampler.

    Args:
        frame: of a study.
        families: the samplers; a cell is "–" where one has no texts.

    Returns:
        Columns and rows, at the scales that all samplers have. Of more than five, the first, the last and three between.
    """
    rows = pick(frame, quantity="text")
    rows = rows[rows["family"].isin(list(families))].dropna(subset="scale")
    between = " · " if rows["text"].str.len().max() <= SHORT else "\n"
    shown = rows.groupby(["scale", "label", "family"], sort=False)["text"].agg(partial(_joined, between)).to_dict()
    scales = rows.groupby("scale")["family"].nunique()
    shared, labels = list(scales.index[scales == len(families)]), list(dict.fromkeys(rows["label"]))[:LABELS]
    cells = [
        [f"{scale:g}", str(label), *(shown.get((scale, label, family), "–") for family in families)]
        for scale in _spaced(shared)
        for label in labels
    ]
    return ("γ", "label", *families), cells


def _joined(between: str, texts: pd.Series) -> str:
    """Return the first texts; long ones end with an ellipsis."""
    flat = [" ".join(str(text).split()) for text in texts.iloc[:TEXTS]]
    return between.join("(empty)" if not text else text if len(text) <= LETTERS else f"{text[:LETTERS]} …" for text in flat)


def _spaced(scales: list[float]) -> list[float]:
    """Return at most five scales, the first and the last among them."""
    if len(scales) <= SCALES:
        return scales
    return [scales[round(i * (len(scales) - 1) / (SCALES - 1))] for i in range(SCALES)]
