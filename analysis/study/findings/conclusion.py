"""Conclude from a study, in a few sentences for newcomers.

Every number comes from the study, and every sentence has a form for the opposite result.
"""

from collections.abc import Sequence

import pandas as pd

from analysis.frames import Chapter
from analysis.study.findings import coherent, guidance
from analysis.study.samplers import JOINT, SEQUENTIAL
from analysis.study.statistics import SMALLEST, by_seed, compare


def conclude(done: Sequence[Chapter]) -> list[str]:
    """Return what a study found: the gap of coherent pairs, its worth, the plain pair, and what γ trades; nothing if quick."""
    frame = next((each.frame for each in done if each.experiment.name == "coherent" and not each.quick), None)
    if frame is None:
        return []
    return [each for each in (gap(frame), worth(frame), plain(frame), trade(frame)) if each]


def gap(frame: pd.DataFrame) -> str:
    """Return whether both laws of the coherent pairs differ; "" without a scale above 1."""
    parts: dict[str, list[str]] = {}
    for wing in coherent.wings(frame):
        kl = {scale: each for scale, each in coherent.divergence(frame, wing).items() if scale > 1}
        if kl:
            scale = max((each for each in kl if each <= 3), default=max(kl))
            parts.setdefault(coherent.differ(kl), []).append(f"{kl[scale]} nats per sample at γ = {scale:g} ({wing.name})")
    outcomes = "; ".join(f"{outcome}: by {' and '.join(each)}" for outcome, each in parts.items())
    start = (
        "Where the unconditional law is the mixture of the conditional ones, the joint law is known. There joint and sequential"
    )
    return f"{start} guidance {outcomes}." if parts else ""


def worth(frame: pd.DataFrame) -> str:
    """Return what the joint law of the coherent pairs gains at equal accuracy."""
    return " ".join(_worth(frame, wing) for wing in coherent.wings(frame))


def _worth(frame: pd.DataFrame, wing: coherent.Wing) -> str:
    by = coherent.by_decision(frame, wing.joint, wing.coherent)
    if not by:
        return f"The joint and the sequential {wing.name} law share no accuracy, so neither can be called better."
    found, rest = (
        {kind: ", ".join(by[kind]) for kind in kinds if kind in by}
        for kinds in (("better", "worse"), ("no difference", "not decided"))
    )
    gains = " and ".join(f"{kind} in {names}" for kind, names in found.items()) or "neither better nor worse in any measure"
    others = f" ({'; '.join(f'{kind}: {names}' for kind, names in rest.items())})" if rest else ""
    return f"Beside sequential guidance of equal accuracy, the joint {wing.name} law is {gains}{others}."


def plain(frame: pd.DataFrame) -> str:
    """Return whether the difference is seen in the plain pair, which models learn by dropping labels."""
    found = compare(frame, JOINT, SEQUENTIAL) if JOINT in set(frame["family"]) else None
    if found is None:
        return "Of the plain pair, which is learned by dropping labels, the joint sampler converged at no scale."
    return (
        f"The plain pair, which is learned by dropping labels, can be compared up to γ = {found.scale:g}, where its joint "
        f"sampler converged. {guidance.answer(found.at_scale)}"
    )


def trade(frame: pd.DataFrame) -> str:
    """Return what a larger γ gains in accuracy and loses in spread, by the sequential law."""
    tables = (by_seed(frame, SEQUENTIAL, name) for name in ("accuracy", "spread"))
    accuracy, spread = ({float(str(at)): float(table[at].mean()) for at in table} for table in tables)
    first, best = min(accuracy), max(accuracy, key=lambda scale: accuracy[scale])
    if best == first:
        return f"Sequential guidance gains no accuracy above γ = {first:g}, where it is {accuracy[first]:.2f}."
    change = spread[best] - spread[first]
    how = "loses" if change < -SMALLEST else "gains" if change > SMALLEST else "keeps its"
    return (
        f"From γ = {first:g} to {best:g} sequential guidance gains accuracy, from {accuracy[first]:.2f} to "
        f"{accuracy[best]:.2f}, and {how} diversity: the spread within a label goes from {spread[first]:.2f} to "
        f"{spread[best]:.2f} of the data's."
    )
