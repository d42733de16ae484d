r"""Exact guided laws of whole labelled texts: the gap between joint and sequential guidance against the order and the scale.

n-gram models with back-off of the texts of each label give p(x|y). Two unconditional laws p(x) are compared:

    pooled     an n-gram model of all texts. Joint and sequential laws are exact, but the pair is not coherent: p(x|y)/p(x) may
               grow with every token, and the joint law with it, until its log Z has no limit in the length
    mixture    Σ_k π_k p(x|k), whose pair is coherent: p(x|y)/p(x) ≤ 1/π_y. Its laws are drawn exactly, by acceptance

Without a file the texts are stories of six pets in an artificial language, word by word; with a file they are its texts,
character by character.
"""

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from analysis.experiments.base import Experiment, Settings, stream
from analysis.figures import whole_texts as figures
from analysis.frames import Cells, Grid, Plot, Row, Track, Verdict, per_quantity, pick, tidy
from analysis.metrics.confidence import Estimate, mean, of_row
from analysis.metrics.mixture_texts import MixtureLaws
from analysis.metrics.text_laws import text_laws
from analysis.metrics.trends import clearly
from analysis.toys import NgramModels, read_ngrams
from analysis.toys.ngrams.models import codes_of

POOLED, MIXTURE = "pooled", "mixture"
SCALES, AT = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0), 3.0
STORIES, WRITTEN = "stories of pets", 4000
LABELS = 2  # that are measured


def run(settings: Settings, track: Track) -> pd.DataFrame:
    """Return the figures of both pairs per order and scale, means over up to two labels.

    Those of the mixture are drawn at γ = 3 for every order, and at the other scales for the largest.
    """
    orders = (2, 4) if settings.quick else (2, 3, 4, 5)
    scales = (1.0, AT, 10.0) if settings.quick else SCALES
    rows: list[Row] = []
    for order in track(orders):
        models = models_of(settings, order)
        for label in models.labels[:LABELS]:
            case = {"law": law_of(settings), "order": order, "length": models.length, "label": label}
            rows += [row for scale in scales for row in _pooled(models, case | {"scale": scale})]
            rows += _mixture(models, case, scales if order == orders[-1] else (AT,), settings)
    return tidy(_over_labels(tidy(rows)))


def law_of(settings: Settings) -> str:
    """Return the name of the texts."""
    return STORIES if settings.text is None else f"texts of {settings.text.name}"


def models_of(settings: Settings, order: int) -> NgramModels:
    """Return the n-gram models of the user's texts, or of the stories."""
    if settings.text is not None:
        return read_ngrams(settings.text, order=order)
    from analysis.learning import toy_stories

    rows = [story.split() for story in toy_stories.write(WRITTEN, seed=settings.seed)]
    named = [(row, toy_stories.PETS.index(row[3])) for row in rows if row[3] in toy_stories.PETS]
    codes, alphabet = codes_of([row for row, _ in named], 1, "□")
    return NgramModels(codes, [pet for _, pet in named], order, alphabet=alphabet, names=toy_stories.PETS, join=" ".join)


def _pooled(models: NgramModels, case: Row) -> Iterator[Row]:
    laws = text_laws(models, case["label"], case["scale"])
    yield from per_quantity(
        case | {"family": POOLED},
        {
            "kl_sequential_joint": laws.sequential.kl(laws.joint).clamp(min=0.0),
            "kl_joint_conditional": laws.joint.kl(laws.conditional).clamp(min=0.0),
            "mean_length_joint": laws.joint.mean_length(),
            "mean_length_sequential": laws.sequential.mean_length(),
            "mean_length_conditional": laws.conditional.mean_length(),
            "log_growth": laws.joint.log_growth,
        },
    )


def _mixture(models: NgramModels, case: Row, scales: Sequence[float], settings: Settings) -> Iterator[Row]:
    """Yield the estimates; nothing where acceptance would keep too few, or hardly any text ends in time."""
    generator, n = stream(settings.seed, case["order"], models.labels.index(case["label"])), 500 if settings.quick else 2000
    try:
        drawn = MixtureLaws(models, case["label"]).sample_scales(scales, n, generator)
    except ValueError:  # the label and the scales are known to be right
        return
    for each in drawn:
        found = {"kl_sequential_joint": each.kl_sequential_joint(), "kl_joint_conditional": each.kl_joint_conditional()}
        found |= {f"mean_length_{law}": size for law, size in each.mean_lengths().items() if law != "conditional"}
        for quantity, estimate in found.items():
            yield case | {"family": MIXTURE, "scale": each.scale, "quantity": quantity, **estimate._asdict()}


def _over_labels(rows: pd.DataFrame) -> Iterator[Row]:
    """Yield the means over the labels; nothing where a label has no estimate."""
    labels = rows["label"].nunique()
    for keys, part in rows.groupby(["law", "family", "quantity", "order", "scale", "length"], sort=False):
        if len(part) == labels:
            found = mean([of_row(row) for _, row in part.iterrows()])
            case = dict(zip(("law", "family", "quantity", "order", "scale", "length"), keys, strict=True))
            yield case | {"labels": labels, **found._asdict()}


def at(frame: pd.DataFrame, family: str, quantity: str, scale: float = AT) -> Estimate | None:
    """Return a figure at the largest order, None where there is none.

    Args:
        frame: of `run`.
        family: the pair.
        quantity: the figure.
        scale: γ.
    """
    rows = pick(frame, family=family, quantity=quantity, scale=scale, order=frame["order"].max())
    return None if rows.empty else of_row(rows.iloc[0])


def verdict(frame: pd.DataFrame) -> Verdict:
    """Return the gap of both pairs at γ = 3 and the largest order."""
    order, mixture = frame["order"].max(), at(frame, MIXTURE, "kl_sequential_joint")
    pooled = of_row(pick(frame, family=POOLED, quantity="kl_sequential_joint", scale=AT, order=order).iloc[0])
    return Verdict(
        f"mean KL(sequential ‖ joint) over labels at γ = {AT:g}, order {order:g}",
        f"{pooled.value:.2f} nats (pooled)" + ("" if mixture is None else f", {mixture} nats (mixture)"),
        "\n".join((_limit(frame), "Acceptance keeps too few draws of the mixture." if mixture is None else _left(frame))),
    )


def _limit(frame: pd.DataFrame) -> str:
    """Return from which scale on Z of the pooled pair has no limit, and how long its texts are at the largest."""
    rows = pick(frame, family=POOLED, quantity="log_growth", order=frame["order"].max())
    grows = rows[rows["value"] > 0]["scale"]
    if grows.empty:
        return "Z of the pooled pair has a limit in the length at every scale that was tried."
    most = rows["scale"].max()
    joint, conditional = (
        pick(frame, family=POOLED, quantity=f"mean_length_{law}", scale=most, order=frame["order"].max())["value"].iloc[0]
        for law in ("joint", "conditional")
    )
    return (
        f"From γ = {grows.min():g} on, Z of the pooled pair grows with the length without a limit (mean over labels). Its "
        f"joint law is then about the cap: at γ = {most:g} its texts have {joint:.0f} of at most {frame['length'].max():g} "
        f"tokens, conditional ones {conditional:.0f}. That is the pair's incoherence, not guidance."
    )


def _left(frame: pd.DataFrame) -> str:
    """Return what is left of the gap with the mixture, at γ = 3 and at the largest scale."""
    rows = pick(frame, family=MIXTURE, quantity="kl_sequential_joint", order=frame["order"].max())
    found = {float(row["scale"]): of_row(row) for _, row in rows.iterrows() if row["scale"] in (AT, rows["scale"].max())}
    parts = [f"{each} nats at γ = {scale:g}" for scale, each in sorted(found.items())]
    differ = [f"{scale:g}" for scale, each in sorted(found.items()) if clearly(each, Estimate(0.0, 0.0, math.inf)) > 0]
    words = f"The two laws differ at γ = {' and '.join(differ)}" if differ else "Whether the two laws differ is not decided"
    return f"With the mixture as p(x), the gap that is left is one of guidance alone: {' and '.join(parts)}. {words}."


def by_order(frame: pd.DataFrame) -> Cells:
    """Return the table of both pairs per order at γ = 3."""
    columns = (
        "order",
        "KL(seq. ‖ joint), pooled",
        "KL(seq. ‖ joint), mixture",
        "KL(joint ‖ cond.), pooled",
        "KL(joint ‖ cond.), mixture",
        "tokens: conditional",
        "joint, pooled",
        "joint, mixture",
        "growth of log Z per token, pooled",
    )
    wanted = (
        (POOLED, "kl_sequential_joint"),
        (MIXTURE, "kl_sequential_joint"),
        (POOLED, "kl_joint_conditional"),
        (MIXTURE, "kl_joint_conditional"),
        (POOLED, "mean_length_conditional"),
        (POOLED, "mean_length_joint"),
        (MIXTURE, "mean_length_joint"),
        (POOLED, "log_growth"),
    )
    rows = []
    for order, part in pick(frame, scale=AT).groupby("order"):
        cells = [at(part, *each) for each in wanted]
        rows.append([f"{order:g}", *("–" if each is None else f"{each:.2f}" for each in cells)])
    return columns, rows


EXPERIMENT = Experiment(
    name="whole_texts",
    title="Whole texts, exactly",
    claim="guiding every token is not guiding the whole text, and how much that matters is open. Here every law is known.",
    run=run,
    verdict=verdict,
    source=lambda frame: (
        f"n-gram models of {frame['law'].iloc[0]}, up to {frame['length'].max():g} tokens, {frame['labels'].max():g} labels"
    ),
    tables=(Grid(by_order, f"Means over the labels at γ = {AT:g}, in nats and tokens; ± is a 95 % interval.", wide=True),),
    plots=(
        Plot(
            "whole_texts",
            (figures.gap, figures.orders, figures.lengths),
            "Two unconditional laws: an n-gram model of all texts (pooled, exact), and the mixture of the labels' models (by "
            "exact draws, with 95 % intervals). Left: the gap in nats against γ. Middle: against the order n, a token depends "
            "on n − 1 tokens before it. Right: the mean length of the texts.",
        ),
    ),
)
