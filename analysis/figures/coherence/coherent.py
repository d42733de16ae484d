"""Draw what a coherent pair changes: the ratio and its bound, the shape of the guided laws, and their distances."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import BLUE, FAMILIES, GREY, INDIGO, INK, TEAL, Panel, label, logarithmic
from analysis.frames import pick

# The colour is that of the law, the line style that of the pair.
DASHES = {"coherent": "-", "incoherent": "--", "clamped": ":"}
AT = 5.0
SMALL = 0.02  # differences that a figure does not show


def ratio(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the share of p(x|y) whose ratio is above r, against r, and Bayes' bound."""
    rows = pick(frame, law="words", quantity="share_above")
    for name in ("coherent", "incoherent"):
        line = pick(rows, pair=name).sort_values("r")
        ax.plot(line["r"], line["value"], color=INK, ls=DASHES[name], lw=1.6, label=f"{name} pair")
    bound = pick(frame, law="words", quantity="bound", pair="coherent")["value"].iloc[0]
    ax.axvline(bound, color=GREY, lw=1, label="bound −log π")
    beyond = pick(frame, law="words", quantity="ratio_beyond", pair="incoherent")["value"].iloc[0]
    title = f"The incoherent pair passes Bayes' bound on {beyond:.0%} of p(x|y)"
    return label(ax, title=title, x="r (nats)", y="share with log p(x|y)/p(x) > r")


def against_scale(name: str, y: str, quantity: str, *, family: str = "joint", legend: str | None = "") -> Panel:
    """Return the panel of a measure of both guided laws of the three pairs against the scale.

    Args:
        name: of the measure, in the title, which compares the incoherent with the coherent pair.
        y: name and unit of the vertical axis.
        quantity: the measure.
        family: the law that the title compares.
        legend: as in `analysis.figures.style.label`.
    """

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, law="words", quantity=quantity).dropna(subset="scale")
        for law in ("joint", "sequential", "exact"):
            for pair, dash in DASHES.items():
                line = pick(rows, family=law, pair=pair).sort_values("scale")
                if not line.empty:
                    colour, shown = (INK, f"{pair} pair") if law == "exact" else (FAMILIES[law][0], f"{law}, {pair}")
                    ax.plot(line["scale"], line["value"], color=colour, ls=dash, lw=1.6, label=shown)
        ax.set_ylim(bottom=0)
        at = pick(rows, family=family, scale=AT).set_index("pair")["value"]
        return label(ax, title=_compared(name, at["incoherent"], at["coherent"]), x="scale γ", y=y, legend=legend)

    return panel


def _compared(name: str, incoherent: float, coherent: float) -> str:
    """Return a title that compares both pairs at one scale, neutral where they hardly differ."""
    if abs(incoherent - coherent) <= SMALL:
        return f"{name}: alike for both pairs at γ = {AT:g}"
    return f"{name}: {incoherent:.2f} incoherent, {coherent:.2f} coherent at γ = {AT:g}"


at_cap = against_scale("Words cut at the cap", "share of words cut at the cap", "at_cap")
repeats = against_scale("Repeated steps", "repeated steps per word", "repeats", legend=None)
GAP = "The gap", "KL(sequential ‖ joint), nats", "kl_sequential_joint"
gap = against_scale(*GAP, family="exact")


def bounded(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the distances of a coherent joint law from the conditional one, and their bounds by A."""
    rows = pick(frame, law="words", pair="coherent").dropna(subset="scale")
    exact = pick(rows, family="exact").pivot(index="scale", columns="quantity", values="value").dropna(subset="acceptance")
    accepted, held = exact["acceptance"], True
    for quantity, name, colour in (("kl", "KL, nats", INK), ("tv", "TV", TEAL)):
        most = exact[f"most_{quantity}"]
        line = pick(rows, quantity=f"{quantity}_conditional", family="joint").set_index("scale")["value"].loc[accepted.index]
        held &= bool((line <= most + 1e-9).all())
        ax.plot(line.index, line, color=colour, lw=1.6, label=f"{name}: joint from conditional")
        ax.plot(most.index, most, color=colour, lw=1.2, ls="-.", label=f"{name}: bound by A")
    ax.plot(accepted.index, accepted, color=INDIGO, lw=1.6, label="share A that is accepted")
    title = f"A {'bounds' if held else 'does not bound'} what a coherent joint law changes"
    return label(ax, title=title, x="scale γ", y="nats, or share")


def dose(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw divergences at one scale against the error of the fit, and those of the coherent pair."""
    rows = pick(frame, law="words")
    error = pick(rows, quantity="fit_error").set_index("pair")["value"]
    noisy = [name for name in error.index if str(name).startswith("noise")]
    lines = {
        ("kl_sequential_joint", "exact"): ("KL(seq. ‖ joint)", INK),
        ("kl_conditional", "joint"): ("KL(joint ‖ p(x|y))", BLUE),
    }
    for (quantity, family), (name, colour) in lines.items():
        value = pick(rows, quantity=quantity, family=family, scale=AT).set_index("pair")["value"]
        ax.plot(error[noisy], value[noisy], color=colour, marker="o", markersize=4.5, lw=1.6, label=f"{name}, noisy fits")
        ax.plot(error["incoherent"], value["incoherent"], color=colour, marker="*", markersize=10, ls="none")
        ax.axhline(value["coherent"], color=colour, lw=1, ls="-.")
    ax.plot([], [], color=GREY, marker="*", markersize=10, ls="none", label="fit of order 1")
    ax.plot([], [], color=GREY, lw=1, ls="-.", label="coherent pair")
    logarithmic(ax, "x", "y")
    gaps = pick(rows, quantity="kl_sequential_joint", family="exact", scale=AT).set_index("pair")["value"][noisy]
    grows = gaps.loc[error[noisy].sort_values().index].is_monotonic_increasing
    title = f"The gap {'grows with' if grows else 'against'} the error of p(x), γ = {AT:g}"
    return label(ax, title=title, x="KL(mixture ‖ fit), nats", y="nats")
