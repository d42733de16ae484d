"""Figures of a prompt's influence on text."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import CYCLE, MARKERS, label

GAMMA = "scale γ"


def against_scale(frame: pd.DataFrame, ax: Axes, quantities: Sequence[str], *, title: str, y: str) -> Axes:
    """Draw quantities against the scale, with bands of two standard errors."""
    for name, colour, marker in zip(quantities, CYCLE, MARKERS, strict=False):
        rows = frame[frame.quantity == name].sort_values("scale")
        ax.plot(rows.scale, rows.value, color=colour, marker=marker, markersize=4, label=name.removeprefix("perplexity, "))
        ax.fill_between(
            rows.scale, rows.value - 2 * rows.std_error, rows.value + 2 * rows.std_error, color=colour, alpha=0.15, lw=0
        )
    return label(ax, title=title, x=GAMMA, y=y, **({} if len(quantities) > 1 else {"legend": None}))


def trade_off(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw fidelity against diversity, a point a scale."""
    wide = frame.pivot(index="scale", columns="quantity", values="value")
    ax.plot(wide["distinct words"], wide["keyword rate"], color=CYCLE[0], marker="o", markersize=4)
    for scale, row in wide.iterrows():
        ax.annotate(
            f"{scale:g}", (row["distinct words"], row["keyword rate"]), textcoords="offset points", xytext=(4, -11), fontsize=8
        )
    return label(ax, title="The trade-off, by γ", x="distinct words", y="keyword rate", legend=None)
