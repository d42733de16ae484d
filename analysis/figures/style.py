"""Share colours, markers, lines with error bands and the layout of panels between all figures."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.files import run_folder
from analysis.frames import Plot, pick
from analysis.metrics.confidence import of_row

Panel = Callable[[pd.DataFrame, Axes], Axes]
AXES = {
    "scale": "scale γ",
    "beta": "inverse temperature β",
    "temperature": "temperature τ",
    "length": "length T",
    "sigma": "noise level σ",
}
Order = Sequence[Any] | Mapping[Any, str] | None
# The palette of Okabe and Ito and one colour of Tol's, safe for colour-blind readers. Markers repeat it.
BLACK, GREY = "#000000", "#888888"
ORANGE, SKY, GREEN, BLUE, RED, PURPLE = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
WINE = "#882255"
LOOKS = {
    (BLACK, "s"): ("joint", "clean classifier", "score × β, SDE", "AR by acceptance", "AR joint, coherent"),
    (ORANGE, "o"): ("sequential", "sequential AR", "AR sequential", "diffusion DDPM"),
    (BLUE, "D"): ("AR with weights", "AR joint"),
    (SKY, "X"): ("classifier guidance", "MALA", "masked rates", "rates with weights", "Gaussian correction"),
    (RED, "v"): ("diffusion ODE", "score × β, ODE", "AR clamped"),
    (WINE, "<"): ("AR coherent",),
    (PURPLE, "^"): ("diffusion SDE", "uniform noise", "uniform with weights", "noise scale", "AR weaker model"),
    (GREEN, "P"): ("Feynman–Kac", "masked softmax", "softmax with weights", "weights", "score × β, weights"),
    (GREY, "."): ("exact draws", "conditional", "AR unsmoothed"),
}
FAMILIES = {name: look for look, names in LOOKS.items() for name in names}
FAMILIES |= {"data by acceptance": (SKY, "X"), "paths by acceptance": (GREEN, "P"), "AR other model": (SKY, "X")}
BOTH = ("coherent", "joint, coherent", "clamped", "weaker model", "other model")  # samplers of both wings
FAMILIES |= {f"diffusion {name}": FAMILIES[f"AR {name}"] for name in BOTH}
# Samples look like the exact law that they are drawn from.
DRAWN = ("sequential AR", "AR coherent", "masked softmax", "masked rates", "uniform noise")
FAMILIES |= {f"{name}, drawn": FAMILIES[name] for name in DRAWN}
CYCLE = (ORANGE, BLUE, GREEN, RED, PURPLE, SKY, BLACK)
MARKERS = ("o", "D", "P", "v", "^", "X", "s")


def look(name: object, index: int = 0) -> tuple[str, str]:
    """Return the colour and the marker of a sampler; names without their own take those at `index` of the cycle."""
    return FAMILIES.get(str(name), (CYCLE[index % len(CYCLE)], MARKERS[index % len(MARKERS)]))


def curve(
    ax: Axes, x: Any, y: Any, half: Any = 0.0, *, colour: str, marker: str = "", dash: str = "-", name: str | None = None
) -> None:
    """Draw one line with a band around it.

    Args:
        ax: the axes to draw on.
        x: positions, [n].
        y: values, [n].
        half: half the width of the band, [n] or one number; lower and upper half widths as a pair.
        colour: of the line and the band.
        marker: of the points.
        dash: matplotlib's line style.
        name: label in the legend, None for no entry.
    """
    ax.plot(x, y, dash, color=colour, marker=marker, markersize=4.5, lw=1.6, label=name)
    below, above = half if isinstance(half, tuple) else (half, half)
    ax.fill_between(x, y - below, y + above, color=colour, alpha=0.18, lw=0)


def lines(frame: pd.DataFrame, ax: Axes, *, x: str, by: str = "family", order: Order = None) -> Axes:
    """Draw value against x, one line with its 95 % confidence band per value of `by`.

    Args:
        frame: a tidy frame.
        ax: the axes to draw on.
        x: the column of the horizontal axis.
        by: the column that separates the lines.
        order: the values of `by` to draw, in this order; a mapping gives their names in the legend as well.
    """
    chosen = list(frame[by].unique()) if order is None else order
    names = chosen if isinstance(chosen, Mapping) else {each: str(each) for each in chosen}
    for i, (value, name) in enumerate(names.items()):
        rows = frame[frame[by] == value].sort_values(x)
        if not rows.empty:
            colour, marker = look(name, i)
            half = [of_row(row).half for _, row in rows.iterrows()]
            curve(ax, rows[x], rows["value"], half, colour=colour, marker=marker, name=name)
    if x == "length":
        ax.set_xticks(sorted(frame[x].unique()))
    return ax


def line_panel(
    title: str, y: str, x: str, where: Mapping[str, Any], *, by: str = "family", order: Order = None, legend: str | None = ""
) -> Panel:
    """Return the panel that draws `lines` of some rows of a frame.

    Args:
        title: above the panel.
        y: name and unit of the vertical axis.
        x: the column of the horizontal axis, which `AXES` names.
        where: column ↦ value of the rows to draw.
        by: the column that separates the lines.
        order: which lines, see `lines`.
        legend: as in `label`.
    """

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        lines(pick(frame, **where), ax, x=x, by=by, order=order)
        return label(ax, title=title, x=AXES[x], y=y, legend=legend)

    return panel


def adjusted(panel: Panel, adjust: Callable[[Axes], object]) -> Panel:
    """Return a panel whose axes are changed once it is drawn."""

    def adjusted_panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        adjust(panel(frame, ax))
        return ax

    return adjusted_panel


def from_zero(ax: Axes) -> None:
    """Start the vertical axis at 0."""
    ax.set_ylim(bottom=0)


def label(ax: Axes, *, title: str, x: str, y: str, legend: str | None = "") -> Axes:
    """Set the title, the names of the axes, and the legend.

    Args:
        ax: the axes to change.
        title: above the panel.
        x: name and unit of the horizontal axis.
        y: name and unit of the vertical axis.
        legend: its title, "" for a legend without a title, None for no legend.
    """
    ax.set_title(title, loc="left", fontsize="medium", fontweight="bold")
    ax.set(xlabel=x, ylabel=y)
    if legend is not None:
        ax.legend(title=legend or None, frameon=False, fontsize="small")
    return ax


def draw(plot: Plot, frame: pd.DataFrame, note: str = "") -> Figure:
    """Return a figure with the panels of a plot side by side.

    Args:
        plot: the panels.
        frame: the tidy frame that they draw.
        note: a warning above the panels.
    """
    sns.set_theme(context="notebook", style="ticks", font_scale=0.85)
    figure, axes = plt.subplots(1, len(plot.panels), figsize=(4.6 * len(plot.panels), 3.7), layout="constrained", squeeze=False)
    for panel, ax in zip(plot.panels, axes[0], strict=True):
        panel(frame, ax)
        sns.despine(ax=ax)
    if note:
        figure.suptitle(note, x=0.01, ha="left", color=RED, fontsize="medium")
    return figure


def save_plot(path: Path, plot: Plot, frame: pd.DataFrame, note: str = "") -> None:
    """Draw a plot and write the picture atomically.

    Args:
        path: of the picture; its suffix gives the format.
        plot: the panels.
        frame: the tidy frame that they draw.
        note: a warning above the panels.

    Raises:
        ValueError: the folder cannot be written, or the disk is full.
    """
    mpl.use("agg")
    figure = draw(plot, frame, note)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the font lacks some characters that texts may hold
        run_folder.write(path, partial(figure.savefig, dpi=150, bbox_inches="tight", pad_inches=0.05))
    plt.close(figure)
