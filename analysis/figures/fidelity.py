"""Draw the figures of fidelity against diversity."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import AXES, FAMILIES, Panel, label

DASHES = {"coupled table": "-", "digits": "--"}
NAMES = AXES | {"entropy": "entropy, nats", "class_probability": "class probability E[p(y|x)]"}


def _curves(title: str, x: str, y: str, legend: str | None = "") -> Panel:
    """Return the panel of one quantity against another, or against the scale, one curve per law and sampler."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        for (law, family), rows in frame.groupby(["law", "family"]):
            wide = rows.pivot(index="scale", columns="quantity", values="value").reset_index()
            colour, marker = FAMILIES[str(family)]
            dash = DASHES[str(law)]
            ax.plot(wide[x], wide[y], color=colour, marker=marker, ls=dash, markersize=4, label=f"{family}, {law}")
        return label(ax, title=title, x=NAMES[x], y=NAMES[y], legend=legend)

    return panel


class_probability = _curves("Fidelity", "scale", "class_probability")
entropy = _curves("Diversity", "scale", "entropy", legend=None)
trade_off = _curves("The trade-off", "entropy", "class_probability")
