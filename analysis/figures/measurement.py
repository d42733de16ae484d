"""Draw the scale factors of real text, and the gap between the two laws by length."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures import pictures, scale_factors, style
from analysis.figures.style import BLUE, FAMILIES, GREY, curve, label
from analysis.frames import Plot

LENGTH = "length t (tokens)"


def draw(sequences: pd.DataFrame, lengths: pd.DataFrame, note: str = "") -> Figure:
    """Return the figure of both frames of a `gap_estimates.Measurement`.

    Args:
        sequences: one row per text, with `log_s`, its interval, and `log_s_prime`.
        lengths: one row per length, with the gap, its interval, and the effective share.
        note: a warning above the panels.
    """
    return style.draw(_plot(sequences), lengths, note)


def save(sequences: pd.DataFrame, lengths: pd.DataFrame, note: str, path: Path) -> None:
    """Draw the figure and write it atomically.

    Args:
        sequences: as in `draw`.
        lengths: as in `draw`.
        note: as in `draw`.
        path: of the picture.
    """
    pictures.save_plot(path, _plot(sequences), lengths, note)


def _plot(sequences: pd.DataFrame) -> Plot:
    return Plot("measurement", (lambda _, ax: factors(sequences, ax), gap_to_length, ess_to_length), "")


def factors(sequences: pd.DataFrame, ax: Axes) -> Axes:
    """Draw log s, with its interval, against log s′, one point per text."""
    x = sequences["log_s"]
    errors = (x - sequences["log_s_low"], sequences["log_s_high"] - x)
    looks: dict[str, Any] = {"color": BLUE, "alpha": 0.45, "markersize": 4, "markeredgewidth": 0, "elinewidth": 0.6}
    ax.errorbar(x, sequences["log_s_prime"], xerr=errors, fmt="o", **looks)
    return scale_factors.factors(ax, "Factors on p(x), a point per text")


def gap_to_length(lengths: pd.DataFrame, ax: Axes) -> Axes:
    """Draw KL(sequential ‖ joint) against length, with its interval."""
    ax.axhline(0, color=GREY, lw=1, zorder=0)
    half = lengths["kl"] - lengths["kl_low"], lengths["kl_high"] - lengths["kl"]
    _by_length(lengths, ax, "kl", half)
    return label(ax, title="The gap against length", x=LENGTH, y="KL(sequential ‖ joint), nats", legend=None)


def ess_to_length(lengths: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the effective share of sequential samples as proposals for the joint law, against length."""
    _by_length(lengths, ax, "ess_share")
    ax.set_ylim(0, 1.04)
    return label(ax, title="Effective share of sequential samples", x=LENGTH, y="effective sample size / n", legend=None)


def _by_length(lengths: pd.DataFrame, ax: Axes, quantity: str, half: object = 0.0) -> None:
    colour, marker = FAMILIES["sequential"]
    curve(ax, lengths["length"], lengths[quantity], half, colour=colour, marker=marker)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
