r"""What a study finds: the empirical question and the source's claims, told from its frame.

At equal γ two families differ in accuracy and in diversity at once; so they are compared at equal accuracy too: a joint law's
diversity against that of the sequential one, read between its scales at the accuracy that the joint law has. Intervals hold
95 %, by Student's t over the seeds, those of one scale together. Seeds train and draw anew; the data are split once. What an
interval decides depends on the smallest difference of interest, see `analysis.metrics.confidence`: a wide one decides nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.figures import study as figures
from analysis.frames import Plot, Story, Verdict, pick
from analysis.metrics.confidence import Difference
from analysis.metrics.sample_quality import LIMITS, difference
from analysis.study.samplers import AWARE, CLEAN, CORRECTED, JOINT, ODE, SDE, SEQUENTIAL

MEASURES = ("accuracy", "coverage", "spread")
SMALLEST = 0.05  # of interest: of shares, and of the spread in units of the data's
SMALLEST_COST = 0.02  # of interest, of the loss
PAIRS = ((JOINT, SEQUENTIAL), (CORRECTED, SDE))


def at_scale(frame: pd.DataFrame, quantity: str, first: str, second: str, scale: float) -> tuple[float, float]:
    """Return the difference of two families at one scale, paired by seed, and half its interval."""
    wide = pick(frame, quantity=quantity, scale=scale).pivot_table(index="seed", columns="family", values="value")
    return difference(wide[first].tolist(), wide[second].tolist(), len(MEASURES))


def at_accuracy(
    frame: pd.DataFrame, quantity: str, first: str, second: str, scales: Sequence[float]
) -> tuple[float, float, int]:
    """Return the difference at equal accuracy, a mean over the first family's given scales, half its interval, and how many.

    Scales whose accuracy the second family never has do not count; NaN where there is none in some seed.
    """
    means, count = [], 0
    for _, rows in frame[frame["seed"].notna()].groupby("seed"):
        wide = rows[rows["quantity"].isin(["accuracy", quantity])].pivot_table(
            index=["family", "scale"], columns="quantity", values="value"
        )
        if not {first, second} <= set(wide.index.get_level_values(0)):
            return float("nan"), float("nan"), 0
        of = wide.loc[first]
        to = pd.DataFrame(wide.loc[second])
        to = to[to.index <= to["accuracy"].idxmax()].sort_values(by="accuracy")  # beyond its best scale accuracy falls again
        of = of[of.index.isin(scales) & (of["accuracy"] >= to["accuracy"].min()) & (of["accuracy"] <= to["accuracy"].max())]
        if of.empty:
            return float("nan"), float("nan"), 0
        means.append(float((of[quantity] - np.interp(of["accuracy"], to["accuracy"], to[quantity])).mean()))
        count += len(of)
    mean, half = difference(means, [0.0] * len(means))
    return mean, half, count


def reached(frame: pd.DataFrame, family: str, by: str = "scale") -> list[float]:
    """Return the scales at which populations of a joint family find its law; 0 and 1 have none.

    They do where halves of them agree on log Ẑ within half a nat, and the relative variance of a population's Ẑ, of which
    order is what remains of the proposal's law, is at most ½; means over labels and seeds.
    """
    apart, left = (pick(frame, family=family, quantity=name).groupby(by)["value"].mean() for name in ("log_z_apart", "left"))
    return [float(scale) for scale in apart.index[(apart <= LIMITS["log_z_apart"]) & (left <= LIMITS["left"])]]


def question(frame: pd.DataFrame) -> Verdict:
    """Return whether joint and sequential guidance differ in practice, at the largest scale where the joint law is reached."""
    told = []
    for first, second in PAIRS:
        if pick(frame, family=first).empty:
            continue
        scales = reached(frame, first)
        if not scales:
            told.append(f"{first}: populations disagree on log Z at every scale, so the joint law is not reached.")
            continue
        at = max(scales)
        accuracy, coverage, spread = (at_scale(frame, name, first, second, at) for name in MEASURES)
        mean, half, count = at_accuracy(frame, "coverage", first, second, scales)
        equal = f"; at equal accuracy coverage {_signed((mean, half))}" if count else ""
        told.append(
            f"{first} − {second} at γ = {at:g}, the largest scale whose populations agree on log Z: accuracy "
            f"{_signed(accuracy)}, coverage {_signed(coverage)}, spread within a label {_signed(spread)}{equal}; some "
            f"{_mean(frame, first, 'left', at):.0%} of the difference is not corrected."
        )
    scales = reached(frame, JOINT)
    if not scales:
        return Verdict("the joint law", "not reached", " ".join(told) + " Use more samples, or scales nearer 1.")
    at = max(scales)
    accuracy, coverage, spread = (at_scale(frame, name, JOINT, SEQUENTIAL, at) for name in MEASURES)
    beyond = [scale for scale in sorted(frame["scale"].dropna().unique()) if scale > at]
    rest = ""
    if beyond:
        apart = _mean(frame, JOINT, "log_z_apart", beyond[-1])
        rest = (
            f" Beyond it the joint law is not reached: at γ = {beyond[-1]:g} halves of the populations are {apart:.1f} nats "
            f"apart, and what is shown is where the weights begin to lead."
        )
    return Verdict(
        f"{JOINT} − {SEQUENTIAL} at γ = {at:g}, coverage of held-out data",
        _signed(coverage),
        f"{answer(accuracy, coverage, spread)} {' '.join(told)}{rest}",
    )


def answer(*values: tuple[float, float]) -> str:
    """Return what the differences of accuracy, coverage and spread decide at equal γ, one sentence for each outcome."""
    found = {name: Difference(mean, half, SMALLEST) for name, (mean, half) in zip(MEASURES, values, strict=True)}
    words = dict(zip(MEASURES, ("accurate", "covering", "spread out"), strict=True))
    clear = [_clear(words[name], each) for name, each in found.items() if each.clear]
    alike = [name for name, each in found.items() if each.small and not each.clear]
    wide = {name: each for name, each in found.items() if not each.small and not each.clear}
    told = []
    if clear:
        told.append(f"At equal γ the difference is seen in practice: the joint law is {' and '.join(clear)}.")
    if wide:
        named = ", ".join(f"{name} ({each.mean:+.3f} ± {each.half:.3f})" for name, each in wide.items())
        told.append(f"Not decided at equal γ: {named}. The interval holds 0, and more than the {SMALLEST:g} that would matter.")
    if alike:
        told.append(f"No difference of {SMALLEST:g} or more at equal γ: {', '.join(alike)}.")
    return " ".join(told)


def _clear(word: str, found: Difference) -> str:
    return f"{'more' if found.mean > 0 else 'less'} {word}" + (f" (by less than {SMALLEST:g})" if found.small else "")


def trade(frame: pd.DataFrame) -> Verdict:
    """Return how accuracy rises and diversity falls with γ."""
    accurate = frame[(frame["quantity"] == "accuracy") & frame["scale"].notna()]
    scales = sorted(accurate["scale"].dropna().unique())
    families = [name for name in accurate["family"].unique() if name != "judge"]
    told = []
    for family in families:
        rise = ", ".join(f"{_mean(frame, family, 'accuracy', scale):.2f}" for scale in scales)
        fall = ", ".join(f"{_mean(frame, family, 'spread', scale):.2f}" for scale in scales)
        told.append(f"{family}: accuracy {rise}; spread within a label {fall}.")
    best = max(_mean(frame, SEQUENTIAL, "accuracy", scale) for scale in scales)
    judge = pick(frame, family="judge", quantity="accuracy")["value"].mean()
    return Verdict(
        f"accuracy of {SEQUENTIAL} by an independent judge, γ = 0 to its best γ",
        f"{_mean(frame, SEQUENTIAL, 'accuracy', scales[0]):.2f} → {best:.2f}",
        f"At γ = {', '.join(f'{scale:g}' for scale in scales)}. {' '.join(told)} The judge itself is right on "
        f"{judge:.1%} of held-out data.",
    )


def claims(frame: pd.DataFrame) -> Verdict:
    """Return what dropout costs the conditional model, and what the other rows of the source come to."""

    def by_variant(quantity: str) -> dict[str, list[float]]:
        rows = pick(frame, quantity=quantity, law="pixels").sort_values(by="seed")
        return {str(name): group["value"].tolist() for name, group in rows.groupby("family")}

    loss = by_variant("held-out loss")
    pairs = min(map(len, loss.values()))
    cost = difference(loss["dropout"][:pairs], loss["without dropout"][:pairs])
    late = difference(loss["dropout at the end"][:pairs], loss["dropout"][:pairs])
    scale_of_loss = float(np.mean(loss["dropout"]))
    none = by_variant("held-out loss, no label")
    ends = difference(none["dropout at the end"][:pairs], none["dropout"][:pairs])
    found = Difference(*cost, SMALLEST_COST * scale_of_loss)
    if found.small:
        told = f"costs the conditional model seemingly nothing: less than {SMALLEST_COST:.0%} of its loss"
    elif found.clear:
        told = "costs the conditional model something" if found.mean > 0 else "makes the conditional model better"
    else:
        told = (
            f"may cost the conditional model something or not: not decided, for the interval holds 0, and more "
            f"than {SMALLEST_COST:.0%} of its loss ({found.smallest:.3f}), which would matter"
        )
    return Verdict(
        "what conditioning dropout costs the conditional model, nats a held-out sequence",
        f"{_signed(cost)} of {scale_of_loss:.1f}",
        f"Conditioning dropout {told}. Dropout in the last fifth of the training alone: conditional {_signed(late)}, "
        f"unconditional {_signed(ends)} nats against dropout throughout.{_gradients(frame)}",
    )


def _gradients(frame: pd.DataFrame) -> str:
    scales = [scale for scale in sorted(frame["scale"].dropna().unique()) if scale >= 1]
    aware, clean, free = (
        ", ".join(f"{_mean(frame, name, 'energy distance', scale):.2f}" for scale in scales) for name in (AWARE, CLEAN, ODE)
    )
    return (
        f" Classifier gradients at γ = {', '.join(f'{scale:g}' for scale in scales)}, by energy distance to held-out data: "
        f"{aware} with a classifier that has seen noise, {clean} with one that has not; {free} without any."
    )


def _mean(frame: pd.DataFrame, family: str, quantity: str, scale: float) -> float:
    return float(pick(frame, family=family, quantity=quantity, scale=scale)["value"].mean())


def _signed(value: Sequence[float]) -> str:
    return f"{value[0]:+.3f} ± {value[1]:.3f}"


def stories(*, images: bool) -> Iterator[Story]:
    """Yield the chapters of a study's report."""
    shown = (SEQUENTIAL, JOINT, ODE, CORRECTED) if images else (SEQUENTIAL, JOINT)
    look: Any = figures.samples if images else figures.texts
    yield Story(
        name="question",
        title="Is the difference meaningful in practice?",
        claim="“I don't think this has been extensively tested at this point”: whether joint and sequential guidance differ in "
        "practice is open.",
        verdict=question,
        plots=(
            Plot(
                "study_samples",
                tuple(look(family) for family in shown[:2]),
                "The same labels at every scale, the first samples of the first seed, none chosen.",
            ),
            *(
                [
                    Plot(
                        "study_samples_diffusion",
                        tuple(look(family) for family in shown[2:]),
                        "The same for diffusion: guided scores as they are, and with the weights that make them joint.",
                    )
                ]
                if images
                else []
            ),
            Plot(
                "study_frontier",
                (
                    figures.frontier("coverage", "Coverage"),
                    figures.frontier("recall", "Recall"),
                    figures.frontier("spread", "Spread", legend=True),
                ),
                "Fidelity and diversity from γ = 1 on, means over the seeds; a curve further up and to the right is better.",
            ),
            Plot(
                "study_weights",
                (
                    figures.against_scale("log_path_spread", "Spread of Σ log Z", legend=True),
                    figures.against_scale("log_z_apart", "Halves apart in log Z"),
                    figures.against_scale("left", "Not corrected", legend=True),
                ),
                "The normalizers that sequential guidance leaves out, in both learned wings. Left: standard deviation of "
                "Σ log Z over samples; 0 would make both laws one. Middle: by how much halves of the populations disagree "
                "about log Z; above half a nat the joint law is not reached. Right: relative variance of Ẑ of a population, "
                "which is about what remains of the sequential law in its samples; above ½ the law is not reached either.",
            ),
        ),
    )
    yield Story(
        name="trade",
        title="γ trades diversity for adherence",
        claim="“guidance represents a trade-off: it dramatically improves adherence to the conditioning signal, as well as "
        "overall sample quality, but at great cost to diversity.”",
        verdict=trade,
        plots=(
            Plot(
                "study_fidelity",
                (
                    figures.against_scale("accuracy", "Accuracy", chance=True),
                    figures.against_scale("spread", "Spread within a label"),
                    figures.against_scale("coverage", "Coverage"),
                    figures.against_scale("energy distance", "Distance to the data", legend=True),
                ),
                "Against the scale, by family: an independent classifier's verdict, diversity, and distance to held-out data. "
                "Bands are two standard errors over the seeds, the dotted line is chance.",
            ),
        ),
    )
    if not images:
        return
    yield Story(
        name="claims",
        title="Conditioning dropout and classifier gradients",
        claim="Dropping the conditioning at random costs the conditional model seemingly nothing; it may be done in finetuning "
        "only; the gradient of a classifier with respect to its input can be arbitrary.",
        verdict=claims,
        plots=(
            Plot(
                "study_training",
                (figures.losses, figures.held_out),
                "Left: training losses. Right: held-out loss of the autoregressive model by how the label was dropped, a point "
                "a seed with two standard errors.",
            ),
        ),
    )
