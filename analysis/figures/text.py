"""Figures of real text under both laws."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import CYCLE, FAMILIES, MARKERS, label
from analysis.frames import pick
from analysis.metrics import confidence

GAMMA = "scale γ"
BOTH = ("sequential", "joint")


def adherence(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw mean log p(x|y)/p(x) of a text against the scale."""
    _against_scale(frame, ax, "adherence")
    return label(ax, title="Adherence", x=GAMMA, y="log p(x|y) / p(x) of a text, nats")


def perplexity(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the perplexity of a token under the conditional model against the scale."""
    _against_scale(frame, ax, "perplexity, conditional")
    return label(ax, title="Perplexity, conditional", x=GAMMA, y="perplexity of a token")


def diversity(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the number of distinct words in 64 texts against the scale."""
    _against_scale(frame, ax, "distinct words")
    return label(ax, title="Diversity", x=GAMMA, y="distinct words in 64 texts")


def matched(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw perplexity against adherence, a point a scale: at equal adherence, is one law dearer?"""
    for family in BOTH:
        colour, marker = FAMILIES[family]
        rows = [_mean(frame, family, name) for name in ("adherence", "perplexity, conditional")]
        x, y = (each["value"] for each in rows)
        ax.plot(x, y, color=colour, lw=1.4)
        ax.errorbar(x, y, xerr=rows[0]["half"], yerr=rows[1]["half"], fmt="none", ecolor=colour, alpha=0.4, lw=1)
        _points(ax, x, y, rows[0]["consistent"], colour, marker, family)
    return label(ax, title="At equal adherence", x="log p(x|y) / p(x) of a text, nats", y="perplexity of a token")


def gap(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw KL(sequential ‖ joint) against length."""
    _against_length(frame, ax, "kl")
    return label(ax, title="The gap against length", x="length, tokens", y="KL(sequential ‖ joint), nats")


def share(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the effective share of sequential samples as proposals for the joint law against length."""
    _against_length(frame, ax, "ess_share")
    ax.set_yscale("log")
    return label(ax, title="Sequential samples that count", x="length, tokens", y="ESS ÷ samples", legend=None)


def _against_scale(frame: pd.DataFrame, ax: Axes, quantity: str) -> None:
    for family in BOTH:
        rows = _mean(frame, family, quantity)
        colour, marker = FAMILIES[family]
        ax.plot(rows.index, rows["value"], color=colour, lw=1.4)
        low, high = rows["value"] - rows["half"], rows["value"] + rows["half"]
        ax.fill_between(rows.index, low, high, color=colour, alpha=0.15, lw=0)
        _points(ax, rows.index, rows["value"], rows["consistent"], colour, marker, family)


def _points(ax: Axes, x: Any, y: Any, consistent: Any, colour: str, marker: str, name: str) -> None:
    """Draw points, hollow where the particles did not converge for every prompt."""
    faces = [colour if each else "white" for each in consistent]
    ax.scatter(x, y, facecolors=faces, edgecolors=colour, marker=marker, s=28, zorder=3)
    ax.plot([], [], color=colour, marker=marker, markersize=5, label=name)


def _mean(frame: pd.DataFrame, family: str, quantity: str) -> pd.DataFrame:
    """Return the mean over prompts by scale, half its interval, and whether runs of every prompt agree."""
    told = pick(frame, family=family, quantity="consistent").groupby("scale")["value"].min()
    rows = []
    for scale, group in pick(frame, family=family, quantity=quantity).groupby("scale"):
        found = confidence.mean([confidence.of_row(row) for _, row in group.iterrows()])
        rows.append((scale, found.value, found.half, bool(told.get(scale, 1.0))))
    return pd.DataFrame(rows, columns=["scale", "value", "half", "consistent"]).set_index("scale")


def _against_length(frame: pd.DataFrame, ax: Axes, quantity: str) -> None:
    rows = pick(frame, quantity=quantity)
    for i, (scale, group) in enumerate(rows.groupby("scale")):
        for _, line in group.groupby("law"):
            ax.plot(line["length"], line["value"], color=CYCLE[i], alpha=0.55, lw=1.2)
            ax.fill_between(line["length"], line["low"], line["high"], color=CYCLE[i], alpha=0.08, lw=0)
        ax.plot([], [], color=CYCLE[i], marker=MARKERS[i], markersize=0, label=f"γ = {scale:g}")
