"""Set sample texts of several samplers side by side, per scale and label."""

from collections.abc import Sequence

import pandas as pd

from analysis.frames import Cells, pick

LABELS, TEXTS, LETTERS, SCALES = 4, 4, 160, 5


def texts(frame: pd.DataFrame, families: Sequence[str]) -> Cells:
    """Return the table of the first texts of the first four labels, a row per scale and label, a column per sampler.

    Args:
        frame: of a study.
        families: the samplers; a cell is "–" where one has no texts at a scale.

    Returns:
        Columns and rows. Of more than five scales, the first, the last and three between them are shown.
    """
    rows = pick(frame, quantity="text")
    rows = rows[rows["family"].isin(list(families))].dropna(subset="scale")
    shown = rows.groupby(["scale", "label", "family"], sort=False)["text"].agg(_joined).to_dict()
    scales, labels = _spaced(sorted(rows["scale"].unique())), list(dict.fromkeys(rows["label"]))[:LABELS]
    cells = [
        [f"{scale:g}", str(label), *(shown.get((scale, label, family), "–") for family in families)]
        for scale in scales
        for label in labels
    ]
    return ("γ", "label", *families), cells


def _joined(texts: pd.Series) -> str:
    """Return the first texts, one per line; long ones end with an ellipsis."""
    flat = [" ".join(str(text).split()) for text in texts.iloc[:TEXTS]]
    return "\n".join("(empty)" if not text else text if len(text) <= LETTERS else f"{text[:LETTERS]} …" for text in flat)


def _spaced(scales: list[float]) -> list[float]:
    """Return at most five scales, the first and the last among them."""
    if len(scales) <= SCALES:
        return scales
    return [scales[round(i * (len(scales) - 1) / (SCALES - 1))] for i in range(SCALES)]
