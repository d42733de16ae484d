"""Draw the toy that decides on causes: samples over the data, and the measures of every family."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import BLUE, GREY, ORANGE, RED, Panel, label
from analysis.frames import pick
from analysis.metrics.confidence import mean_of

LEARNED = ("no guidance", "plain", "autoguidance", "coherent", "joint by acceptance")
ORDER = ("data", *LEARNED, "exact p(x)", "exact p(x|y)", "exact scores", "exact joint tilt")
NAMES = {
    "outside": ("Errors of p(x|y) put samples outside", "share of samples outside"),
    "coverage": ("Guiding noised laws loses branches", "coverage"),
    "energy to class": ("Distance to the class", "energy distance to p(x|y)"),
}


def samples(family: str) -> Panel:
    """Return the panel of a family's draws over exact draws of the class."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        points = pick(frame, quantity="point")
        data, own = pick(points, family="data"), pick(points, family=family)
        ax.scatter(data["x"], data["value"], s=7, color=GREY, alpha=0.35, lw=0)
        for out, colour in ((0.0, BLUE), (1.0, RED)):
            rows = pick(own, out=out)
            ax.scatter(rows["x"], rows["value"], s=8, color=colour, lw=0)
        ax.set(xlim=(-1.0, 0.8), ylim=(-0.65, 0.8), aspect="equal", xticks=[], yticks=[])
        share = own["out"].mean()
        return label(ax, title=f"{family}: {share:.0%} outside", x="", y="", legend=None)

    return panel


def number(quantity: str) -> Panel:
    """Return the panel of a measure, one line per family and one colour per scale."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, quantity=quantity)
        for scale, colour, shift in zip(sorted(rows["scale"].unique()), (ORANGE, BLUE), (0.15, -0.15), strict=False):
            at = pick(rows, scale=scale)
            for i, family in enumerate(ORDER[::-1]):
                found = mean_of(pick(at, family=family)["value"].tolist())
                name = f"γ = {scale:g}" if i == 0 else None
                ax.errorbar(found.value, i + shift, xerr=found.half, fmt="o", color=colour, ms=4.5, lw=1.4, label=name)
        if quantity == "coverage":
            ax.axvline(pick(rows, family="data")["value"].mean(), color=GREY, lw=1, ls=":")
        ax.set_yticks(range(len(ORDER)), ORDER[::-1])
        title, x = NAMES[quantity]
        return label(ax, title=title, x=x, y="")

    return panel
