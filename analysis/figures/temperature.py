"""Draw the figures of temperature."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import AXES, BLACK, FAMILIES, GREY, adjusted, label, line_panel, lines
from analysis.frames import pick

KL = "KL(sequential ‖ joint), nats"


def _few_ticks(ax: Axes) -> None:
    ax.set_xscale("log")
    ax.set_xticks([0.3, 0.5, 1, 2, 3], ["0.3", "0.5", "1", "2", "3"], minor=False)
    ax.minorticks_off()


KLS = {"quantity": "kl_sequential_joint"}
TEMPERATURES = {tau: f"τ = {tau}" for tau in (0.3, 0.5, 0.7, 1.5)}
BOTH = {"entropy_joint": "joint", "entropy_sequential": "sequential"}

gap = adjusted(line_panel("The gap, T = 5", KL, "temperature", KLS | {"length": 5}, by="law"), _few_ticks)
gap_to_length = line_panel("… and against length", KL, "length", KLS | {"law": "coupled"}, by="temperature", order=TEMPERATURES)
entropies = line_panel(
    "Entropy, coupled, T = 5", "entropy, nats", "temperature", {"law": "coupled", "length": 5}, by="quantity", order=BOTH
)
w1 = adjusted(
    line_panel("Distance to p^β on two modes", "W1 (units of x)", "beta", {"law": "two modes", "quantity": "w1"}, legend=None),
    lambda ax: ax.set_yscale("log"),
)


def variance(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the variance of each sampler on N(0, 1) against β, with the closed forms."""
    rows = pick(frame, law="Gaussian", quantity="variance")
    lines(rows[rows["family"] != "exact draws"], ax, x="beta")
    for family, theory in pick(frame, quantity="closed_form").groupby("family"):
        name = "closed forms" if family == "target 1/β" else None
        ax.plot(theory["beta"], theory["value"], color=BLACK, ls="--", lw=1.2, label=name)
    ax.set_yscale("log")
    return label(ax, title="Variance on N(0, 1)", x=AXES["beta"], y="variance of the samples")


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
