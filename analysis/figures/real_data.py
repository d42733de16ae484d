"""Draw the figures of the exact laws of real data."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import BLACK, BROWN, SHADES, TEAL, TEXT, Panel, label, lines, logarithmic
from analysis.frames import pick
from analysis.metrics.trends import direction

PALETTE = {"toy table": BROWN, "digits": TEAL}
AT = 3.0
WIDTH = 0.6  # of all points of a law at one scale, in units of the distance between two scales


def _per_label(quantity: str, title: Callable[[pd.DataFrame], str], x: str, y: str) -> Panel:
    """Return the panel of a quantity against the scale: one point per label, from left to right, and their median as a bar."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, quantity=quantity)
        rows = rows[rows["law"].isin(PALETTE) & (rows["scale"] > 1)]
        scales, laws = sorted(rows["scale"].unique()), [law for law in PALETTE if law in set(rows["law"])]
        width = WIDTH / len(laws)
        for i, law in enumerate(laws):
            for at, scale in enumerate(scales):
                values = pick(rows, law=law, scale=scale).sort_values("label")["value"].to_numpy()
                middle = at + (i - (len(laws) - 1) / 2) * 0.45
                places = middle + width * (np.arange(len(values)) - (len(values) - 1) / 2) / max(1, len(values))
                ax.plot(places, values, "o", color=PALETTE[law], ms=3.5, mew=0, alpha=0.7, label=law if at == 0 else None)
                ax.plot([middle - width / 2, middle + width / 2], [np.median(values)] * 2, color=BLACK, lw=1.6, zorder=3)
        ax.set_xticks(range(len(scales)), [f"{scale:g}" for scale in scales])
        logarithmic(ax, "y")
        return label(ax, title=title(frame), x=x, y=y)

    return panel


def _median(frame: pd.DataFrame, quantity: str) -> float:
    return float(pick(frame, law="digits", quantity=quantity, scale=AT)["value"].median())


def _gap(frame: pd.DataFrame) -> str:
    return f"Digits: the median gap is {_median(frame, 'kl_sequential_joint'):.2f} nats at γ = {AT:g}"


def _left(frame: pd.DataFrame) -> str:
    left = _median(frame, "kl_best_scale") / _median(frame, "kl_sequential_joint")
    return f"The best scale of the joint law leaves {left:.0%} of it"


gap = _per_label("kl_sequential_joint", _gap, "scale γ", "KL(sequential ‖ joint), nats")
tuned = _per_label("kl_best_scale", _left, "scale γ of the sequential law", "least KL, nats")


def pixels(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the 8×8 grid with the pixels used, numbered in the order in which they are generated."""
    image = np.zeros((8, 8))
    rows = pick(frame, quantity="pixel")
    for order, pixel in zip(rows["order"], rows["value"], strict=True):
        row, column = divmod(int(pixel), 8)
        image[row, column] = 1
        ax.text(column, row, f"x{int(order) + 1}", ha="center", va="center", color="white", fontsize=TEXT)
    ax.imshow(image, cmap="Blues", vmin=0, vmax=1.3)
    return label(ax, title=f"The {len(rows)} pixels of the digits table", x="column", y="row", legend=None)


def smoothing(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the median gap of the digits against the scale, one line per amount of smoothing."""
    rows = frame[frame["law"].str.startswith("digits") & (frame["quantity"] == "kl_sequential_joint")]
    names = {law: "+0.02 (used)" if law == "digits" else law.removeprefix("digits, ") for law in rows["law"].unique()}
    medians = rows.groupby(["law", "scale"], as_index=False)[["value", "std_error"]].median()
    ordered = dict(sorted(names.items(), key=lambda item: float(item[1].split()[0])))
    lines(medians, ax, x="scale", by="law", order=ordered, colours=SHADES)
    added = medians.assign(added=medians["law"].map(lambda law: list(ordered).index(law)))
    side = direction(added[added["scale"] > 1], "added", "scale")
    title = {-1: "The gap shrinks as cells are raised", 1: "The gap grows as cells are raised"}.get(
        side, "The gap by smoothing"
    )
    return label(ax, title=title, x="scale γ", y="median KL(seq. ‖ joint), nats", legend="added to every count")
