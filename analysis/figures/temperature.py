"""Figures of temperature."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import BLACK, FAMILIES, label, lines
from analysis.frames import pick

TAU = "temperature τ"


def gap(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw KL(sequential ‖ joint) against temperature, a line a law."""
    lines(pick(frame, quantity="kl_sequential_joint", length=5), ax, x="temperature", by="law")
    ax.set_xscale("log")
    ax.set_xticks([0.3, 0.5, 1, 2, 3], ["0.3", "0.5", "1", "2", "3"], minor=False)
    ax.minorticks_off()
    return label(ax, title="The gap, T = 5", x=TAU, y="KL(sequential ‖ joint), nats")


def gap_to_length(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw KL(sequential ‖ joint) against length, a line a temperature."""
    rows = pick(frame, quantity="kl_sequential_joint", law="coupled")
    order = [0.3, 0.5, 0.7, 1.5]
    lines(rows[rows["temperature"].isin(order)], ax, x="length", by="temperature", order=order, prefix="τ = ")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return label(ax, title="… and against length", x="length T", y="KL(sequential ‖ joint), nats")


def entropies(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the entropies of both laws against temperature."""
    named = {"entropy_joint": "joint", "entropy_sequential": "sequential"}
    rows = pick(frame, law="coupled", length=5)
    rows = rows[rows["quantity"].isin(named)].replace({"quantity": named})
    lines(rows, ax, x="temperature", by="quantity", order=["joint", "sequential"])
    return label(ax, title="Entropy, coupled, T = 5", x=TAU, y="entropy, nats")


def variance(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the variance of each sampler on N(0, 1) against β, with the closed forms."""
    rows = pick(frame, law="Gaussian", quantity="variance")
    rows = rows[rows["family"] != "exact draws"]
    lines(rows, ax, x="beta")
    for family, theory in pick(frame, quantity="closed_form").groupby("family"):
        name = "closed forms" if family == "target 1/β" else None
        ax.plot(theory["beta"], theory["value"], color=BLACK, ls="--", lw=1.2, label=name)
    ax.set_yscale("log")
    return label(ax, title="Variance on N(0, 1)", x="power β", y="variance of the samples")


def w1(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the W1 distance to p^β on two modes."""
    lines(pick(frame, law="two modes", quantity="w1"), ax, x="beta")
    ax.set_yscale("log")
    return label(ax, title="Distance to p^β on two modes", x="power β", y="W1 (units of x)", legend=None)


def density(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the densities at β = 2 on two modes, without the collapsed score × β above the frame's top."""
    rows = pick(frame, quantity="density")
    looks = {"p": ("#888888", ":"), "p²": (BLACK, "--")}
    for family in ("p", "p²", "noise scale", "Gaussian correction", "weights"):
        colour, dash = looks.get(family, (FAMILIES.get(family, ("#000000", ""))[0], "-"))
        curve = pick(rows, family=family)
        ax.plot(curve["x"], curve["value"], color=colour, ls=dash, lw=1.6, label=family)
    ax.set_ylim(0, 1.25 * pick(rows, family="p²")["value"].max())
    return label(ax, title="Densities at β = 2", x="x", y="density")
