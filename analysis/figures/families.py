"""Draw the figures of the samplers: their distance to the joint tilt, and the normalizers along their paths."""

import math

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import BLUE, FAMILIES, GREY, PURPLE, Panel, adjusted, from_zero, label, line_panel
from analysis.frames import pick

UNCORRECTED = ("sequential AR", "diffusion ODE", "diffusion SDE")
CORRECTED = ("AR with weights", "Feynman–Kac", "MALA", "exact draws")
DRAWN = ("sequential AR, drawn", *UNCORRECTED[1:], *CORRECTED)
GUIDED = ("sequential AR", "masked softmax", "masked rates", "uniform noise")
AS_DRAWN = tuple(f"{name}, drawn" for name in GUIDED)
ACCEPTED = ("AR by acceptance", "paths by acceptance", "data by acceptance")
BESIDE = ("sequential AR, drawn", "AR coherent, drawn", *ACCEPTED, "exact draws")
WEIGHTED = ("AR with weights", "softmax with weights", "rates with weights", "uniform with weights", "exact draws")
TABLE, SEQUENCE = "table", "Gaussian sequence"
DISTANCE = {TABLE: ("tv", "total variation"), SEQUENCE: ("w2", "W2 (units of x)")}
SWEPT = {TABLE: 2, SEQUENCE: 4}


def against_scale(law: str) -> Panel:
    """Return the panel of the distance to the joint tilt against the scale."""
    return _distance(law, "scale", f"{law.capitalize()}s, T = {SWEPT[law]}", DRAWN if law == TABLE else UNCORRECTED)


def against_length(law: str) -> Panel:
    """Return the panel of the distance to the joint tilt against the length."""
    order, legend = (DRAWN, None) if law == TABLE else (UNCORRECTED, "")
    return _distance(law, "length", f"{law.capitalize()}s, γ = 3", order, legend=legend)


def _distance(law: str, x: str, title: str, order: tuple[str, ...], *, legend: str | None = "") -> Panel:
    quantity, name = DISTANCE[law]
    where = {"law": law, "quantity": quantity} | ({"length": SWEPT[law]} if x == "scale" else {"scale": 3.0})
    return adjusted(line_panel(title, f"{name} to the joint tilt", x, where, order=order, legend=legend), from_zero)


accepted_against_scale = _distance(TABLE, "scale", f"Acceptance reaches the floor, T = {SWEPT[TABLE]}", BESIDE)
accepted_against_length = _distance(TABLE, "length", "… at every length, γ = 3", BESIDE, legend=None)
discrete_against_scale = _distance(TABLE, "scale", f"Exact laws, T = {SWEPT[TABLE]}", GUIDED)
discrete_against_length = _distance(TABLE, "length", "Exact laws, γ = 3", GUIDED, legend=None)
SPREAD = "Spread of Σ log Z, γ = 3", "standard deviation (nats)"
spread = adjusted(line_panel(*SPREAD, "length", {"quantity": "path_sd"}, order=UNCORRECTED), from_zero)


def discrete_weighted(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the distance of samples of discrete diffusion, with weights and without, against the length."""
    rows = pick(frame, law=TABLE, quantity="tv", scale=3.0)
    for family in AS_DRAWN:
        line = pick(rows, family=family).sort_values("length")
        ax.plot(line["length"], line["value"], color=FAMILIES[family][0], ls="--", lw=1.2, alpha=0.8)
    ax.plot([], [], color="#444444", ls="--", lw=1.2, label="dashed: no weights")
    _distance(TABLE, "length", "Draws, γ = 3", WEIGHTED)(frame, ax)
    ax.set_ylim(0, 1.6 * rows[rows["family"].isin(AS_DRAWN)]["value"].max())  # leaves room for the legend
    return ax


def kept(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the share A against the scale, and the distances from the conditional law beside what A bounds."""
    rows = pick(frame, law=TABLE, length=SWEPT[TABLE])
    line_panel("", "", "scale", {"quantity": "acceptance"}, order=ACCEPTED, legend=None)(rows, ax)
    exact = pick(rows, family="exact").pivot(index="scale", columns="quantity", values="value").sort_index()
    bounds = {"kl_joint_conditional": (BLUE, "KL", -exact["acceptance"].map(math.log))}
    bounds["tv_joint_conditional"] = (PURPLE, "TV", 1 - exact["acceptance"])
    for quantity, (colour, name, most) in bounds.items():
        ax.plot(exact.index, exact[quantity], color=colour, lw=1.6, label=f"{name}(joint, conditional)")
        ax.plot(exact.index, most, color=colour, lw=1.2, ls="--", label="its bound by A")
    ax.plot(exact.index, exact["acceptance"], color=GREY, ls=":", lw=1.2, label="A, exact")
    label(ax, title=f"A bounds what the joint changes, T = {SWEPT[TABLE]}", x="scale γ", y="share, or nats", legend=None)
    ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def sampled(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw W2 of every sampler of a Gaussian sequence's joint tilt against the length, where exact samples give the floor."""
    rows = pick(frame, law=SEQUENCE, quantity="w2", scale=3.0)
    rows = rows[rows["length"].isin(pick(rows, family="exact draws")["length"])]
    title = "… and samplers of the joint, γ = 3"
    return _distance(SEQUENCE, "length", title, ("sequential AR, drawn", *CORRECTED))(rows, ax)


def paths(length: int) -> Panel:
    """Return the panel of the histograms of Σ log Z − log Z at one length."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, quantity="path_share", length=length)
        for family in ("sequential AR", "diffusion SDE"):
            colour, _ = FAMILIES[family]
            line = pick(rows, family=family)
            ax.fill_between(line["x"], line["value"], step="mid", color=colour, alpha=0.35, lw=0)
            ax.step(line["x"], line["value"], where="mid", color=colour, lw=1.4, label=family)
        ax.axvline(0, color=GREY, lw=1, ls="--", label="exact log Z")
        return label(ax, title=f"Along paths, T = {length}, γ = 3", x="Σ log Z − log Z (nats)", y="share of paths")

    return panel
