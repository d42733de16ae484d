"""Figures of the scale factors of real text, and of the gap between the two laws by length."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures import style
from analysis.figures.style import BLUE, FAMILIES, RED, label
from analysis.frames import Plot

GREY = "#888888"
LENGTH = "length t (tokens)"


def draw(sequences: pd.DataFrame, lengths: pd.DataFrame, note: str = "") -> Figure:
    """Return the figure of both frames of a `gap_estimates.Measurement`, with a note above it if there is one."""
    panels = (lambda _, ax: factors(sequences, ax), gap_to_length, ess_to_length)
    figure = style.draw(Plot("measurement", panels, ""), lengths)
    if note:
        figure.suptitle(note, x=0.01, ha="left", color=RED, fontsize="medium")
    return figure


def save(sequences: pd.DataFrame, lengths: pd.DataFrame, note: str, path: Path) -> None:
    """Draw the figure and write it as a picture."""
    mpl.use("agg")
    figure = draw(sequences, lengths, note)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def factors(sequences: pd.DataFrame, ax: Axes) -> Axes:
    """Draw log s, with its interval, against log s′, a point a text."""
    errors = (sequences["log_s"] - sequences["log_s_low"], sequences["log_s_high"] - sequences["log_s"])
    ax.axline((0, 0), slope=1, color=GREY, lw=1, zorder=0)
    ax.errorbar(
        sequences["log_s"],
        sequences["log_s_prime"],
        xerr=errors,
        fmt="o",
        markersize=4,
        markeredgewidth=0,
        elinewidth=0.6,
        color=BLUE,
        alpha=0.45,
    )
    ax.set_aspect("equal", adjustable="datalim")
    return label(
        ax, title="Factors on p(x), a point a text", x="joint: log s (nats)", y="sequential: log s′ (nats)", legend=None
    )


def gap_to_length(lengths: pd.DataFrame, ax: Axes) -> Axes:
    """Draw KL(sequential ‖ joint) against length, with its interval."""
    colour, _ = FAMILIES["sequential"]
    ax.axhline(0, color=GREY, lw=1, zorder=0)
    ax.plot(lengths["length"], lengths["kl"], color=colour, marker="o", markersize=4, lw=1.6)
    ax.fill_between(lengths["length"], lengths["kl_low"], lengths["kl_high"], color=colour, alpha=0.18, lw=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return label(ax, title="The gap against length", x=LENGTH, y="KL(sequential ‖ joint), nats", legend=None)


def ess_to_length(lengths: pd.DataFrame, ax: Axes) -> Axes:
    """Draw which share of the sequential samples counts for the joint law, against length."""
    colour, _ = FAMILIES["sequential"]
    ax.plot(lengths["length"], lengths["ess_share"], color=colour, marker="o", markersize=4, lw=1.6)
    ax.set_ylim(0, 1.04)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    title = "Sequential samples that count jointly"
    return label(ax, title=title, x=LENGTH, y="effective sample size / n", legend=None)
