r"""What a study finds: the empirical question and the source's claims, told from its frame.

At equal γ two families differ in accuracy and in diversity at once; so they are compared at equal accuracy too: a joint law's
diversity against that of the sequential one, read between its scales at the accuracy that the joint law has. Intervals hold
95 %, by Student's t over the seeds.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.experiment import Plot, Story, Verdict, pick
from analysis.families import AWARE, CLEAN, CORRECTED, JOINT, ODE, SDE, SEQUENTIAL
from analysis.figures import study as figures
from analysis.quality import difference

PAIRS = ((JOINT, SEQUENTIAL), (CORRECTED, SDE))


def at_scale(frame: pd.DataFrame, quantity: str, first: str, second: str, scale: float) -> tuple[float, float]:
    """Return the difference of two families at one scale, paired by seed, and half its interval."""
    wide = pick(frame, quantity=quantity, scale=scale).pivot_table(index="seed", columns="family", values="value")
    return difference(wide[first].tolist(), wide[second].tolist())


def at_accuracy(frame: pd.DataFrame, quantity: str, first: str, second: str) -> tuple[float, float, int]:
    """Return the difference at equal accuracy, a mean over the first family's scales above 1, half its interval, and how many.

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
        to = pd.DataFrame(wide.loc[second]).sort_values(by="accuracy")
        of = of[(of.index > 1) & (of["accuracy"] >= to["accuracy"].min()) & (of["accuracy"] <= to["accuracy"].max())]
        if of.empty:
            return float("nan"), float("nan"), 0
        means.append(float((of[quantity] - np.interp(of["accuracy"], to["accuracy"], to[quantity])).mean()))
        count += len(of)
    mean, half = difference(means, [0.0] * len(means))
    return mean, half, count


def question(frame: pd.DataFrame) -> Verdict:
    """Return whether joint and sequential guidance differ in practice."""
    scales = [scale for scale in sorted(frame["scale"].dropna().unique()) if scale > 1]
    middle = min(scales, key=lambda scale: abs(scale - 2))
    told = []
    for first, second in PAIRS:
        if pick(frame, family=first).empty:
            continue
        accuracy, coverage = (at_scale(frame, name, first, second, middle) for name in ("accuracy", "coverage"))
        mean, half, count = at_accuracy(frame, "coverage", first, second)
        equal = _signed((mean, half)) if count else "cannot be compared"
        share = _mean(frame, first, "ess_share", middle)
        told.append(
            f"{first} against {second}, at γ = {middle:g}: accuracy {_signed(accuracy)}, coverage {_signed(coverage)}; at "
            f"equal accuracy coverage {equal}. {share:.0%} of its particles count at the worst step."
        )
    accuracy, coverage = (at_scale(frame, name, JOINT, SEQUENTIAL, middle) for name in ("accuracy", "coverage"))
    return Verdict(
        f"{JOINT} − {SEQUENTIAL} at γ = {middle:g}, coverage of held-out data",
        _signed(coverage),
        f"{_answer(coverage, accuracy)} {' '.join(told)} Where few particles count, the joint law is not reached, and its "
        "numbers say what weights cost rather than what the law is.",
    )


def _answer(coverage: tuple[float, float], accuracy: tuple[float, float]) -> str:
    clear = [abs(mean) > half for mean, half in (coverage, accuracy)]
    if not any(clear):
        return "No difference is seen in practice: both intervals hold 0."
    parts = [
        f"{'more' if value[0] > 0 else 'less'} {name}"
        for value, name, sure in ((coverage, "diverse", clear[0]), (accuracy, "accurate", clear[1]))
        if sure
    ]
    return f"The difference is meaningful in practice: at equal γ the joint law is {' and '.join(parts)}."


def trade(frame: pd.DataFrame) -> Verdict:
    """Return how accuracy rises and diversity falls with γ."""
    accurate = frame[frame["quantity"] == "accuracy"]
    scales = sorted(accurate["scale"].dropna().unique())
    families = [name for name in accurate["family"].unique() if name != "judge"]
    told = []
    for family in families:
        rise = ", ".join(f"{_mean(frame, family, 'accuracy', scale):.2f}" for scale in scales)
        fall = ", ".join(f"{_mean(frame, family, 'spread', scale):.2f}" for scale in scales)
        told.append(f"{family}: accuracy {rise}; spread within a label {fall}.")
    best = max(_mean(frame, SEQUENTIAL, "accuracy", scale) for scale in scales)
    judge = pick(frame, family="judge")["value"].mean()
    return Verdict(
        f"accuracy of {SEQUENTIAL} by an independent judge, γ = 0 to its best γ",
        f"{_mean(frame, SEQUENTIAL, 'accuracy', scales[0]):.2f} → {best:.2f}",
        f"At γ = {', '.join(f'{scale:g}' for scale in scales)}. {' '.join(told)} The judge itself is right on "
        f"{judge:.1%} of held-out data.",
    )


def claims(frame: pd.DataFrame) -> Verdict:
    """Return what dropout costs the conditional model, and what the other rows of the source come to."""
    kind = "pixels" if "pixels" in set(frame["law"]) else "lm"
    rows = pick(frame, quantity="held-out loss", law=kind)
    loss = {name: rows[rows["family"] == name].sort_values(by="seed")["value"].tolist() for name in rows["family"].unique()}
    pairs = min(map(len, loss.values()))
    cost = difference(loss["dropout"][:pairs], loss["without dropout"][:pairs])
    late = difference(loss["dropout at the end"][:pairs], loss["dropout"][:pairs])
    scale_of_loss = float(np.mean(loss["dropout"]))
    none = pick(frame, quantity="held-out loss, no label", law=kind)
    ends = none[none["family"] == "dropout at the end"]["value"].mean() - none[none["family"] == "dropout"]["value"].mean()
    cheap = abs(cost[0]) <= max(cost[1], 0.02 * scale_of_loss)
    return Verdict(
        "what conditioning dropout costs the conditional model, nats a held-out sequence",
        f"{_signed(cost)} of {scale_of_loss:.1f}",
        f"Conditioning dropout costs the conditional model {'seemingly nothing' if cheap else 'something'}. Dropout in the "
        f"last fifth of the training alone: conditional {_signed(late)}, unconditional {ends:+.2f} nats against dropout "
        f"throughout."
        f"{_gradients(frame)}",
    )


def _gradients(frame: pd.DataFrame) -> str:
    if pick(frame, family=CLEAN).empty:
        return ""
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
                    figures.frontier("coverage", "Coverage", legend=""),
                    figures.frontier("recall", "Recall"),
                    figures.frontier("spread", "Spread"),
                ),
                "Fidelity and diversity from γ = 1 on, means over the seeds; a curve further up and to the right is better.",
            ),
            Plot(
                "study_weights",
                (
                    figures.against_scale("log_path_spread", "Spread of Σ log Z", legend=""),
                    figures.against_scale("ess_share", "Particles that count"),
                ),
                "The normalizers that sequential guidance leaves out, in both learned wings. Left: standard deviation of "
                "Σ log Z over samples; 0 would make both laws one. Right: share of the particles that count at the worst step; "
                "where it is small, the joint law is not reached.",
            ),
        ),
    )
    yield Story(
        name="trade",
        title="γ trades diversity for adherence",
        claim="“this is a trade-off between diversity and … adherence to the conditioning signal”, read off class-conditional "
        "models.",
        verdict=trade,
        plots=(
            Plot(
                "study_fidelity",
                (
                    figures.against_scale("accuracy", "Accuracy", legend="", chance=True),
                    figures.against_scale("spread", "Spread within a label"),
                    figures.against_scale("coverage", "Coverage"),
                    figures.against_scale("energy distance", "Distance to the data"),
                ),
                "Against the scale, by family: an independent classifier's verdict, diversity, and distance to held-out data. "
                "Bands are two standard errors over the seeds, the dotted line is chance.",
            ),
        ),
    )
    yield Story(
        name="claims",
        title="Conditioning dropout and classifier gradients",
        claim="Dropping the conditioning at random “seemingly” costs nothing; it may be done in finetuning only; the gradient "
        "of a classifier with respect to its input can be arbitrary.",
        verdict=claims,
        plots=(
            Plot(
                "study_training",
                (figures.losses, figures.held_out("Held-out loss")),
                "Left: training losses. Right: held-out loss of the autoregressive model by how the label was dropped, a point "
                "a seed with two standard errors.",
            ),
        ),
    )
