"""Draw the figure of Langevin dynamics on continuous autoregressive models."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import BLUE, Panel, curve, label, look
from analysis.frames import pick
from analysis.metrics.confidence import of_row
from analysis.typeset import signed

EXACT, LEARNED = "Gaussian sequence", "learned model"
FAMILIES = JOINT, MALA, WEIGHTED, SEQUENTIAL, ODE = ("joint", "MALA", "AR with weights", "sequential", "diffusion ODE")
NAMES = {JOINT: "joint tilt", MALA: "Langevin (MALA)", SEQUENTIAL: "guided factors", ODE: "guided ODE"}
LEVELS = (0.03, 0.2, 0.5, 0.8)


def means(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the mean of every x_t of the Gaussian sequence: exact laws as lines, and chains as points."""
    rows = pick(frame, law=EXACT, quantity="mean")
    for family in (JOINT, SEQUENTIAL, ODE):
        line = pick(rows, family=family).sort_values("position")
        curve(ax, line["position"], line["value"], colour=look(family)[0], name=NAMES[family])
    points = pick(rows, family=MALA).sort_values("position")
    estimates = [of_row(row) for _, row in points.iterrows()]
    colour, marker = look(MALA)
    half = [each.half for each in estimates]
    ax.errorbar(
        points["position"], points["value"], half, color=colour, marker=marker, ms=5, ls="", capsize=2, label=NAMES[MALA]
    )
    exact = pick(rows, family=JOINT).sort_values("position")["value"].tolist()
    inside = sum(abs(each.value - value) <= each.half for each, value in zip(estimates, exact, strict=True))
    title = f"Langevin’s interval holds the joint tilt’s mean at {inside} of {len(exact)} positions"
    return label(ax, title=title, x="position t", y="mean of x_t")


def draws(family: str) -> Panel:
    """Return the panel of a family's draws of the learned model over the contours of the joint tilt."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, law=LEARNED)
        density = pick(rows, quantity="density").pivot(index="x_2", columns="x", values="value")
        points = pick(rows, quantity="draw", family=family)
        ax.scatter(points["x"], points["x_2"], s=4, color=look(family)[0], alpha=0.5, lw=0, label=NAMES[family])
        ax.contour(density.columns, density.index, density.to_numpy(), levels=LEVELS, colors=BLUE, linewidths=1)
        ax.plot([], [], color=BLUE, lw=1, label=NAMES[JOINT])
        ax.set(xlim=(-3, 2.5), ylim=(-1.5, 2.5))
        first = pick(rows, quantity="mean", position=1).set_index("family")["value"]
        gap = first[family] - first[JOINT]
        name = NAMES[family][0].upper() + NAMES[family][1:]
        title = f"{name}: mean of x_1 {signed(gap, '.2f')} from the joint tilt’s"
        return label(ax, title=title, x="x_1", y="x_2")

    return panel
