"""Draw the figures of real text under both laws."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import CYCLE, FAMILIES, Panel, curve, label
from analysis.frames import pick
from analysis.metrics import confidence

BOTH = ("sequential", "joint")
ADHERENCE = "log p(x|y) / p(x) per text, nats"


def _against_scale(quantity: str, title: str, y: str) -> Panel:
    """Return the panel of the mean of a quantity over prompts against the scale, by both laws."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        for family in BOTH:
            rows = _mean(frame, family, quantity)
            curve(ax, rows.index, rows["value"], rows["half"], colour=FAMILIES[family][0])
            _points(ax, family, rows.index, rows["value"], rows["consistent"])
        return label(ax, title=title, x="scale γ", y=y)

    return panel


def _against_length(quantity: str, title: str, y: str, *, log: bool = False, legend: str | None = "") -> Panel:
    """Return the panel of a quantity against length, one line per law and one colour per scale."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        for i, (scale, group) in enumerate(pick(frame, quantity=quantity).groupby("scale")):
            for _, line in group.groupby("law"):
                ax.plot(line["length"], line["value"], color=CYCLE[i], alpha=0.55, lw=1.2)
                ax.fill_between(line["length"], line["low"], line["high"], color=CYCLE[i], alpha=0.08, lw=0)
            ax.plot([], [], color=CYCLE[i], label=f"γ = {scale:g}")
        ax.set_yscale("log" if log else "linear")
        return label(ax, title=title, x="length, tokens", y=y, legend=legend)

    return panel


adherence = _against_scale("adherence", "Adherence", ADHERENCE)
perplexity = _against_scale("perplexity, conditional", "Perplexity, conditional", "perplexity per token")
diversity = _against_scale("distinct words", "Diversity", "distinct words in 64 texts")
gap = _against_length("kl", "The gap against length", "KL(sequential ‖ joint), nats")
share = _against_length("ess_share", "Effective share of sequential samples", "ESS ÷ samples", log=True, legend=None)


def matched(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw perplexity against adherence, one point per scale, to compare both laws at equal adherence."""
    for family in BOTH:
        x, y = (_mean(frame, family, name) for name in ("adherence", "perplexity, conditional"))
        colour = FAMILIES[family][0]
        ax.plot(x["value"], y["value"], color=colour, lw=1.4)
        ax.errorbar(x["value"], y["value"], xerr=x["half"], yerr=y["half"], fmt="none", ecolor=colour, alpha=0.4, lw=1)
        _points(ax, family, x["value"], y["value"], x["consistent"])
    return label(ax, title="At equal adherence", x=ADHERENCE, y="perplexity per token")


def _points(ax: Axes, family: str, x: Any, y: Any, consistent: pd.Series) -> None:
    """Draw the points of a law, hollow where the particles did not converge for every prompt."""
    colour, marker = FAMILIES[family]
    faces = [colour if each else "white" for each in consistent]
    ax.scatter(x, y, facecolors=faces, edgecolors=colour, marker=marker, s=28, zorder=3)
    ax.plot([], [], color=colour, marker=marker, markersize=5, label=family)


def _mean(frame: pd.DataFrame, family: str, quantity: str) -> pd.DataFrame:
    """Return the mean over prompts per scale, half its interval, and whether the particles of every prompt converged."""
    converged = pick(frame, family=family, quantity="consistent").groupby("scale")["value"].min()
    rows = {}
    for scale, group in pick(frame, family=family, quantity=quantity).groupby("scale"):
        found = confidence.mean([confidence.of_row(row) for _, row in group.iterrows()])
        rows[scale] = {"value": found.value, "half": found.half, "consistent": bool(converged.get(scale, 1.0))}
    return pd.DataFrame.from_dict(rows, orient="index")
