r"""Answer, at every scale, whether the joint law of a coherent pair differs from the sequential one, and what that is worth.

    KL(sequential ‖ joint) = log Z − E_sequential[Σ log Z_t]      nats per sample, with log Z from acceptance
    KL(joint ‖ p(x|y)) ≤ −log A,    TV(joint, p(x|y)) ≤ 1 − A     with A the share of accepted proposals

For diffusion the sequential law's weight is Σ (log target − log proposal) of its path, in the place of Σ log Z_t. Samples are
compared at equal accuracy. What could come out was written down before the first run, see `OUTCOMES`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from analysis.frames import Cells, Verdict, pick
from analysis.metrics.confidence import DECISIONS, Estimate, mean_of
from analysis.study.coherent import ACCEPTED, COHERENT, DDPM, PATHS, SCORES
from analysis.study.controls import CLAMPED, CLAMPED_PATHS, OTHER, OTHER_SCORE, UNSMOOTHED, WEAKER, WEAKER_SCORE
from analysis.study.equal_accuracy import LOWER_IS_BETTER, MEASURES, Level, decision, levels
from analysis.study.samplers import SEQUENTIAL
from analysis.study.statistics import by_seed, listed, mean_at
from analysis.typeset import signed

OUTCOMES = (
    "Written down before the first run. If the joint law is worth its cost, it has more diversity or a higher likelihood than "
    "sequential guidance of the same accuracy. If coherence is what helps, coherent guidance beats both the clamped and the "
    "plain pair at equal accuracy. If the bound alone helps, the clamped pair does as well. If neither matters below strong "
    "guidance, plain guidance at a smaller γ does as well, and a bounded pair only reaches higher accuracy without leaving the "
    "data. A weaker model in place of the unconditional one may beat all of them."
)


class Wing(NamedTuple):
    """The samplers of one wing: plain, coherent, joint, and the controls."""

    name: str
    plain: str
    coherent: str
    joint: str
    controls: tuple[str, ...]


WINGS = (
    Wing("autoregressive", SEQUENTIAL, COHERENT, ACCEPTED, (CLAMPED, WEAKER, OTHER, UNSMOOTHED)),
    Wing("diffusion", DDPM, SCORES, PATHS, (CLAMPED_PATHS, WEAKER_SCORE, OTHER_SCORE)),
)


def wings(frame: pd.DataFrame) -> list[Wing]:
    """Return the wings of a study."""
    return [wing for wing in WINGS if wing.joint in set(frame["family"])]


def divergence(frame: pd.DataFrame, wing: Wing) -> dict[float, Estimate]:
    """Return KL(sequential ‖ joint) of the coherent pair in nats per sample, γ ↦ estimate over the seeds.

    A scale at which acceptance is impractical for a seed is left out.
    """
    found = by_seed(frame, wing.joint, "log_z") - by_seed(frame, wing.coherent, "log_path")
    return {float(scale): mean_of(found[scale].tolist()) for scale in found.columns if found[scale].notna().all()}


def answer(frame: pd.DataFrame) -> Verdict:
    """Return whether the joint and the sequential law of a coherent pair differ, by how much, and whether it is worth it."""
    found = wings(frame)
    sentences = [text for wing in found for text in (_incoherence(frame, wing), _differs(frame, wing), _worth(frame, wing))]
    first = found[0]
    kl = {scale: each for scale, each in divergence(frame, first).items() if scale > 1}
    scale = max((each for each in kl if each <= 3), default=max(kl, default=1.0))
    number = f"{kl[scale]} nats" if kl else "no scale above 1"
    return Verdict(
        f"KL(sequential ‖ joint) of the coherent {first.name} pair at γ = {scale:g}", number, "\n".join(filter(None, sentences))
    )


def at_scales(frame: pd.DataFrame) -> Cells:
    """Return the table of every scale: the joint law's distance from both neighbours, and the accuracy of three laws."""
    rows = []
    for wing in wings(frame):
        for scale, kl in divergence(frame, wing).items():
            acceptance, bound = (mean_at(frame, wing.joint, name, scale) for name in ("acceptance", "kl bound"))
            law = f"{bound:.2f}" if scale >= 1 else "–"
            rows.append([wing.name, f"{scale:g}", f"{acceptance:.2f}", law, f"{kl:.2f}"])
            for name, form in (("accuracy", ".2f"), ("energy distance", ".3f")):
                three = (mean_at(frame, family, name, scale) for family in (wing.joint, wing.coherent, wing.plain))
                rows[-1].append(" / ".join(f"{each:{form}}" for each in three))
    return ("wing", "γ", "A", "−log A", "KL(seq.‖joint)", "accuracy", "distance"), rows


def decisions(frame: pd.DataFrame) -> Cells:
    """Return the table of decisions: every sampler against plain guidance of the same accuracy."""
    rows = []
    for wing in wings(frame):
        for pair in _pairs(wing, frame):
            found = levels(frame, *pair, tuple(MEASURES))
            at = [each.accuracy for each in next(iter(found.values()), [])]
            span = f"{at[0]:.2f} … {at[-1]:.2f}" if at else "none shared"
            rows.append([" − ".join(pair), span, _as_text(_by_decision(found)) or "–"])
    return ("at equal accuracy", "of", "decision"), rows


def differences(frame: pd.DataFrame) -> Cells:
    """Return the table of the differences from plain guidance of the same accuracy, with their intervals."""
    names = [name for name in MEASURES if (frame["quantity"] == name).any()]
    rows = []
    for wing in wings(frame):
        for pair in _pairs(wing, frame):
            found = levels(frame, *pair, tuple(names))
            if found:
                rows.append([" − ".join(pair), *(_cell(found[name]) if name in found else "–" for name in names)])
    return ("at equal accuracy", *names), rows


def outcome(frame: pd.DataFrame, quantity: str, first: str, second: str) -> str:
    """Return what the differences of two samplers of equal accuracy decide on a measure, as a short text.

    Args:
        frame: of a study.
        quantity: one of `MEASURES`.
        first: a sampler.
        second: the sampler to compare it with.
    """
    found = levels(frame, first, second, (quantity,)).get(quantity)
    if not found:
        return f"{first} against {second}: no accuracy is shared"
    decided = decision(found, lower_is_better=quantity in LOWER_IS_BETTER)
    return f"{first} against {second}: {decided}"


def _pairs(wing: Wing, frame: pd.DataFrame) -> list[tuple[str, str]]:
    drawn = set(frame["family"])
    firsts = [family for family in (wing.joint, wing.coherent, *wing.controls) if family in drawn]
    return [*((first, wing.plain) for first in firsts), (wing.joint, wing.coherent)]


def by_decision(frame: pd.DataFrame, first: str, second: str) -> dict[str, list[str]]:
    """Return decision ↦ measures, of two samplers at equal accuracy; empty if they share none.

    Args:
        frame: of a study.
        first: a sampler.
        second: the sampler to compare it with.
    """
    return _by_decision(levels(frame, first, second, tuple(MEASURES)))


def _by_decision(found: dict[str, list[Level]]) -> dict[str, list[str]]:
    """Return decision ↦ measures."""
    by: dict[str, list[str]] = {}
    for name, each in found.items():
        by.setdefault(decision(each, lower_is_better=name in LOWER_IS_BETTER), []).append(name)
    return by


def _as_text(by: dict[str, list[str]]) -> str:
    """Return the decisions and their measures as text."""
    return "; ".join(f"{outcome}: {', '.join(by[outcome])}" for outcome in DECISIONS if outcome in by)


def _cell(found: list[Level]) -> str:
    """Return the range of differences over the levels, and the widest interval."""
    means, half = [each.difference.mean for each in found], max(each.difference.half for each in found)
    ends = [signed(each, ".2f") for each in (min(means), max(means))]
    return f"{' … '.join(dict.fromkeys(ends))} ± {half:.2f}"


def _incoherence(frame: pd.DataFrame, wing: Wing) -> str:
    """Return the sentence on the incoherence of the learned pair."""
    rows = pick(frame, family=wing.coherent)
    found = {
        name: mean_of(pick(rows, quantity=name).sort_values("seed")["value"].tolist())
        for name in ("mixture_learned", "learned_mixture", "beyond", "largest", "bound")
    }
    kind = "on paths" if wing.joint == PATHS else "of sequences"
    return (
        f"The learned {wing.name} pair is incoherent: KL(mixture ‖ learned p(x)) {found['mixture_learned']} and KL(learned "
        f"p(x) ‖ mixture) {found['learned_mixture']} nats {kind}; log p(x|y)/p(x) is above Bayes' bound of "
        f"{found['bound'].value:.1f} nats in {found['beyond'].value:.0%} of the conditional draws and reaches "
        f"{found['largest'].value:.1f}."
    )


def differ(kl: Mapping[float, Estimate]) -> str:
    """Return where the two laws differ, γ ↦ KL(sequential ‖ joint), as a verb with its scales."""
    clear = [scale for scale, each in kl.items() if each.value > each.half]
    if len(clear) == len(kl):
        return "differ at every γ above 1"
    return f"differ clearly at γ = {listed(clear, 'g')}" if clear else "cannot be distinguished"


def _differs(frame: pd.DataFrame, wing: Wing) -> str:
    """Return the sentence on the two laws of the coherent pair."""
    kl = {scale: each for scale, each in divergence(frame, wing).items() if scale > 1}
    if not kl:
        return ""
    low, high = min(kl), max(kl)
    share = mean_at(frame, wing.joint, "acceptance", high)
    return (
        f"With a coherent {wing.name} pair the two laws {differ(kl)}: KL(sequential ‖ joint) is "
        f"{kl[low]} nats at γ = {low:g} and {kl[high]} at γ = {high:g}. There the joint law is within a total variation of "
        f"{1 - share:.2f} of p(x|y)."
    )


def _worth(frame: pd.DataFrame, wing: Wing) -> str:
    """Return the sentence on what the joint and the coherent law are worth at equal accuracy."""
    parts = []
    for first, second in ((wing.joint, wing.coherent), (wing.coherent, wing.plain)):
        found = levels(frame, first, second, tuple(MEASURES))
        parts.append(f"{first} against {second}: {_as_text(_by_decision(found)) if found else 'no accuracy is shared'}")
    return f"At equal accuracy, {'. '.join(parts)}."
