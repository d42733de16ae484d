"""Figures of the scale factors."""

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import BLUE, FAMILIES, label, lines
from analysis.frames import pick

GAMMA = "scale γ"


def scatter(scale: float) -> Callable[[pd.DataFrame, Axes], Axes]:
    """Return the panel of log s against log s′ at one scale."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        cells = frame[frame["quantity"].isin(["log_s", "log_s_prime", "p_uncond"]) & (frame["scale"] == scale)]
        wide = cells.pivot(index="cell", columns="quantity", values="value")
        area = 300 * wide["p_uncond"] / wide["p_uncond"].max() + 2
        ax.axline((0, 0), slope=1, color="#888888", lw=1, zorder=0)
        ax.scatter(wide["log_s"], wide["log_s_prime"], s=area, color=BLUE, alpha=0.45, lw=0)
        ax.set_aspect("equal", adjustable="datalim")
        return label(
            ax, title=f"Factors on p(x), γ = {scale:g}", x="joint: log s (nats)", y="sequential: log s′ (nats)", legend=None
        )

    return panel


def gap_to_scale(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw KL both ways and TV against the scale."""
    named = {
        "kl_sequential_joint": "KL(seq. ‖ joint), nats",
        "kl_joint_sequential": "KL(joint ‖ seq.), nats",
        "tv": "total variation",
    }
    rows = pick(frame, law="coupled", length=5, coupling=1.0)
    rows = rows[rows["quantity"].isin(named)].replace({"quantity": named})
    lines(rows, ax, x="scale", by="quantity", order=list(named.values()))
    return label(ax, title="Distance of the two laws, T = 5", x=GAMMA, y="distance")


def gap_to_length(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw KL(sequential ‖ joint) against length, a line a scale."""
    rows = pick(frame, law="coupled", quantity="kl_sequential_joint", coupling=1.0)
    rows = rows[rows["scale"].isin([1.5, 3.0, 5.0])]
    lines(rows, ax, x="length", by="scale", order=[1.5, 3.0, 5.0], prefix="γ = ")
    return label(ax, title="The gap against length", x="length T", y="KL(sequential ‖ joint), nats")


def gap_to_coupling(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw KL(sequential ‖ joint) against the coupling of neighbours."""
    rows = pick(frame, law="coupled", quantity="kl_sequential_joint", scale=3.0, length=5)
    colour, marker = FAMILIES["sequential"]
    rows = rows.sort_values("coupling")
    ax.plot(rows["coupling"], rows["value"], color=colour, marker=marker, markersize=4.5)
    return label(
        ax, title="… and against coupling, γ = 3", x="coupling of neighbours (× interaction)", y="KL, nats", legend=None
    )


def zeros(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw TV against the scale for the law with a gap and those without."""
    rows = pick(frame, quantity="tv", length=5)
    rows = rows[(rows["law"] != "coupled") | (rows["coupling"] == 1.0)]
    lines(rows, ax, x="scale", by="law", order=list(rows["law"].unique()))
    return label(ax, title="Where the gap is zero, T = 5", x=GAMMA, y="total variation")
