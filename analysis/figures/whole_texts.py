"""Draw the figures of the exact laws of whole texts."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import INK, TEAL, label, lines, logarithmic
from analysis.frames import pick
from analysis.metrics.trends import direction

PAIRS = {"pooled": "one model of all texts", "mixture": "the mixture of the labels"}
LAWS = {
    ("pooled", "mean_length_conditional"): "conditional",
    ("pooled", "mean_length_sequential"): "sequential",
    ("pooled", "mean_length_joint"): "joint",
    ("mixture", "mean_length_joint"): "AR joint, coherent",
}
NAMES = {name: name for name in LAWS.values()} | {
    "joint": "joint, pooled",
    "AR joint, coherent": "joint by acceptance, mixture",
}
NAMES["sequential"] = "sequential, pooled"


def gap(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the gap of both pairs against the scale, at the largest order."""
    order = frame["order"].max()
    rows = pick(frame, quantity="kl_sequential_joint", order=order)
    lines(rows[rows["scale"] > 1], ax, x="scale", order=PAIRS, colours=(INK, TEAL), least=1e-4)
    logarithmic(ax, "y")
    largest = {family: pick(rows, family=family, scale=rows["scale"].max())["value"] for family in PAIRS}
    found = [f"{value.iloc[0]:.3g} nats ({family})" for family, value in largest.items() if len(value)]
    title = f"At γ = {rows['scale'].max():g} and order {order:g} the laws differ by {' and '.join(found)}"
    return label(ax, title=title, x="scale γ", y="KL(sequential ‖ joint), nats", legend="p(x)")


def orders(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the gap of both pairs at γ = 3 against the order."""
    rows = pick(frame, quantity="kl_sequential_joint", scale=3.0)
    lines(rows, ax, x="order", order=PAIRS, colours=(INK, TEAL), least=1e-4)
    logarithmic(ax, "y")
    ax.set_xticks(sorted(rows["order"].unique()))
    pooled = pick(rows, family="pooled")
    words = {1: "grows with the order", -1: "shrinks with the order", 0: "does not follow the order"}
    title = f"The gap of the pooled pair {words[direction(pooled, 'order', 'family')]} at γ = 3"
    return label(ax, title=title, x="order n", y="KL(sequential ‖ joint), nats", legend="p(x)")


def lengths(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the mean length of texts against the scale, at the largest order."""
    rows = pick(frame, order=frame["order"].max())
    names = [LAWS.get(key, "") for key in zip(rows["family"], rows["quantity"], strict=True)]
    rows = rows.assign(family=names)[[bool(name) for name in names]]
    lines(rows, ax, x="scale", order=NAMES)
    last = pick(rows, scale=rows["scale"].max()).set_index("family")["value"]
    title = (
        f"At γ = {rows['scale'].max():g} a text of the pooled joint law has {last['joint']:.0f} tokens, "
        f"a conditional one {last['conditional']:.0f}"
    )
    return label(ax, title=title, x="scale γ", y="mean tokens of a text")
