"""Figures of the families."""

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import FAMILIES, label, lines
from analysis.frames import pick

Panel = Callable[[pd.DataFrame, Axes], Axes]
UNCORRECTED = ("sequential AR", "diffusion ODE", "diffusion SDE")
CORRECTED = ("AR with weights", "Feynman–Kac", "MALA", "exact draws")
DRAWN = ("sequential AR, drawn", *UNCORRECTED[1:], *CORRECTED)
GUIDED = ("sequential AR", "masked softmax", "masked rates", "uniform noise")
AS_DRAWN = tuple(f"{name}, drawn" for name in GUIDED)
WEIGHTED = ("AR with weights", "softmax with weights", "rates with weights", "uniform with weights", "exact draws")
DISTANCE = {"table": ("tv", "total variation"), "Gaussian sequence": ("w2", "W2 (units of x)")}
SWEPT = {"table": 2, "Gaussian sequence": 4}


def against_scale(law: str) -> Panel:
    """Return the panel of the distance to the joint tilt against the scale."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        quantity, name = DISTANCE[law]
        rows = pick(frame, law=law, quantity=quantity, length=SWEPT[law])
        lines(rows, ax, x="scale", order=DRAWN if law == "table" else UNCORRECTED)
        ax.set_ylim(bottom=0)
        return label(ax, title=f"{law.capitalize()}s, T = {SWEPT[law]}", x="scale γ", y=f"{name} to the joint tilt")

    return panel


def against_length(law: str) -> Panel:
    """Return the panel of the distance to the joint tilt against the length."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        quantity, name = DISTANCE[law]
        rows = pick(frame, law=law, quantity=quantity, scale=3.0)
        lines(rows, ax, x="length", order=DRAWN if law == "table" else UNCORRECTED)
        ax.set_xticks(sorted(rows["length"].unique()))
        ax.set_ylim(bottom=0)
        return label(
            ax,
            title=f"{law.capitalize()}s, γ = 3",
            x="length T",
            y=f"{name} to the joint tilt",
            legend=None if law == "table" else "",
        )

    return panel


def discrete_against_scale(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the exact distance of guided discrete diffusion to the joint tilt against the scale."""
    rows = pick(frame, law="table", quantity="tv", length=SWEPT["table"])
    lines(rows, ax, x="scale", order=GUIDED)
    return label(ax, title=f"Exact laws, T = {SWEPT['table']}", x="scale γ", y="total variation to the joint tilt")


def discrete_against_length(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the exact distance of guided discrete diffusion to the joint tilt against the length."""
    return _by_length(frame, ax, GUIDED, "Exact laws, γ = 3", legend=None)


def discrete_weighted(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the distance of draws of discrete diffusion, with weights and without, against the length."""
    rows = pick(frame, law="table", quantity="tv", scale=3.0)
    for family in AS_DRAWN:
        line = pick(rows, family=family).sort_values("length")
        ax.plot(line["length"], line["value"], color=FAMILIES[family][0], ls="--", lw=1.2, alpha=0.8)
    ax.plot([], [], color="#444444", ls="--", lw=1.2, label="dashed: no weights")
    _by_length(frame, ax, WEIGHTED, "Draws, γ = 3", legend="")
    ax.set_ylim(0, 1.6 * rows[rows["family"].isin(AS_DRAWN)]["value"].max())  # room for the legend
    return ax


def _by_length(frame: pd.DataFrame, ax: Axes, order: tuple[str, ...], title: str, legend: str | None) -> Axes:
    rows = pick(frame, law="table", quantity="tv", scale=3.0)
    lines(rows, ax, x="length", order=order)
    ax.set_xticks(sorted(rows["length"].unique()))
    ax.set_ylim(bottom=0)
    return label(ax, title=title, x="length T", y="total variation to the joint tilt", legend=legend)


def sampled(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw W2 of what should follow a Gaussian sequence's joint tilt against the length."""
    rows = pick(frame, law="Gaussian sequence", quantity="w2", scale=3.0)
    rows = rows[rows["length"].isin(pick(rows, family="exact draws")["length"])]
    lines(rows, ax, x="length", order=("sequential AR, drawn", *CORRECTED))
    ax.set_xticks(sorted(rows["length"].unique()))
    ax.set_ylim(bottom=0)
    return label(ax, title="… and samplers of the joint, γ = 3", x="length T", y="W2 (units of x) to the joint tilt")


def paths(length: int) -> Panel:
    """Return the panel of the histograms of Σ log Z − log Z at one length."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, quantity="path_share", length=length)
        for family in ("sequential AR", "diffusion SDE"):
            colour, _ = FAMILIES[family]
            line = pick(rows, family=family)
            ax.fill_between(line["x"], line["value"], step="mid", color=colour, alpha=0.35, lw=0)
            ax.step(line["x"], line["value"], where="mid", color=colour, lw=1.4, label=family)
        ax.axvline(0, color="#888888", lw=1, ls="--", label="exact log Z")
        return label(ax, title=f"Along paths, T = {length}, γ = 3", x="Σ log Z − log Z (nats)", y="share of paths")

    return panel


def spread(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the standard deviation of Σ log Z against the length."""
    rows = frame[(frame["quantity"] == "path_sd") & frame["family"].isin(UNCORRECTED)]
    lines(rows, ax, x="length", order=UNCORRECTED)
    ax.set_xticks(sorted(rows["length"].unique()))
    ax.set_ylim(bottom=0)
    return label(ax, title="Spread of Σ log Z, γ = 3", x="length T", y="standard deviation (nats)")
