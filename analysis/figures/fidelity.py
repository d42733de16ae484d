"""Figures of fidelity against diversity."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import FAMILIES, label

GAMMA = "scale γ"
DASHES = {"coupled table": "-", "digits": "--"}


def class_probability(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw E[p(y|x)] against the scale."""
    _curves(frame, ax, x="scale", y="class_probability")
    return label(ax, title="Fidelity", x=GAMMA, y="class probability E[p(y|x)]")


def entropy(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the entropy against the scale."""
    _curves(frame, ax, x="scale", y="entropy")
    return label(ax, title="Diversity", x=GAMMA, y="entropy, nats", legend=None)


def trade_off(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw class probability against entropy, a curve a law and family."""
    _curves(frame, ax, x="entropy", y="class_probability")
    return label(ax, title="The trade-off", x="entropy, nats", y="class probability E[p(y|x)]")


def _curves(frame: pd.DataFrame, ax: Axes, *, x: str, y: str) -> None:
    """Draw one quantity against another, or against the scale, a curve a law and family."""
    for (law, family), rows in frame.groupby(["law", "family"]):
        wide = rows.pivot(index="scale", columns="quantity", values="value").reset_index()
        colour, marker = FAMILIES[str(family)]
        name, dash = f"{family}, {law}", DASHES[str(law)]
        ax.plot(wide[x], wide[y], color=colour, marker=marker, ls=dash, markersize=4, label=name)
