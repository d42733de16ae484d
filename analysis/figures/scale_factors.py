"""Draw the figures of the scale factors."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import AXES, FAMILIES, GREY, INK, SHADES, TEAL, Panel, curve, label, line_panel, lines
from analysis.frames import pick
from analysis.metrics.trends import EQUAL, direction, without_gap

COUPLED = {"law": "coupled", "coupling": 1.0}
DISTANCES = {
    "kl_sequential_joint": ("KL(seq. ‖ joint), nats", INK, "-", "o"),
    "kl_joint_sequential": ("KL(joint ‖ seq.), nats", TEAL, "--", "D"),
    "tv": ("total variation", INK, ":", "s"),
}
SCALES = {scale: f"γ = {scale:g}" for scale in (1.5, 3.0, 5.0)}
KL = "KL(sequential ‖ joint), nats"


def gap_to_scale(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw three distances of the two laws against the scale."""
    rows = pick(frame, **COUPLED, length=5)
    for quantity, (name, colour, dash, marker) in DISTANCES.items():
        line = pick(rows, quantity=quantity).sort_values("scale")
        curve(ax, line["scale"], line["value"], colour=colour, dash=dash, marker=marker, name=name)
    equal = sorted(pick(rows, quantity="tv")[lambda tv: tv["value"] < EQUAL]["scale"])
    where = f"agree at γ = {' and '.join(f'{scale:g}' for scale in equal)} alone" if equal else "differ at every γ"
    return label(ax, title=f"The two laws {where}, T = 5", x=AXES["scale"], y="distance")


def growth(rows: pd.DataFrame, by: str) -> str:
    """Return the title of a panel of the gap against length."""
    return {1: "The gap grows with length", -1: "The gap shrinks with length"}.get(
        direction(rows[rows[by].isin(list(SCALES))] if by == "scale" else rows, "length", by),
        f"The gap against length, up to {rows['value'].max():.2f} nats",
    )


gap_to_length = line_panel(
    lambda rows: growth(rows, "scale"),
    KL,
    "length",
    COUPLED | {"quantity": "kl_sequential_joint"},
    by="scale",
    order=SCALES,
    colours=SHADES,
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
        area = 250 * wide["p_uncond"] / wide["p_uncond"].max() + 2
        ax.scatter(wide["log_s"], wide["log_s_prime"], s=area, color=TEAL, alpha=0.5, lw=0)
        most = (wide["log_s"] - wide["log_s_prime"]).abs().max()
        return factors(ax, f"γ = {scale:g}: factors {f'differ by up to {most:.1f} nats' if most > EQUAL else 'are equal'}")

    return panel


def gap_to_coupling(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw KL(sequential ‖ joint) against the coupling of neighbours."""
    rows = pick(frame, law="coupled", quantity="kl_sequential_joint", scale=3.0, length=5).sort_values("coupling")
    ax.plot(rows["coupling"], rows["value"], color=INK, marker=FAMILIES["sequential"][1], markersize=4.5)
    at = rows["coupling"].to_numpy()[rows["value"].argmax()]
    strength = {rows["coupling"].min(): "weakest", rows["coupling"].max(): "strongest"}.get(at, "intermediate")
    x = "coupling of neighbours (× interaction)"
    return label(ax, title=f"The gap is largest at the {strength} coupling, γ = 3", x=x, y="KL, nats", legend=None)


def zeros(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the total variation against the scale for the coupled law and for those without a gap."""
    rows = pick(frame, quantity="tv", length=5)
    rows = rows[(rows["law"] != "coupled") | (rows["coupling"] == 1.0)]
    lines(rows, ax, x="scale", by="law")
    title = f"{len(without_gap(rows, 'law'))} of {rows['law'].nunique()} laws have no gap at any γ"
    return label(ax, title=title, x=AXES["scale"], y="total variation")
