"""Figures of fidelity against diversity."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.experiment import pick
from analysis.figures.style import FAMILIES, label

GAMMA = "scale γ"
DASHES = {"coupled table": "-", "digits": "--"}


def class_probability(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw E[p(y|x)] against the scale."""
    _curves(frame, ax, "class_probability")
    return label(ax, title="Fidelity", x=GAMMA, y="class probability E[p(y|x)]")


def entropy(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the entropy against the scale."""
    _curves(frame, ax, "entropy")
    return label(ax, title="Diversity", x=GAMMA, y="entropy, nats", legend=None)


def trade_off(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw class probability against entropy, a curve a law and family."""
    for (law, family), rows in frame.groupby(["law", "family"]):
        wide = rows.pivot(index="scale", columns="quantity", values="value")
        colour, marker = FAMILIES[str(family)]
        ax.plot(
            wide["entropy"],
            wide["class_probability"],
            color=colour,
            marker=marker,
            ls=DASHES[str(law)],
            markersize=4,
            label=f"{family}, {law}",
        )
    return label(ax, title="The trade-off", x="entropy, nats", y="class probability E[p(y|x)]")


def _curves(frame: pd.DataFrame, ax: Axes, quantity: str) -> None:
    for (law, family), rows in pick(frame, quantity=quantity).groupby(["law", "family"]):
        colour, marker = FAMILIES[str(family)]
        ax.plot(
            rows["scale"],
            rows["value"],
            color=colour,
            marker=marker,
            ls=DASHES[str(law)],
            markersize=4,
            label=f"{family}, {law}",
        )
