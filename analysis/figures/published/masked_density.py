"""Draw the densities of guided masked diffusion in five dimensions: in print, exact, and of the joint tilt."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import FAMILIES, INK, Panel, label

PLACE = "five dimensions"


def _panel(w: int) -> Panel:
    """Return the panel of one w."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = frame[frame["where"].str.startswith(PLACE) & frame["claim"].str.contains(f"w = {w},")]
        twos = range(len(rows))
        ax.bar(twos, rows["ours"], 0.6, color=FAMILIES["masked rates"][0], label="exact")
        printed = rows["ours"] - rows["difference"]
        ax.errorbar(twos, printed, rows["half"], fmt="o", color=INK, ms=4, capsize=3, label="in print")
        ax.plot(twos, rows["control"], "--", color=FAMILIES["joint"][0], marker="D", ms=4, label="joint tilt")
        apart = int((rows["verdict"] == "differs").sum())
        title = f"w = {w}: {len(rows) - apart} of {len(rows)} printed densities agree with the exact law"
        return label(ax, title=title, x="how many of the five values are 2", y="10³ × density", legend="")

    return panel


one, two = _panel(1), _panel(2)
