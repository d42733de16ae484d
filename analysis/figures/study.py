"""Draw a study: samples against the scale, fidelity and diversity, the normalizers of both wings, losses."""

import textwrap
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.figures import style
from analysis.figures.style import AXES, CYCLE, GREY, Panel
from analysis.frames import Plot, pick
from analysis.metrics.sample_quality import LIMITS

GAP = 0.7  # the grey value between two samples; 1 is white
Families = tuple[str, ...] | None
HELD_OUT = {"held-out loss": "with the label", "held-out loss, no label": "without"}
# The title of the panel of a quantity, and the name of its axis.
NAMES = {
    "accuracy": ("Accuracy", "samples with the requested label"),
    "recall": ("Recall", "recall of held-out data"),
    "coverage": ("Coverage", "coverage of held-out data"),
    "precision": ("Precision", "precision"),
    "spread": ("Spread", "spread within a label (data: 1)"),
    "energy distance": ("Distance to the data", "energy distance to held-out data"),
    "log p(x|y)": ("Likelihood", "log p(x|y), nats per sample"),
    "distinct": ("Different samples", "share of different samples"),
    "memorised": ("Copies", "share of copies of training rows"),
    "log_path_spread": ("Spread of Σ log Z", "nats"),
    "log_z_apart": ("Difference of halves in log Z", "nats"),
    "left": ("Remaining bias", "Var(Ẑ) / Z²"),
}


def against(by: str, *quantities: str, families: Families = None) -> tuple[Panel, ...]:
    """Return the panels of quantities against the scale or β, one line per sampler; the last one has the legend.

    Bands are two standard errors over the seeds. Measures of convergence have a logarithmic axis, and a dotted line at the
    limit below which the sampler has converged; the accuracy against the scale has one at chance.

    Args:
        by: "scale" or "beta".
        quantities: one per panel.
        families: the samplers that are shown; all by default.
    """
    return _with_legend([_only(partial(_line_per_sampler, by=by, quantity=quantity), families) for quantity in quantities])


def frontier(*quantities: str, families: Families = None) -> tuple[Panel, ...]:
    """Return the panels of measures against accuracy from γ = 1 on, one line per sampler; arguments as in `against`."""
    return _with_legend([_only(partial(_frontier, quantity=quantity), families) for quantity in quantities])


def _only(panel: Panel, families: Families) -> Panel:
    """Return the panel of some samplers, and of the evaluator's own numbers."""
    if families is None:
        return panel
    shown = {*families, "judge"}
    return lambda frame, ax: panel(frame[frame["family"].isin(shown)], ax)


def _line_per_sampler(frame: pd.DataFrame, ax: Axes, *, by: str, quantity: str) -> Axes:
    rows = over_seeds(pick(frame, quantity=quantity), by)
    style.lines(rows[rows["family"] != "judge"], ax, x=by)
    limits = [LIMITS[quantity]] if quantity in LIMITS and (rows["value"] > 0).any() else []
    if limits:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
    elif (by, quantity) == ("scale", "accuracy"):
        limits = pick(frame, quantity="chance")["value"].tolist()
    for limit in limits:
        ax.axhline(limit, color=GREY, lw=1, ls=":")
    title, y = NAMES[quantity]
    return style.label(ax, title=title, x=AXES[by], y=y, legend=None)


def _frontier(frame: pd.DataFrame, ax: Axes, *, quantity: str) -> Axes:
    rows = over_seeds(frame[frame["quantity"].isin(["accuracy", quantity]) & (frame["scale"] >= 1)])
    for i, (family, own) in enumerate(rows.groupby("family", sort=False)):
        wide = own.pivot_table(index="scale", columns="quantity", values="value").sort_index()
        if quantity in wide:
            colour, marker = style.look(family, i)
            style.curve(ax, wide["accuracy"], wide[quantity], colour=colour, marker=marker, name=str(family))
    title, y = NAMES[quantity]
    return style.label(ax, title=title, x=NAMES["accuracy"][1], y=y, legend=None)


def _with_legend(panels: list[Panel]) -> tuple[Panel, ...]:
    """Return panels of which the last has the legend to its right, where it hides nothing."""
    return (*panels[:-1], style.adjusted(panels[-1], _legend_beside))


def _legend_beside(ax: Axes) -> None:
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))


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
        ax.set_xticks([j * pitch + pitch / 2 - 1 for j in range(len(labels))], labels, parse_math=False)
        ax.set_yticks([i * pitch + pitch / 2 - 1 for i in range(len(scales))], [f"{scale:g}" for scale in scales])
        ax.tick_params(length=0)
        ax.spines[:].set_color("none")
        return style.label(ax, title=family, x="", y=AXES[by], legend=None)

    return panel


def texts(family: str) -> Panel:
    """Return the panel of texts of the first four labels at every scale, up to the height of the panel."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, quantity="text", family=family).dropna(subset="scale")
        scales, labels = sorted(rows["scale"].unique()), list(dict.fromkeys(rows["label"]))[:4]
        ax.set_axis_off()
        column, line = 1 / (len(labels) + 0.4), 0.95 / max(1, len(scales))
        width, most = int(86 * column), max(1, 26 // max(1, len(scales)))  # characters per line and lines per cell
        write = partial(ax.text, va="top", parse_math=False)
        for j, label in enumerate(labels):
            write((j + 0.6) * column, 1.0, filled([str(label)], width, 1), fontweight="bold", fontsize=7)
            for i, scale in enumerate(scales):
                own = pick(rows, scale=scale, label=label)["text"].tolist()
                write((j + 0.6) * column, 0.93 - i * line, filled(own[:4], width, most), fontsize=6)
        for i, scale in enumerate(scales):
            write(0.0, 0.93 - i * line, f"γ = {scale:g}", fontsize=7, fontweight="bold")
        return style.label(ax, title=family, x="", y="", legend=None)

    return panel


def filled(texts: Sequence[str], width: int, most: int) -> str:
    """Return the first texts that fit into a cell, wrapped; a first text that does not fit ends with an ellipsis.

    Args:
        texts: the candidates.
        width: characters per line.
        most: lines per cell.
    """
    shown: list[str] = []
    for text in texts:
        lines = textwrap.wrap(text, width, subsequent_indent="   ", max_lines=most, placeholder=" …") or ["(empty)"]
        if len(shown) + len(lines) > most:
            break
        shown += lines
    return "\n".join(shown)


def losses(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the training loss of every kind of model against the share of its steps, as a mean over seeds."""
    for i, ((kind, variant), own) in enumerate(pick(frame, quantity="loss").groupby(["law", "family"], sort=False)):
        mean = own.groupby("step")["value"].mean()
        name = kind if (kind, variant) == ("classifier", "dropout") else f"{kind}, {variant}"
        ax.plot(mean.index / mean.index.max(), mean, color=CYCLE[i % len(CYCLE)], lw=1.2, label=name)
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    _legend_beside(ax)
    return style.label(ax, title="Training", x="share of the steps", y="loss", legend=None)


def held_out(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw held-out losses of the causal model by variant of conditioning dropout, with and without the label."""
    rows = frame[frame["law"].isin(["pixels", "lm"])]
    variants = list(pick(rows, quantity="held-out loss")["family"].unique())
    for j, ((quantity, name), marker) in enumerate(zip(HELD_OUT.items(), "os", strict=True)):
        own = pick(rows, quantity=quantity)
        if j:
            own = own[own["family"] != "without dropout"]  # this variant has never seen the null label
        x = [variants.index(family) + 0.1 * j for family in own["family"]]
        ax.errorbar(x, own["value"], 2 * own["std_error"], fmt=marker, color=CYCLE[j], label=name)
    ax.set_xticks(range(len(variants)), variants)
    return style.label(ax, title="Held-out loss", x="", y="nats per sequence")


def over_seeds(frame: pd.DataFrame, by: str = "scale") -> pd.DataFrame:
    """Return the mean over seeds of every quantity, with its standard error."""
    grouped = frame.groupby(["family", "quantity", by], sort=False, dropna=True)["value"]
    return pd.DataFrame({"value": grouped.mean(), "std_error": grouped.sem().fillna(0.0)}).reset_index()


def _curve(frame: pd.DataFrame, ax: Axes) -> Axes:
    ax.plot(frame["step"], frame["loss"], color="#bbbbbb", lw=0.6)
    smooth = frame["loss"].rolling(max(1, len(frame) // 40), center=True, min_periods=1).mean()
    ax.plot(frame["step"], smooth, color=style.BLUE, lw=1.6)
    return style.label(ax, title="Training", x="step", y="loss", legend=None)


LOSS = Plot("loss", (_curve,), "The loss of every step of one training, and its moving mean.")
