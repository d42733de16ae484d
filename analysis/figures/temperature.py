"""Draw the figures of temperature."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.scale_factors import growth
from analysis.figures.style import (
    AXES,
    BLUE,
    FAMILIES,
    SHADES,
    SILVER,
    Panel,
    adjusted,
    curve,
    label,
    line_panel,
    lines,
    logarithmic,
)
from analysis.frames import pick
from analysis.metrics.confidence import by_family
from analysis.metrics.trends import EQUAL, clearly, without_gap

KL = "KL(sequential ‖ joint), nats"
KLS = {"quantity": "kl_sequential_joint"}
TEMPERATURES = {tau: f"τ = {tau}" for tau in (0.3, 0.5, 0.7, 1.5)}
NAIVE = ("score × β, ODE", "score × β, SDE")
RULES = (*NAIVE, "noise scale", "Gaussian correction", "weights")
AT = 2.0
LEAST = 0.005  # of W1; bands that include 0 leave the panel below


def _few_ticks(ax: Axes) -> None:
    ax.set_xscale("log")
    ax.set_xticks([0.3, 0.5, 1, 2, 3], ["0.3", "0.5", "1", "2", "3"], minor=False)
    ax.minorticks_off()


def _zeros(rows: pd.DataFrame) -> str:
    return f"{len(without_gap(rows, 'law'))} of {rows['law'].nunique()} laws have no gap, T = 5"


gap = adjusted(line_panel(_zeros, KL, "temperature", KLS | {"length": 5}, by="law"), _few_ticks)
gap_to_length = line_panel(
    lambda rows: growth(rows[rows["temperature"] < 1], "temperature"),
    KL,
    "length",
    KLS | {"law": "coupled"},
    by="temperature",
    order=TEMPERATURES,
    colours=SHADES[::-1],
)


def lost(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the entropy that every way of the coupled table loses at equal likelihood, against the β of the power."""
    rows = pick(frame, law="coupled").dropna(subset="setting")
    wide = rows.pivot_table(index=["family", "setting"], columns="quantity", values="value", sort=False).dropna(subset="lost")
    points = wide.reset_index().rename(columns={"effective_beta": "beta", "lost": "value"})
    for family, each in points.groupby("family", sort=False):
        colour, marker = FAMILIES[str(family)]
        dash = "-" if family == "sequential" else " "  # k and p are not in the order of β
        curve(ax, each["beta"], each["value"], colour=colour, marker=marker, dash=dash, name=str(family))
    logarithmic(ax, "x")
    most = points["value"].max()
    title = f"At equal likelihood others lose up to {most:.2f} nats of entropy" if most > EQUAL else "No way loses entropy"
    return label(ax, title=title, x="β of the power of equal likelihood", y="KL(way ‖ p^β), nats")


def reached(law: str) -> Panel:
    """Return the panel of the β that every diffusion sampler reaches on a law, against the β asked for."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, law=law, quantity="effective_beta")
        rows = rows[rows["family"].isin(RULES) & (rows["value"] > 0) & np.isfinite(rows["std_error"])]
        betas = np.array(sorted(rows["beta"].unique()))
        ax.plot(betas, betas, color=SILVER, lw=4, label="β asked for", zorder=0)
        lines(rows, ax, x="beta", order=[name for name in RULES if name in set(rows["family"])], least=0.1)
        for family, theory in pick(frame, quantity="closed_form", law=law).groupby("family"):
            if str(family) in FAMILIES:
                ax.plot(theory["beta"], 1 / theory["value"], color=FAMILIES[str(family)][0], ls="--", lw=1.2)
        ax.set_ylim(betas.min() / 3, 5 * betas.max())
        logarithmic(ax, "y")
        return label(ax, title=_reaching(rows, law), x="β asked for", y="β reached")

    return panel


def _reaching(rows: pd.DataFrame, law: str) -> str:
    """Return the samplers that reach a β within a tenth of β = 2."""
    at = pick(rows, beta=AT).set_index("family")["value"]
    near = [name for name in RULES if name in at.index and abs(at[name] / AT - 1) < 0.1]
    return f"{law[0].upper()}{law[1:]}: β = {AT:g} is reached by {', '.join(near) or 'none'}"


def w1(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the distance of each sampler to p^β on two modes against β."""
    rows = pick(frame, law="two modes", quantity="w1")
    lines(rows, ax, x="beta", order=[*RULES, "exact draws", "draws of p"], least=LEAST)
    ax.set_ylim(bottom=LEAST)
    logarithmic(ax, "y")
    at = {name: each for name, each in by_family(pick(rows, beta=AT)).items() if name in RULES}
    first, second = sorted(at, key=lambda name: at[name].value)[:2]
    title = f"Nearest to p^β at β = {AT:g}: {first}" if clearly(at[second], at[first]) else "Distance to p^β on two modes"
    return label(ax, title=title, x=AXES["beta"], y="W1 (units of x)")


def _densities(families: Sequence[str]) -> Panel:
    """Return the panel of the densities at β = 2 on two modes of some samplers, beside p and p²."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, quantity="density")
        looks = {"p": (SILVER, ":"), "p²": (BLUE, "--")} | {family: (FAMILIES[family][0], "-") for family in families}
        for family, (colour, dash) in looks.items():
            line = pick(rows, family=family)
            ax.plot(line["x"], line["value"], color=colour, ls=dash, lw=1.6, label=family)
        return label(ax, title=_shape(rows, families), x="x", y="density")

    return panel


def _shape(rows: pd.DataFrame, families: Sequence[str]) -> str:
    """Return the family that is the farthest from p² or, of several, the nearest, by total variation of the histograms."""
    wide = rows.pivot(index="x", columns="family", values="value")
    width = float(wide.index[1] - wide.index[0])
    far = {family: float((wide[family] - wide["p²"]).abs().sum()) * width / 2 for family in families}
    if families == NAIVE:
        peak = wide[NAIVE[0]].max() / wide["p²"].max()
        return f"Score × 2 by the ODE has a peak {peak:.1f} times that of p², total variation {far[NAIVE[0]]:.2f}"
    first, second = sorted(far, key=lambda name: far[name])[:2]
    clear = far[second] - far[first] > 0.02
    return f"Nearest to p²: {first}, total variation {far[first]:.2f}" if clear else "Three other rules beside p²"


naive_density, density = _densities(NAIVE), _densities(RULES[2:])
