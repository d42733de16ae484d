"""Draw the figures of real text under both laws."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import CYCLE, FAMILIES, MARKERS, SHADES, Panel, curve, label, logarithmic
from analysis.frames import pick
from analysis.metrics import confidence
from analysis.metrics.trends import clearly

BOTH = ("sequential", "joint")
ADHERENCE = "log p(x|y) / p(x) per text, nats"


def against_scale(frame: pd.DataFrame, ax: Axes, quantities: Sequence[str], *, title: str, y: str) -> Axes:
    """Draw quantities against the scale, with bands of two standard errors.

    Args:
        frame: a tidy frame of `text_statistics`.
        ax: the axes to draw on.
        quantities: which to draw, at most five.
        title: above the panel.
        y: name and unit of the vertical axis.
    """
    for name, colour, marker in zip(quantities, CYCLE, MARKERS, strict=False):
        rows = pick(frame, quantity=name).sort_values("scale")
        half, short = 2 * rows["std_error"], name.removeprefix("perplexity, ")
        curve(ax, rows["scale"], rows["value"], half, colour=colour, marker=marker, name=short)
    return label(ax, title=title, x="scale γ", y=y, legend="" if len(quantities) > 1 else None)


def _against_scale(quantity: str, title: str, y: str) -> Panel:
    """Return the panel of the mean of a quantity over prompts against the scale, by both laws."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        for family in BOTH:
            rows = _mean(frame, family, quantity)
            curve(ax, rows.index, rows["value"], rows["half"], colour=FAMILIES[family][0])
            _points(ax, family, rows.index, rows["value"], rows["consistent"])
        return label(ax, title=_compared(frame, quantity, title), x="scale γ", y=y)

    return panel


def _compared(frame: pd.DataFrame, quantity: str, title: str) -> str:
    """Return the title: which law has clearly more at the largest γ at which all particles converged, neutral if neither."""
    converged = frame[(frame["quantity"] == "consistent") & (frame["scale"] > 1)].groupby("scale")["value"].min()
    scale = converged[converged > 0].index.max()
    if pd.isna(scale):
        return f"{title}: the joint sampler did not converge"
    means = [_estimate(pick(frame, family=family, quantity=quantity, scale=scale)) for family in ("joint", "sequential")]
    side = {1: "the joint law has more", -1: "the joint law has less", 0: "not decided"}[clearly(*means)]
    return f"{title}, γ = {scale:g}: {side}"


def _against_length(
    quantity: str, title: Callable[[pd.DataFrame], str], y: str, *, log: bool = False, legend: str | None = ""
) -> Panel:
    """Return the panel of a quantity against length, one line per law and one colour per scale."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, quantity=quantity)
        for (scale, group), colour in zip(rows.groupby("scale"), SHADES[1::2], strict=False):
            for _, line in group.groupby("law"):
                ax.plot(line["length"], line["value"], color=colour, alpha=0.8, lw=1.2)
                ax.fill_between(line["length"], line["low"], line["high"], color=colour, alpha=0.1, lw=0)
            ax.plot([], [], color=colour, label=f"γ = {scale:g}")
        if log:
            logarithmic(ax, "y")
        return label(ax, title=title(rows), x="length, tokens", y=y, legend=legend)

    return panel


adherence = _against_scale("adherence", "Adherence", ADHERENCE)
perplexity = _against_scale("perplexity, conditional", "Perplexity, conditional", "perplexity per token")
diversity = _against_scale("distinct words", "Diversity", "distinct words in 64 texts")


def _grown(rows: pd.DataFrame) -> str:
    """Return the title of the gap: it grows where that at the last length is clearly above that at the first of every line."""
    grown = set()
    for _, line in rows.groupby(["law", "scale"]):
        first, last = (line.sort_values("length").iloc[i] for i in (0, -1))
        grown.add(bool(last["low"] > first["high"]))
    return "The gap grows with length" if grown == {True} else "The gap against length"


def _counted(rows: pd.DataFrame) -> str:
    last = rows[(rows["length"] == rows["length"].max()) & (rows["scale"] == rows["scale"].max())]
    at = f"γ = {rows['scale'].max():g}, T = {rows['length'].max():g}"
    return f"At {at} the effective sample size is {last['value'].median():.1%} of the samples"


gap = _against_length("kl", _grown, "KL(sequential ‖ joint), nats")
share = _against_length("ess_share", _counted, "ESS ÷ samples", log=True, legend=None)


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
        found = _estimate(group)
        rows[scale] = {"value": found.value, "half": found.half, "consistent": bool(converged.get(scale, 1.0))}
    return pd.DataFrame.from_dict(rows, orient="index")


def _estimate(rows: pd.DataFrame) -> confidence.Estimate:
    """Return the mean over prompts."""
    return confidence.mean([confidence.of_row(row) for _, row in rows.iterrows()])
