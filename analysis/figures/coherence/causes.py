"""Draw the toy that decides on causes: samples over the data, and the measures of every family."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import BLACK, FAMILIES, GREY, INK, SILVER, Panel, label
from analysis.frames import pick
from analysis.metrics.confidence import mean_of
from analysis.metrics.trends import clearly_paired

LEARNED = ("no guidance", "plain", "autoguidance", "coherent", "joint by acceptance")
ORDER = ("data", *LEARNED, "exact p(x)", "exact p(x|y)", "exact scores", "exact joint tilt")
# The axis of a quantity; the two families that its title compares, and the title where the first has less, more or neither.
NAMES = {
    "outside": ("share of samples outside", "exact p(x|y)", "plain"),
    "coverage": ("coverage", "exact scores", "exact joint tilt"),
    "energy to class": ("energy distance to p(x|y)", "autoguidance", "plain"),
}
TITLES = {
    "outside": ("With exact p(x|y) fewer samples are outside", "With exact p(x|y) more samples are outside", "Samples outside"),
    "coverage": ("Guiding noised laws loses branches", "Guiding noised laws gains branches", "Coverage of branches"),
    "energy to class": (
        "Autoguidance is nearer to the class than plain guidance",
        "Plain guidance is nearer to the class than autoguidance",
        "Distance to the class",
    ),
}


def samples(family: str) -> Panel:
    """Return the panel of a family's draws over exact draws of the class."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        points = pick(frame, quantity="point")
        data, own = pick(points, family="data"), pick(points, family=family)
        ax.scatter(data["x"], data["value"], s=7, color=SILVER, alpha=0.5, lw=0)
        for out, colour, marker in ((0.0, FAMILIES[family][0], "o"), (1.0, BLACK, "x")):
            rows = pick(own, out=out)
            ax.scatter(rows["x"], rows["value"], s=8, color=colour, marker=marker, lw=0.7 * out)
        ax.set(xlim=(-1.0, 0.8), ylim=(-0.65, 0.8), aspect="equal", xticks=[], yticks=[])
        share = own["out"].mean()
        return label(ax, title=f"{family}: {share:.0%} outside", x="", y="", legend=None)

    return panel


def number(quantity: str) -> Panel:
    """Return the panel of a measure, one line per family and one colour per scale."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, quantity=quantity)
        scales = sorted(rows["scale"].unique())
        for scale, full, shift in zip(scales, ("none", "full"), (0.15, -0.15), strict=False):
            at = pick(rows, scale=scale)
            for i, family in enumerate(ORDER[::-1]):
                found, colour = mean_of(pick(at, family=family)["value"].tolist()), FAMILIES[family][0]
                ax.errorbar(found.value, i + shift, xerr=found.half, fmt="o", color=colour, ms=4.5, lw=1.4, fillstyle=full)
            ax.plot([], [], "o", color=INK, fillstyle=full, label=f"γ = {scale:g}")
        if quantity == "coverage":
            ax.axvline(pick(rows, family="data")["value"].mean(), color=GREY, lw=1, ls=":")
        ax.set_yticks(range(len(ORDER)), ORDER[::-1])
        x, *pair = NAMES[quantity]
        wide = pick(rows, scale=scales[-1]).pivot(index="seed", columns="family", values="value")
        less, more, neither = TITLES[quantity]
        side = clearly_paired(*(wide[family].tolist() for family in pair))
        return label(ax, title={-1: less, 1: more, 0: neither}[side], x=x, y="")

    return panel
