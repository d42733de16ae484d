"""Draw the figures of a prompt's influence on text."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import CYCLE, MARKERS, curve, label
from analysis.frames import pick


def against_scale(frame: pd.DataFrame, ax: Axes, quantities: Sequence[str], *, title: str, y: str) -> Axes:
    """Draw quantities against the scale, with bands of two standard errors.

    Args:
        frame: a tidy frame of `text_statistics`.
        ax: the axes to draw on.
        quantities: which to draw, at most five.
        title: above the panel.
        y: name and unit of the vertical axis.
    """
    for name, colour, marker in zip(quantities, CYCLE, MARKERS, strict=False):
        rows = pick(frame, quantity=name).sort_values("scale")
        half, short = 2 * rows["std_error"], name.removeprefix("perplexity, ")
        curve(ax, rows["scale"], rows["value"], half, colour=colour, marker=marker, name=short)
    return label(ax, title=title, x="scale γ", y=y, legend="" if len(quantities) > 1 else None)


def trade_off(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw fidelity against diversity, one point per scale."""
    wide = frame.pivot(index="scale", columns="quantity", values="value")
    x, y = wide["distinct words"], wide["keyword rate"]
    ax.plot(x, y, color=CYCLE[0], marker="o", markersize=4)
    for scale in wide.index:
        ax.annotate(f"{scale:g}", (x[scale], y[scale]), textcoords="offset points", xytext=(4, -11), fontsize=9)
    return label(ax, title="The trade-off, by γ", x="distinct words", y="keyword rate", legend=None)
