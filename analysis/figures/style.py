"""Share colours, markers, lines with error bands and the layout of panels between all figures."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from analysis import typeset
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
# Of Okabe and Ito and of Tol, safe for colour-blind readers. A law has its colour in every figure, and markers repeat it.
ORANGE, SKY, GREEN, BLUE, RED, PURPLE = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
INDIGO, WINE, OLIVE, TEAL, BROWN = "#332288", "#882255", "#999933", "#44AA99", "#8C510A"
BLACK, INK, GREY, SILVER = "#000000", "#444444", "#888888", "#BBBBBB"
PALETTE = {
    ("joint", "AR joint", "AR with weights", "exact joint tilt", "noised tilt of p_0"): (BLUE, "D"),
    ("sequential", "AR sequential", "sequential AR"): (ORANGE, "o"),
    ("coherent", "AR coherent", "diffusion coherent"): (WINE, "<"),
    ("joint by acceptance", "AR by acceptance", "AR joint, coherent", "diffusion joint, coherent"): (INDIGO, "s"),
    ("paths by acceptance",): (INDIGO, "d"),
    ("data by acceptance",): (INDIGO, "*"),
    ("diffusion ODE", "classifier-free", "score × β, ODE"): (RED, "v"),
    ("diffusion SDE", "diffusion DDPM", "plain", "score × β, SDE"): (PURPLE, "^"),
    ("Feynman–Kac", "weights", "score × β, weights"): (GREEN, "P"),
    ("exact", "exact draws", "data", "exact scores"): (BLACK, "."),
    ("conditional", "no guidance", "draws of p"): (GREY, "h"),
    # A law that only one chapter draws shares its colour with laws of other chapters.
    ("classifier guidance", "noise-aware classifier", "Gaussian correction", "masked rates", "rates with weights", "top-k"): (
        SKY,
        "X",
    ),
    ("clean classifier", "classifier of clean data", "uniform noise", "uniform with weights", "exact p(x)", "top-p"): (
        BROWN,
        ">",
    ),
    ("MALA", "noise scale", "masked softmax", "softmax with weights", "autoguidance"): (OLIVE, "p"),
    ("AR weaker model", "diffusion weaker model"): (OLIVE, "p"),
    ("AR clamped", "diffusion clamped", "exact p(x|y)", "tilt of p_σ"): (TEAL, "H"),
    ("AR other model", "diffusion other model"): (BROWN, ">"),
    ("AR unsmoothed",): (SKY, "X"),
}
FAMILIES = {name: look for names, look in PALETTE.items() for name in names}
# Samples look like the exact law that they are drawn from.
DRAWN = ("sequential AR", "AR coherent", "masked softmax", "masked rates", "uniform noise")
FAMILIES |= {f"{name}, drawn": FAMILIES[name] for name in DRAWN}
# What is no law, and shades for a parameter that grows. Neither has the colour of a law that all chapters share.
CYCLE, MARKERS = (INK, TEAL, BROWN, OLIVE, SKY), ("o", "D", "P", "v", "^", "X", "s")
SHADES = ("#8CC5BD", "#4C9A92", "#1F6F6B", "#0B3B3A", "#031D1D")
PANEL, PLOT, LINE = 3.3, 2.2, 0.175  # width of a panel, height of its axes, and height of a line of text, in inches
TEXT, TITLE = 9.0, 10.0  # sizes of text in points
TITLES: dict[str, Any] = {"loc": "left", "fontsize": TITLE, "fontweight": "bold"}
BOLD = FontProperties(size=TITLE, weight="bold")
FONTS = dict.fromkeys(("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize"), TEXT)
LEGEND: dict[str, Any] = {"frameon": False, "title_fontsize": TEXT}
LEGEND |= {"handlelength": 1.7, "handletextpad": 0.5, "columnspacing": 0.9, "labelspacing": 0.25}
Title = str | Callable[[pd.DataFrame], str]


def look(name: object, index: int = 0) -> tuple[str, str]:
    """Return the colour and the marker of a law; names without their own take those at `index` of the cycle."""
    return FAMILIES.get(str(name), (CYCLE[index % len(CYCLE)], MARKERS[index % len(MARKERS)]))


def curve(
    ax: Axes,
    x: Any,
    y: Any,
    half: Any = 0.0,
    *,
    colour: str,
    marker: str = "",
    dash: str = "-",
    name: str | None = None,
    least: float = -math.inf,
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
        least: where a band ends that reaches below, for a logarithmic axis.
    """
    ax.plot(x, y, dash, color=colour, marker=marker, markersize=4.5, lw=1.6, label=name)
    below, above = half if isinstance(half, tuple) else (half, half)
    ax.fill_between(x, np.maximum(y - below, least), y + above, color=colour, alpha=0.18, lw=0)


def lines(
    frame: pd.DataFrame,
    ax: Axes,
    *,
    x: str,
    by: str = "family",
    order: Order = None,
    colours: Sequence[str] = (),
    least: float = -math.inf,
) -> Axes:
    """Draw value against x, one line with its 95 % confidence band per value of `by`.

    Args:
        frame: a tidy frame.
        ax: the axes to draw on.
        x: the column of the horizontal axis.
        by: the column that separates the lines.
        order: the values of `by` to draw, in this order; a mapping gives their names in the legend as well.
        colours: of the lines in place of those of their laws, for example `SHADES`.
        least: as in `curve`.
    """
    chosen = list(frame[by].unique()) if order is None else order
    names = chosen if isinstance(chosen, Mapping) else {each: str(each) for each in chosen}
    for i, (value, name) in enumerate(names.items()):
        rows = frame[frame[by] == value].sort_values(x)
        if not rows.empty:
            colour, marker = (colours[i], MARKERS[i]) if colours else look(value, i)
            half = [of_row(row).half for _, row in rows.iterrows()]
            curve(ax, rows[x], rows["value"], half, colour=colour, marker=marker, name=name, least=least)
    if x == "length":
        ax.set_xticks(sorted(frame[x].unique()))
    return ax


def line_panel(
    title: Title,
    y: str,
    x: str,
    where: Mapping[str, Any],
    *,
    by: str = "family",
    order: Order = None,
    legend: str | None = "",
    colours: Sequence[str] = (),
) -> Panel:
    """Return the panel that draws `lines` of some rows of a frame.

    Args:
        title: above the panel; a function of the rows for one that states what they show.
        y: name and unit of the vertical axis.
        x: the column of the horizontal axis, which `AXES` names.
        where: column ↦ value of the rows to draw.
        by: the column that separates the lines.
        order: which lines, see `lines`.
        legend: as in `label`.
        colours: as in `lines`.
    """

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, **where)
        lines(rows, ax, x=x, by=by, order=order, colours=colours)
        return label(ax, title=title if isinstance(title, str) else title(rows), x=AXES[x], y=y, legend=legend)

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


def logarithmic(ax: Axes, *names: str) -> None:
    """Give axes, named "x" or "y", a logarithmic scale with plain numbers on it, once the panel is drawn."""
    for name in names:
        getattr(ax, f"set_{name}scale")("log")
        axis: Axis = getattr(ax, f"{name}axis")
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 50 * low else (1.0,), numticks=7))
        axis.set_major_formatter(FuncFormatter(lambda value, _: typeset.power(value)))
        axis.set_minor_formatter(NullFormatter())


def label(ax: Axes, *, title: str, x: str, y: str, legend: str | None = "") -> Axes:
    """Set the title, the names of the axes, and the legend, which is below the axes and hides nothing.

    Args:
        ax: the axes to change.
        title: above the panel.
        x: name and unit of the horizontal axis.
        y: name and unit of the vertical axis.
        legend: its title, "" for a legend without a title, None for no legend.
    """
    ax.set_label(title)
    ax.set_title("\n".join(map(typeset.picture, _wrapped(title))), **TITLES)
    ax.set(xlabel=typeset.picture(x), ylabel=typeset.picture(y))
    handles, names = ax.get_legend_handles_labels()
    if legend is not None and handles:
        below = ax.transAxes + ScaledTranslation(-0.4, -0.46, ax.figure.dpi_scale_trans)
        texts = [typeset.picture(name) for name in names]
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, 0), "bbox_transform": below, "borderaxespad": 0}
        ax.legend(handles, texts, title=legend or None, ncols=_columns(names), **place, **LEGEND)
    return ax


def _wrapped(title: str) -> list[str]:
    """Return the lines of a title, which are not wider than a panel."""
    lines = [""]
    for word in typeset.kept(title).split(" "):
        longer = f"{lines[-1]} {word}".strip()
        width, _, _ = text_to_path.get_text_width_height_descent(longer, BOLD, False)
        lines = [*lines[:-1], longer] if width < 72 * (PANEL - 0.3) else [*lines, word]
    return lines


def draw(plot: Plot, frame: pd.DataFrame, note: str = "") -> Figure:
    """Return a figure with the panels of a plot side by side.

    Args:
        plot: the panels.
        frame: the tidy frame that they draw.
        note: a warning above the panels.
    """
    sns.set_theme(style="ticks", rc=FONTS | {"axes.titlesize": TITLE, "axes.linewidth": 0.8})
    figure, axes = plt.subplots(1, len(plot.panels), layout="constrained", squeeze=False)
    for panel, ax in zip(plot.panels, axes[0], strict=True):
        panel(frame, ax)
        sns.despine(ax=ax)
    if note:
        figure.suptitle(note, x=0.01, ha="left", color=RED, fontsize=TITLE)
    _set(figure, axes[0])
    return figure


def _set(figure: Figure, axes: Sequence[Axes]) -> None:
    """Give a figure the height that its texts need, and put the titles at the left edges of their panels, at one height."""
    titles = [ax.get_title(loc="left") for ax in axes]
    most = max(title.count("\n") for title in titles)
    figure.set_size_inches(PANEL * len(axes), PLOT + LINE * (most + max(map(_rows, axes)) + 4))
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title + "\n" * (most - title.count("\n")), **TITLES)
    layout = figure.get_layout_engine()
    assert layout is not None
    layout.execute(figure)
    figure.set_layout_engine("none")
    for ax in axes:
        left = ax.get_tightbbox(for_layout_only=True)
        if left is not None:
            ax.set_title(ax.get_title(loc="left"), **TITLES, x=ax.transAxes.inverted().transform((left.x0, 0))[0])


def _columns(names: Sequence[str]) -> int:
    return 2 if len(names) > 2 and max(map(len, names)) < 22 else 1


def _rows(ax: Axes) -> int:
    """Return the number of rows of a legend."""
    names = ax.get_legend_handles_labels()[1] if ax.get_legend() else []
    return math.ceil(len(names) / _columns(names)) if names else 0
