"""Draw a study: samples against the scale, fidelity and diversity, the normalizers of both wings, losses."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures import style
from analysis.figures.style import AXES, CYCLE, GREY, Panel
from analysis.frames import Plot, pick
from analysis.metrics.confidence import paired_difference
from analysis.metrics.sample_quality import LIMITS

GAP = 0.7  # the grey value between two samples; 1 is white
Families = tuple[str, ...] | None
SYMBOLS = {"scale": "γ", "beta": "β"}
DASHES = ("-", "--", ":", "-.")
HELD_OUT = {"held-out loss": "with the label", "held-out loss, no label": "without"}
# The title of the panel of a quantity, and the name of its axis.
NAMES = {
    "accuracy": ("Accuracy", "share with the requested label"),
    "recall": ("Recall", "recall of held-out data"),
    "coverage": ("Coverage", "coverage of held-out data"),
    "precision": ("Precision", "precision"),
    "spread": ("Spread", "spread within a label (data: 1)"),
    "energy distance": ("Distance to the data", "energy distance to the data"),
    "log p(x|y)": ("Likelihood", "log p(x|y), nats per sample"),
    "distinct": ("Different samples", "share of different samples"),
    "memorised": ("Copies", "share of copies of training rows"),
    "log_path_spread": ("Spread of Σ log Z", "nats"),
    "log_z_apart": ("Difference of halves in log Z", "nats"),
    "left": ("Remaining bias", "Var(Ẑ) / Z²"),
}


Decide = Callable[[pd.DataFrame, str], str]  # (frame, quantity) ↦ what it shows, in words


def against(by: str, *quantities: str, families: Families = None) -> tuple[Panel, ...]:
    """Return the panels of quantities against the scale or β, one line per sampler; the last one has the legend.

    Bands are two standard errors over the seeds. Measures of convergence have a logarithmic axis, and a dotted line at the
    limit below which the sampler has converged; the accuracy against the scale has one at chance.

    Args:
        by: "scale" or "beta".
        quantities: one per panel.
        families: the samplers that are shown; all by default.
    """
    return tuple(
        _only(partial(_line_per_sampler, by=by, quantity=quantity, legend="" if quantity == quantities[-1] else None), families)
        for quantity in quantities
    )


def frontier(*quantities: str, families: Families = None, decide: Decide | None = None) -> tuple[Panel, ...]:
    """Return the panels of measures against accuracy from γ = 1 on, one line per sampler; the last one has the legend.

    Args:
        quantities: one per panel.
        families: the samplers that are shown; all by default.
        decide: (frame, quantity) ↦ the finding that a title states; the name of the quantity by default.
    """
    draw = partial(_frontier, decide=decide)
    return tuple(
        _only(partial(draw, quantity=quantity, legend="" if quantity == quantities[-1] else None), families)
        for quantity in quantities
    )


def _only(panel: Panel, families: Families) -> Panel:
    """Return the panel of some samplers, and of the evaluator's own numbers."""
    if families is None:
        return panel
    shown = {*families, "evaluator"}
    return lambda frame, ax: panel(frame[frame["family"].isin(shown)], ax)


def _line_per_sampler(frame: pd.DataFrame, ax: Axes, *, by: str, quantity: str, legend: str | None) -> Axes:
    rows = over_seeds(pick(frame, quantity=quantity), by)
    rows = rows[rows["family"] != "evaluator"]
    style.lines(rows, ax, x=by)
    limits = [LIMITS[quantity]] if quantity in LIMITS and (rows["value"] > 0).any() else []
    if limits:
        style.logarithmic(ax, "y")
    elif (by, quantity) == ("scale", "accuracy"):
        limits = pick(frame, quantity="chance")["value"].tolist()
    for limit in limits:
        ax.axhline(limit, color=GREY, lw=1, ls=":")
    title = _converged(rows, by, quantity) if quantity in LIMITS else _moved(rows, by, quantity)
    return style.label(ax, title=title, x=AXES[by], y=NAMES[quantity][1], legend=legend)


def _moved(rows: pd.DataFrame, by: str, quantity: str) -> str:
    """Return the title of a measure: its first and its last value by the first sampler."""
    if rows.empty:
        return NAMES[quantity][0]
    family = rows["family"].iloc[0]
    line = pick(rows, family=family).sort_values(by)["value"]
    form = ".3f" if quantity == "energy distance" else ".2f"
    return f"{NAMES[quantity][0]}, {family}: {line.iloc[0]:z{form}} → {line.iloc[-1]:z{form}}"


def _converged(rows: pd.DataFrame, by: str, quantity: str) -> str:
    """Return the title of a measure of convergence: up to where each sampler is below the limit."""
    parts = []
    for family, line in rows.groupby("family", sort=False):
        below = line[line["value"] <= LIMITS[quantity]][by]
        where = f"up to {SYMBOLS[by]} = {below.max():g}" if len(below) else "nowhere"
        parts.append(f"{family} {where}")
    return f"{NAMES[quantity][0]} below the limit: {', '.join(parts)}" if parts else NAMES[quantity][0]


def _frontier(frame: pd.DataFrame, ax: Axes, *, quantity: str, decide: Decide | None, legend: str | None) -> Axes:
    rows = over_seeds(frame[frame["quantity"].isin(["accuracy", quantity]) & (frame["scale"] >= 1)])
    for i, (family, own) in enumerate(rows.groupby("family", sort=False)):
        wide = own.pivot_table(index="scale", columns="quantity", values="value").sort_index()
        if quantity in wide:
            colour, marker = style.look(family, i)
            style.curve(ax, wide["accuracy"], wide[quantity], colour=colour, marker=marker, name=str(family))
    title, y = NAMES[quantity]
    title = title if decide is None else f"{title}, {decide(frame, quantity)}"
    return style.label(ax, title=title, x=NAMES["accuracy"][1], y=y, legend=legend)


def samples(family: str, by: str = "scale") -> Panel:
    """Return the panel of one image per label (columns) at every scale or β (rows)."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, quantity="pixel", family=family).dropna(subset=[by])
        scales, labels = sorted(rows[by].unique()), list(dict.fromkeys(rows["label"]))
        if not scales:
            return ax
        pitch = int(rows["x"].max()) + 2
        top, left = pitch * rows[by].map(scales.index), pitch * rows["label"].map(labels.index)
        canvas = np.full((len(scales) * pitch - 1, len(labels) * pitch - 1), GAP)
        canvas[(rows["y"] + top).astype(int), (rows["x"] + left).astype(int)] = -rows["value"]
        ax.imshow(canvas, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        turned = 90 if max(len(str(label)) for label in labels) > 2 else 0  # long labels would overlap
        ax.set_xticks([j * pitch + pitch / 2 - 1 for j in range(len(labels))], labels, parse_math=False, rotation=turned)
        ax.set_yticks([i * pitch + pitch / 2 - 1 for i in range(len(scales))], [f"{scale:g}" for scale in scales])
        ax.tick_params(length=0)
        ax.spines[:].set_color("none")
        ax.set_anchor("N")
        return style.label(ax, title=family, x="", y=SYMBOLS[by], legend=None)

    return panel


def losses(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the training loss of every kind of model against the share of its steps, as a mean over seeds."""
    kinds = list(dict.fromkeys(pick(frame, quantity="loss")["law"]))
    seen = dict.fromkeys(kinds, 0)
    for (kind, variant), own in pick(frame, quantity="loss").groupby(["law", "family"], sort=False):
        mean = own.groupby("step")["value"].mean()
        name = kind if (kind, variant) == ("classifier", "dropout") else f"{kind}, {variant}"
        colour, dash = CYCLE[kinds.index(kind) % len(CYCLE)], DASHES[seen[kind] % len(DASHES)]
        ax.plot(mean.index / mean.index.max(), mean, color=colour, ls=dash, lw=1.3, label=name)
        seen[kind] += 1
    style.logarithmic(ax, "y")
    return style.label(ax, title="Training losses", x="share of the steps", y="loss")


def held_out(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw held-out losses of the causal model by variant of conditioning dropout, with and without the label."""
    rows = frame[frame["law"].isin(["pixels", "lm"])]
    variants = list(pick(rows, quantity="held-out loss")["family"].unique())
    for j, ((quantity, name), marker) in enumerate(zip(HELD_OUT.items(), "os", strict=True)):
        own = pick(rows, quantity=quantity)
        if j:
            own = own[own["family"] != "without dropout"]  # this variant has never seen the null label
        y = [variants.index(family) + 0.15 * j for family in own["family"]]
        ax.errorbar(own["value"], y, xerr=2 * own["std_error"], fmt=marker, color=CYCLE[j], label=name)
    ax.set_yticks(range(len(variants)), variants)
    ax.invert_yaxis()
    return style.label(ax, title=_cost(rows), x="nats per held-out sequence", y="")


def _cost(rows: pd.DataFrame) -> str:
    """Return the title of the held-out losses: the cost of dropout, where it is clear over the seeds."""
    loss = pick(rows, quantity="held-out loss").pivot_table(index="seed", columns="family", values="value")
    if not {"dropout", "without dropout"} <= set(loss) or len(loss := loss.dropna()) < 2:
        return "Held-out loss"
    cost, half = paired_difference(loss["dropout"].tolist(), loss["without dropout"].tolist())
    return f"Dropout {'costs' if cost > 0 else 'gains'} {abs(cost):.1f} nats" if abs(cost) > half else "Held-out loss"


def over_seeds(frame: pd.DataFrame, by: str = "scale") -> pd.DataFrame:
    """Return the mean over seeds of every quantity, with its standard error."""
    grouped = frame.groupby(["family", "quantity", by], sort=False, dropna=True)["value"]
    return pd.DataFrame({"value": grouped.mean(), "std_error": grouped.sem().fillna(0.0)}).reset_index()


def _curve(frame: pd.DataFrame, ax: Axes) -> Axes:
    ax.plot(frame["step"], frame["loss"], color=style.SILVER, lw=0.6)
    smooth = frame["loss"].rolling(max(1, len(frame) // 40), center=True, min_periods=1).mean()
    ax.plot(frame["step"], smooth, color=style.INK, lw=1.6)
    return style.label(ax, title="Training", x="step", y="loss", legend=None)


LOSS = Plot("loss", (_curve,), "The loss of every step of one training, and its moving mean.")
