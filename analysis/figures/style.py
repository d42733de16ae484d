"""What figures share: one colour and one marker a family, readable without colour vision; lines with error bands."""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.files import run_folder
from analysis.frames import Plot
from analysis.metrics.confidence import of_row

# Okabe & Ito's palette, told apart by the colour-blind; the marker repeats what the colour says.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
FAMILIES: dict[str, tuple[str, str]] = {
    "joint": (BLACK, "s"),
    "sequential": (ORANGE, "o"),
    "sequential AR": (ORANGE, "o"),
    "AR with weights": (BLUE, "D"),
    "AR sequential": (ORANGE, "o"),
    "AR joint": (BLUE, "D"),
    "classifier guidance": (SKY, "X"),
    "clean classifier": (BLACK, "s"),
    "diffusion ODE": (RED, "v"),
    "diffusion SDE": (PURPLE, "^"),
    "Feynman–Kac": (GREEN, "P"),
    "MALA": (SKY, "X"),
    "masked softmax": (GREEN, "P"),
    "masked rates": (SKY, "X"),
    "uniform noise": (PURPLE, "^"),
    "softmax with weights": (GREEN, "P"),
    "rates with weights": (SKY, "X"),
    "uniform with weights": (PURPLE, "^"),
    "exact draws": ("#888888", "."),
    "conditional": ("#888888", "."),
    "score × β, ODE": (RED, "v"),
    "score × β, SDE": (BLACK, "s"),
    "noise scale": (PURPLE, "^"),
    "Gaussian correction": (SKY, "X"),
    "weights": (GREEN, "P"),
    "score × β, weights": (GREEN, "P"),
}
# Draws of what has an exact law look like that law.
FAMILIES |= {f"{name}, drawn": FAMILIES[name] for name in ("sequential AR", "masked softmax", "masked rates", "uniform noise")}
CYCLE = (ORANGE, BLUE, GREEN, RED, PURPLE, SKY, BLACK)
MARKERS = ("o", "D", "P", "v", "^", "X", "s")


def draw(plot: Plot, frame: pd.DataFrame) -> Figure:
    """Return a figure with the plot's panels side by side."""
    sns.set_theme(context="notebook", style="ticks", font_scale=0.85)
    figure, axes = plt.subplots(1, len(plot.panels), figsize=(4.6 * len(plot.panels), 3.7), layout="constrained", squeeze=False)
    for panel, ax in zip(plot.panels, axes[0], strict=True):
        panel(frame, ax)
        sns.despine(ax=ax)
    return figure


def lines(
    frame: pd.DataFrame, ax: Axes, *, x: str, by: str = "family", order: Sequence[Any] | None = None, prefix: str = ""
) -> Axes:
    """Draw value against x, one line for each value of `by`, with its 95 % interval as a band."""
    for i, name in enumerate(order if order is not None else frame[by].unique()):
        rows = frame[frame[by] == name].sort_values(x)
        if rows.empty:
            continue
        colour, marker = FAMILIES.get(str(name), (CYCLE[i % len(CYCLE)], MARKERS[i % len(MARKERS)]))
        ax.plot(rows[x], rows["value"], color=colour, marker=marker, markersize=4.5, lw=1.6, label=f"{prefix}{name}")
        half = [of_row(row).half for _, row in rows.iterrows()]
        ax.fill_between(rows[x], rows["value"] - half, rows["value"] + half, color=colour, alpha=0.18, lw=0)
    return ax


def label(ax: Axes, *, title: str, x: str, y: str, legend: str | None = "") -> Axes:
    """Set the title, the axes' labels and the legend; legend None leaves it out, "" leaves it without a title."""
    ax.set_title(title, loc="left", fontsize="medium", fontweight="bold")
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if legend is not None:
        ax.legend(title=legend or None, frameon=False, fontsize="small")
    return ax


def save_plot(path: Path, plot: Plot, frame: pd.DataFrame) -> None:
    """Draw a plot and write it as a picture."""
    figure = draw(plot, frame)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # that the font lacks: texts may hold any
        run_folder.write(path, partial(figure.savefig, dpi=150, bbox_inches="tight", pad_inches=0.05))
    plt.close(figure)
