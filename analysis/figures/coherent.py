"""Draw what a coherent pair changes: the ratio and its bound, the shape of the guided laws, and their distances."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import BLACK, BLUE, FAMILIES, GREY, PURPLE, Panel, label
from analysis.frames import pick

# The colour is that of the law, the line style that of the pair.
DASHES = {"coherent": "-", "incoherent": "--", "clamped": ":"}
AT = 5.0


def ratio(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the share of p(x|y) whose ratio is above r, against r, and Bayes' bound."""
    rows = pick(frame, law="words", quantity="share_above")
    for name in ("coherent", "incoherent"):
        line = pick(rows, pair=name).sort_values("r")
        ax.plot(line["r"], line["value"], color=BLUE, ls=DASHES[name], lw=1.6, label=name)
    bound = pick(frame, law="words", quantity="bound", pair="coherent")["value"].iloc[0]
    ax.axvline(bound, color=GREY, lw=1, label="bound −log π")
    return label(ax, title="A good fit passes Bayes' bound", x="r (nats)", y="share of p(x|y) with log p(x|y)/p(x) > r")


def against_scale(title: str, y: str, quantity: str, *, legend: str | None = "", room: float = 1.0) -> Panel:
    """Return the panel of a measure of both guided laws of the three pairs against the scale.

    Args:
        title: above the panel.
        y: name and unit of the vertical axis.
        quantity: the measure.
        legend: as in `analysis.figures.style.label`.
        room: factor on the height of the axis, for the legend.
    """

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, law="words", quantity=quantity).dropna(subset="scale")
        for family in ("joint", "sequential", "exact"):
            for name, dash in DASHES.items():
                line = pick(rows, family=family, pair=name).sort_values("scale")
                if not line.empty:
                    colour = BLACK if family == "exact" else FAMILIES[family][0]
                    shown = name if family == "exact" else f"{family}, {name}"
                    ax.plot(line["scale"], line["value"], color=colour, ls=dash, lw=1.6, label=shown)
        ax.set_ylim(0, room * ax.get_ylim()[1])
        return label(ax, title=title, x="scale γ", y=y, legend=legend)

    return panel


at_cap = against_scale("The incoherent joint runs to the cap", "share of words cut at the cap", "at_cap", room=1.5)
repeats = against_scale("… and into loops", "repeated steps per word", "repeats", legend=None)
gap = against_scale("Incoherence widens the gap", "KL(sequential ‖ joint), nats", "kl_sequential_joint")


def bounded(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the distances of a coherent joint law from the conditional one, and their bounds by A."""
    rows = pick(frame, law="words", pair="coherent").dropna(subset="scale")
    exact = pick(rows, family="exact").pivot(index="scale", columns="quantity", values="value").dropna(subset="acceptance")
    accepted = exact["acceptance"]
    for quantity, name, colour in (("kl", "KL, nats", BLUE), ("tv", "TV", PURPLE)):
        most = exact[f"most_{quantity}"]
        line = pick(rows, quantity=f"{quantity}_conditional", family="joint").set_index("scale")["value"].loc[accepted.index]
        ax.plot(line.index, line, color=colour, lw=1.6, label=f"{name}: joint from conditional")
        ax.plot(most.index, most, color=colour, lw=1.2, ls="-.", label=f"{name}: bound by A")
    ax.plot(accepted.index, accepted, color=GREY, lw=1.6, label="share A that is accepted")
    return label(ax, title="A bounds what a coherent joint law changes", x="scale γ", y="nats, or share")


def dose(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw divergences at one scale against the error of the fit, and those of the coherent pair."""
    rows = pick(frame, law="words")
    error = pick(rows, quantity="fit_error").set_index("pair")["value"]
    noisy = [name for name in error.index if str(name).startswith("noise")]
    lines = {
        ("kl_sequential_joint", "exact"): ("KL(seq. ‖ joint)", BLACK),
        ("kl_conditional", "joint"): ("KL(joint ‖ p(x|y))", BLUE),
    }
    for (quantity, family), (name, colour) in lines.items():
        value = pick(rows, quantity=quantity, family=family, scale=AT).set_index("pair")["value"]
        ax.plot(error[noisy], value[noisy], color=colour, marker="o", markersize=4.5, lw=1.6, label=f"{name}, noisy fits")
        ax.plot(error["incoherent"], value["incoherent"], color=colour, marker="*", markersize=10, ls="none")
        ax.axhline(value["coherent"], color=colour, lw=1, ls="-.")
    ax.plot([], [], color=GREY, marker="*", markersize=10, ls="none", label="fit of order 1")
    ax.plot([], [], color=GREY, lw=1, ls="-.", label="coherent pair")
    ax.set(xscale="log", yscale="log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
    return label(ax, title=f"Small errors of p(x) count, γ = {AT:g}", x="KL(mixture ‖ fit), nats", y="nats")
