"""Draw the figures of temperature."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import BLACK, FAMILIES, GREY, label, line_panel, lines
from analysis.frames import pick

TAU = "temperature τ"
KL = "KL(sequential ‖ joint), nats"

gap_to_length = line_panel(
    {"quantity": "kl_sequential_joint", "law": "coupled"},
    "length",
    ("… and against length", "length T", KL),
    by="temperature",
    order={tau: f"τ = {tau}" for tau in (0.3, 0.5, 0.7, 1.5)},
)
entropies = line_panel(
    {"law": "coupled", "length": 5},
    "temperature",
    ("Entropy, coupled, T = 5", TAU, "entropy, nats"),
    by="quantity",
    order={"entropy_joint": "joint", "entropy_sequential": "sequential"},
)
w1 = line_panel(
    {"law": "two modes", "quantity": "w1"},
    "beta",
    ("Distance to p^β on two modes", "power β", "W1 (units of x)"),
    log="y",
    legend=None,
)


def gap(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw KL(sequential ‖ joint) against temperature, one line per law."""
    lines(pick(frame, quantity="kl_sequential_joint", length=5), ax, x="temperature", by="law")
    ax.set_xscale("log")
    ax.set_xticks([0.3, 0.5, 1, 2, 3], ["0.3", "0.5", "1", "2", "3"], minor=False)
    ax.minorticks_off()
    return label(ax, title="The gap, T = 5", x=TAU, y=KL)


def variance(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the variance of each sampler on N(0, 1) against β, with the closed forms."""
    rows = pick(frame, law="Gaussian", quantity="variance")
    lines(rows[rows["family"] != "exact draws"], ax, x="beta")
    for family, theory in pick(frame, quantity="closed_form").groupby("family"):
        name = "closed forms" if family == "target 1/β" else None
        ax.plot(theory["beta"], theory["value"], color=BLACK, ls="--", lw=1.2, label=name)
    ax.set_yscale("log")
    return label(ax, title="Variance on N(0, 1)", x="power β", y="variance of the samples")


def density(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the densities at β = 2 on two modes; score × β has collapsed to peaks above the panel and is left out."""
    rows = pick(frame, quantity="density")
    exact = {"p": (GREY, ":"), "p²": (BLACK, "--")}
    for family in ("p", "p²", "noise scale", "Gaussian correction", "weights"):
        colour, dash = exact[family] if family in exact else (FAMILIES[family][0], "-")
        line = pick(rows, family=family)
        ax.plot(line["x"], line["value"], color=colour, ls=dash, lw=1.6, label=family)
    ax.set_ylim(0, 1.25 * pick(rows, family="p²")["value"].max())
    return label(ax, title="Densities at β = 2", x="x", y="density")
