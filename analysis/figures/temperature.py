"""Draw the figures of temperature."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.scale_factors import growth
from analysis.figures.style import AXES, BLUE, FAMILIES, SHADES, SILVER, Panel, adjusted, label, line_panel, lines, logarithmic
from analysis.frames import pick
from analysis.metrics.confidence import by_family
from analysis.metrics.trends import clearly, without_gap

KL = "KL(sequential ‖ joint), nats"
KLS = {"quantity": "kl_sequential_joint"}
TEMPERATURES = {tau: f"τ = {tau}" for tau in (0.3, 0.5, 0.7, 1.5)}
BOTH = {"entropy_joint": "joint", "entropy_sequential": "sequential"}
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


def entropies(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the entropy of both laws against the temperature."""
    rows = pick(frame, law="coupled", length=5)
    for quantity, name in BOTH.items():
        lines(pick(rows, quantity=quantity).assign(family=name), ax, x="temperature")
    wide = rows[rows["temperature"] < 1].pivot(index="temperature", columns="quantity", values="value")
    more = wide["entropy_sequential"] - wide["entropy_joint"]
    title = "Entropy of both laws, T = 5"
    if (more > 0).all() or (more < 0).all():
        title = f"Cold sequential draws keep {'more' if (more > 0).all() else 'less'} entropy, T = 5"
    return label(ax, title=title, x=AXES["temperature"], y="entropy, nats")


def variance(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the variance of each sampler on N(0, 1) against β, with the closed forms."""
    rows = pick(frame, law="Gaussian", quantity="variance")
    lines(rows[rows["family"] != "exact draws"], ax, x="beta")
    for family, theory in pick(frame, quantity="closed_form").groupby("family"):
        colour, _ = FAMILIES.get(str(family), (BLUE, ""))
        name = "target 1/β" if family == "target 1/β" else None
        ax.plot(theory["beta"], theory["value"], color=colour, ls="--", lw=1.2, label=name)
    logarithmic(ax, "y")
    at = pick(rows, beta=AT).set_index("family")["value"]
    title = f"Score × {AT:g} draws a variance of {at[NAIVE[0]]:.1g} by the ODE, {at[NAIVE[1]]:.2f} by the SDE, not {1 / AT:g}"
    if all(abs(at[name] * AT - 1) < 0.1 for name in NAIVE):
        title = f"Score × {AT:g} draws the target's variance"
    return label(ax, title=title, x=AXES["beta"], y="variance of the samples")


def w1(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the distance of each sampler to p^β on two modes against β."""
    rows = pick(frame, law="two modes", quantity="w1")
    lines(rows, ax, x="beta", least=LEAST)
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
