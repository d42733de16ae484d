"""Figures of the exact laws of real data."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import BLACK, BLUE, ORANGE, label, lines
from analysis.frames import pick

PALETTE = {"toy table": ORANGE, "digits": BLUE}
WIDTH = 0.6  # of the points of a law at a scale


def gap(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw KL(sequential ‖ joint) of every label against the scale."""
    _strip(pick(frame, quantity="kl_sequential_joint"), ax)
    ax.set_yscale("log")
    return label(ax, title="The gap, a point a label", x="scale γ", y="KL(sequential ‖ joint), nats")


def tuned(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw what is left of the gap at the joint law's best scale."""
    _strip(pick(frame, quantity="kl_best_scale"), ax)
    ax.set_yscale("log")
    return label(ax, title="… at the joint law's best scale", x="scale γ of the sequential law", y="least KL, nats")


def pixels(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the 8×8 grid with the pixels used, numbered in the order they are generated."""
    image = np.zeros((8, 8))
    rows = pick(frame, quantity="pixel")
    for order, pixel in zip(rows["order"], rows["value"], strict=True):
        row, column = divmod(int(pixel), 8)
        image[row, column] = 1
        ax.text(column, row, f"x{int(order) + 1}", ha="center", va="center", color="white", fontsize="small")
    ax.imshow(image, cmap="Blues", vmin=0, vmax=1.3)
    return label(ax, title="Pixels of the digits table", x="column", y="row", legend=None)


def smoothing(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the median gap of the digits against the scale, a line an amount of smoothing."""
    rows = frame[frame["law"].str.startswith("digits") & (frame["quantity"] == "kl_sequential_joint")]
    named = {"digits": "+0.02 (used)"} | {law: law.removeprefix("digits, ") for law in rows["law"].unique() if law != "digits"}
    medians = rows.groupby(["law", "scale"], as_index=False)[["value", "std_error"]].median().replace({"law": named})
    lines(medians, ax, x="scale", by="law", order=sorted(named.values()))
    return label(ax, title="Digits: counts raised by", x="scale γ", y="median KL(seq. ‖ joint), nats")


def _strip(rows: pd.DataFrame, ax: Axes) -> None:
    """Draw a point a label, in order of the labels from left to right, and their median as a bar, by law and scale."""
    rows = rows[rows["law"].isin(PALETTE) & (rows["scale"] > 1)]
    scales, laws = sorted(rows["scale"].unique()), [law for law in PALETTE if law in set(rows["law"])]
    for i, law in enumerate(laws):
        for at, scale in enumerate(scales):
            values = pick(rows, law=law, scale=scale).sort_values("label")["value"].to_numpy()
            middle, width = at + (i - (len(laws) - 1) / 2) * 0.45, WIDTH / len(laws)
            x = middle + width * (np.arange(len(values)) - (len(values) - 1) / 2) / max(1, len(values))
            ax.plot(x, values, "o", color=PALETTE[law], ms=3.5, mew=0, alpha=0.7, label=law if at == 0 else None)
            ax.plot([middle - width / 2, middle + width / 2], [np.median(values)] * 2, color=BLACK, lw=1.6, zorder=3)
    ax.set_xticks(range(len(scales)), [f"{scale:g}" for scale in scales])
