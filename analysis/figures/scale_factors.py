"""Draw the figures of the scale factors."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import AXES, BLUE, FAMILIES, GREY, Panel, label, line_panel, lines
from analysis.frames import pick

COUPLED = {"law": "coupled", "coupling": 1.0}
DISTANCES = {
    "kl_sequential_joint": "KL(seq. ‖ joint), nats",
    "kl_joint_sequential": "KL(joint ‖ seq.), nats",
    "tv": "total variation",
}
SCALES = {scale: f"γ = {scale}" for scale in (1.5, 3.0, 5.0)}
KL = "KL(sequential ‖ joint), nats"

gap_to_scale = line_panel(
    "Distance of the two laws, T = 5", "distance", "scale", COUPLED | {"length": 5}, by="quantity", order=DISTANCES
)
gap_to_length = line_panel(
    "The gap against length", KL, "length", COUPLED | {"quantity": "kl_sequential_joint"}, by="scale", order=SCALES
)


def factors(ax: Axes, title: str) -> Axes:
    """Finish a panel of log s (joint) against log s′ (sequential): add the diagonal, where both are equal."""
    ax.axline((0, 0), slope=1, color=GREY, lw=1, zorder=0)
    ax.set_aspect("equal", adjustable="datalim")
    return label(ax, title=title, x="joint: log s (nats)", y="sequential: log s′ (nats)", legend=None)


def scatter(scale: float) -> Panel:
    """Return the panel of log s against log s′ at one scale; areas show p(x)."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        cells = frame[frame["quantity"].isin(["log_s", "log_s_prime", "p_uncond"]) & (frame["scale"] == scale)]
        wide = cells.pivot(index="cell", columns="quantity", values="value")
        area = 300 * wide["p_uncond"] / wide["p_uncond"].max() + 2
        ax.scatter(wide["log_s"], wide["log_s_prime"], s=area, color=BLUE, alpha=0.45, lw=0)
        return factors(ax, f"Factors on p(x), γ = {scale:g}")

    return panel


def gap_to_coupling(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw KL(sequential ‖ joint) against the coupling of neighbours."""
    rows = pick(frame, law="coupled", quantity="kl_sequential_joint", scale=3.0, length=5).sort_values("coupling")
    colour, marker = FAMILIES["sequential"]
    ax.plot(rows["coupling"], rows["value"], color=colour, marker=marker, markersize=4.5)
    title, x = "… and against coupling, γ = 3", "coupling of neighbours (× interaction)"
    return label(ax, title=title, x=x, y="KL, nats", legend=None)


def zeros(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the total variation against the scale for the coupled law and for those without a gap."""
    rows = pick(frame, quantity="tv", length=5)
    lines(rows[(rows["law"] != "coupled") | (rows["coupling"] == 1.0)], ax, x="scale", by="law")
    return label(ax, title="Where the gap is zero, T = 5", x=AXES["scale"], y="total variation")
