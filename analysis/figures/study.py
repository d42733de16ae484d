"""Pictures of a study: samples against the scale, fidelity and diversity, the normalizers of both wings, losses."""

import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.figures import style
from analysis.frames import Plot, pick
from analysis.metrics.sample_quality import LIMITS

Panel = Callable[[pd.DataFrame, Axes], Axes]
NAMES = {
    "accuracy": "samples with the label asked for",
    "recall": "recall of held-out data",
    "coverage": "coverage of held-out data",
    "precision": "precision",
    "spread": "spread within a label (data: 1)",
    "distinct": "distinct samples",
    "energy distance": "energy distance to held-out data",
    "ess_share": "effective share of the particles",
    "log_path_spread": "nats",
    "log_z_apart": "nats",
    "left": "relative variance of Ẑ",
}

GAP = 0.7  # the grey between two samples, white being 1
AXES = {"scale": "scale γ", "beta": "inverse temperature β"}


def beside(ax: Axes) -> Axes:
    """Put the legend to the right of a panel, where it hides nothing."""
    ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def against_scale(quantity: str, title: str, *, legend: bool = False, chance: bool = False, by: str = "scale") -> Panel:
    """Return a panel of one quantity against γ, or β, a line a family, with its spread over the seeds.

    What tells whether a law is reached is drawn on a logarithmic axis, with the limit below which it is.
    """

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = over_seeds(pick(frame, quantity=quantity), by)
        style.lines(rows[rows["family"] != "judge"], ax, x=by)
        if chance:
            labels = pick(frame, quantity="chance")
            ax.axhline(float(labels["value"].iloc[0]), color="#888888", lw=1, ls=":")
        if quantity in LIMITS and (rows["value"] > 0).any():
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter("{x:g}")
            ax.axhline(LIMITS[quantity], color="#888888", lw=1, ls=":")
        style.label(ax, title=title, x=AXES[by], y=NAMES.get(quantity, quantity), legend=None)
        return beside(ax) if legend else ax

    return panel


def frontier(quantity: str, title: str, *, legend: bool = False) -> Panel:
    """Return a panel of a diversity against accuracy, a line a family over the scales from γ = 1 on."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = over_seeds(frame[frame["quantity"].isin(["accuracy", quantity]) & (frame["scale"] >= 1)])
        for i, (family, own) in enumerate(rows.groupby("family", sort=False)):
            wide = own.pivot_table(index="scale", columns="quantity", values="value").sort_index()
            if quantity not in wide:
                continue
            other = (style.CYCLE[i % len(style.CYCLE)], style.MARKERS[i % len(style.MARKERS)])
            colour, marker = style.FAMILIES.get(str(family), other)
            ax.plot(wide["accuracy"], wide[quantity], color=colour, marker=marker, markersize=4.5, lw=1.4, label=family)
        style.label(ax, title=title, x=NAMES["accuracy"], y=NAMES.get(quantity, quantity), legend=None)
        return beside(ax) if legend else ax

    return panel


def samples(family: str, by: str = "scale") -> Panel:
    """Return a panel of one sample a label (columns) at every scale, or β (rows)."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, quantity="pixel", family=family).dropna(subset=[by])
        scales, labels = sorted(rows[by].unique()), list(dict.fromkeys(rows["label"]))
        if not scales:
            return ax
        size = int(rows["x"].max()) + 1
        canvas = np.full((len(scales) * (size + 1) - 1, len(labels) * (size + 1) - 1), GAP)
        for i, scale in enumerate(scales):
            for j, label in enumerate(labels):
                own = rows[(rows[by] == scale) & (rows["label"] == label)]
                top, left = i * (size + 1), j * (size + 1)
                canvas[own["y"].astype(int) + top, own["x"].astype(int) + left] = -own["value"]
        ax.imshow(canvas, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        ax.set_xticks([j * (size + 1) + size / 2 - 0.5 for j in range(len(labels))], labels, parse_math=False)
        ax.set_yticks([i * (size + 1) + size / 2 - 0.5 for i in range(len(scales))], [f"{scale:g}" for scale in scales])
        ax.tick_params(length=0)
        for side in ax.spines.values():
            side.set_visible(False)
        ax.spines[["left", "bottom"]].set_color("none")
        return style.label(ax, title=family, x="", y=AXES[by], legend=None)

    return panel


def texts(family: str) -> Panel:
    """Return a panel of texts of the first labels at every scale, as many as there is room for."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, quantity="text", family=family).dropna(subset="scale")
        scales, labels = sorted(rows["scale"].unique()), list(dict.fromkeys(rows["label"]))[:4]
        ax.set_axis_off()
        column, line = 1 / (len(labels) + 0.4), 0.95 / max(1, len(scales))
        width, most = int(86 * column), max(1, 26 // max(1, len(scales)))  # characters and lines that fit a cell
        write = partial(ax.text, va="top", parse_math=False)
        for j, label in enumerate(labels):
            write((j + 0.6) * column, 1.0, filled([str(label)], width, 1), fontweight="bold", fontsize=7)
            for i, scale in enumerate(scales):
                own = rows[(rows["scale"] == scale) & (rows["label"] == label)]["text"].tolist()
                write((j + 0.6) * column, 0.93 - i * line, filled(own[:4], width, most), fontsize=6)
        for i, scale in enumerate(scales):
            write(0.0, 0.93 - i * line, f"γ = {scale:g}", fontsize=7, fontweight="bold")
        return style.label(ax, title=family, x="", y="", legend=None)

    return panel


def filled(texts: Sequence[str], width: int, most: int) -> str:
    """Return the first texts that fit in so many lines of a width; a longer first one ends with an ellipsis."""
    shown: list[str] = []
    for text in texts:
        lines = textwrap.wrap(text, width, subsequent_indent="   ", max_lines=most, placeholder=" …") or ["(empty)"]
        if len(shown) + len(lines) > most:
            break
        shown += lines
    return "\n".join(shown)


def losses(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the training loss of every kind of model against its share of the steps, seeds together."""
    rows = pick(frame, quantity="loss")
    for i, ((kind, variant), own) in enumerate(rows.groupby(["law", "family"], sort=False)):
        mean = own.groupby("step")["value"].mean()
        name = kind if (kind, variant) == ("classifier", "dropout") else f"{kind}, {variant}"
        ax.plot(mean.index / mean.index.max(), mean, color=style.CYCLE[i % len(style.CYCLE)], lw=1.2, label=name)
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    return beside(style.label(ax, title="Training", x="share of the steps", y="loss", legend=None))


def save_losses(frame: pd.DataFrame, path: Path) -> None:
    """Draw the loss of every step of one training, and its mean over stretches, and write the picture."""
    plot = Plot("loss", (_curve,), "")
    figure = style.draw(plot, frame)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _curve(frame: pd.DataFrame, ax: Axes) -> Axes:
    ax.plot(frame["step"], frame["loss"], color="#bbbbbb", lw=0.6)
    smooth = frame["loss"].rolling(max(1, len(frame) // 40), center=True, min_periods=1).mean()
    ax.plot(frame["step"], smooth, color=style.BLUE, lw=1.6)
    return style.label(ax, title="Training", x="step", y="loss", legend=None)


def held_out(title: str) -> Panel:
    """Return a panel of held-out losses of the causal model by variant of conditioning dropout, with and without the label."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = frame[frame["quantity"].isin(["held-out loss", "held-out loss, no label"]) & frame["law"].isin(["pixels", "lm"])]
        variants = list(dict.fromkeys(rows["family"]))
        for j, (quantity, marker) in enumerate((("held-out loss", "o"), ("held-out loss, no label", "s"))):
            for i, variant in enumerate(variants):
                own = rows[(rows["quantity"] == quantity) & (rows["family"] == variant)]
                if quantity != "held-out loss" and variant == "without dropout":
                    continue  # it has never seen the null label
                ax.errorbar(
                    [i + 0.1 * j] * len(own),
                    own["value"],
                    2 * own["std_error"],
                    fmt=marker,
                    color=style.CYCLE[j],
                    label=("with the label", "without")[j] if i == 0 else None,
                )
        ax.set_xticks(range(len(variants)), variants)
        return style.label(ax, title=title, x="", y="nats a sequence", legend="")

    return panel


def over_seeds(frame: pd.DataFrame, by: str = "scale") -> pd.DataFrame:
    """Return the mean over the seeds of every number, with its standard error."""
    grouped = frame.groupby(["family", "quantity", by], sort=False, dropna=True)["value"]
    return pd.DataFrame({"value": grouped.mean(), "std_error": grouped.sem().fillna(0.0)}).reset_index()
