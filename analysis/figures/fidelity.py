"""Draw the figures of fidelity against diversity."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import AXES, FAMILIES, Panel, label
from analysis.frames import pick
from analysis.metrics.trends import direction

DASHES = {"coupled table": "-", "digits": "--"}
NAMES = AXES | {"entropy": "entropy, nats", "class_probability": "class probability E[p(y|x)]"}


def _curves(title: Callable[[pd.DataFrame], str], x: str, y: str, legend: str | None = "") -> Panel:
    """Return the panel of one quantity against another, or against the scale, one curve per law and sampler."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        for (law, family), rows in frame.groupby(["law", "family"]):
            wide = rows.pivot(index="scale", columns="quantity", values="value").reset_index()
            colour, marker = FAMILIES[str(family)]
            dash = DASHES[str(law)]
            ax.plot(wide[x], wide[y], color=colour, marker=marker, ls=dash, markersize=4, label=f"{family}, {law}")
        return label(ax, title=title(frame), x=NAMES[x], y=NAMES[y], legend=legend)

    return panel


def _followed(frame: pd.DataFrame) -> str:
    rows = pick(frame, quantity="class_probability").assign(curve=frame["law"] + frame["family"])
    return "Both laws follow the label more as γ grows" if direction(rows, "scale", "curve") == 1 else "Fidelity"


def _kept(frame: pd.DataFrame) -> str:
    wide = pick(frame, quantity="entropy").pivot(index=["law", "scale"], columns="family", values="value")
    more = (wide["joint"] - wide["sequential"])[wide.index.get_level_values("scale") > 1]
    if (more > 0).all() or (more < 0).all():
        return f"Above γ = 1 the {'joint' if (more > 0).all() else 'sequential'} law keeps more entropy"
    return "Diversity"


def _traded(frame: pd.DataFrame) -> str:
    gains = set()
    for _, rows in frame.groupby("law"):
        at = rows.pivot_table(index="scale", columns=["family", "quantity"], values="value")
        aim, own = at.loc[3.0, ("joint", "class_probability")], at.loc[3.0, ("joint", "entropy")]
        gains.add(bool(own > np.interp(aim, at["sequential", "class_probability"], at["sequential", "entropy"])))
    if len(gains) > 1:
        return "The trade-off differs between data sets"
    return f"At equal class probability the {'joint' if gains.pop() else 'sequential'} law keeps more entropy"


class_probability = _curves(_followed, "scale", "class_probability")
entropy = _curves(_kept, "scale", "entropy", legend=None)
trade_off = _curves(_traded, "entropy", "class_probability", legend=None)
