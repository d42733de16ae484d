"""Decide the source's two statements on temperature from differences with their intervals.

useless     "the joint's temperature is useless where the sequential one works": at equal likelihood, joint − sequential
terrible    "score × γ yields terrible results": draws that are farther from p^β than draws of p, at which nothing was lowered

Source: Dieleman, "Guidance: a cheat code for diffusion models" (2022), https://sander.ai/2022/05/26/guidance.html, the section
on temperature.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from analysis.metrics.confidence import ALIKE, BETTER, BOTH, OPEN, WORSE, Difference, Estimate, decide, difference
from analysis.metrics.temperature.laws import BIGRAMS, DISTINCT, REPEATED
from analysis.typeset import signed

TRUE, FALSE, MIXED, NEITHER = "true", "false", "true and false", "no difference that would matter"
SHARES = {DISTINCT: 0.05, BIGRAMS: 0.05, REPEATED: 0.05}  # smallest differences of interest
PER_TOKEN = 0.05  # the same per token of the mean length: nats of entropy, and tokens
LOWER_IS_BETTER = (REPEATED,)
SMALLEST_W1 = 0.02  # of a Wasserstein distance, in units of x


USELESS = "“The joint's temperature is useless where the sequential one works”, joint − sequential at equal likelihood"
NOWHERE = "at no setting does the temperature of the factors give texts as likely as those of some β > 1"


class Claim(NamedTuple):
    """The answer to a statement, and the reason with its numbers."""

    answer: str
    reason: str


def smallest(quantity: str, length: float) -> float:
    """Return the smallest difference of interest of a figure of merit of texts of a mean length."""
    return SHARES.get(quantity, PER_TOKEN * length)


def useless(gaps: Mapping[str, Sequence[Difference]]) -> Claim:
    """Return whether p^β is useless beside the temperature of the factors, by joint − sequential at equal likelihood.

    Args:
        gaps: figure of merit ↦ differences, one per setting at which the temperature of the factors works: it raises the
            likelihood of texts.

    Returns:
        "true" where the joint law is worse in some figure of merit and better in none, "false" where it is better in some and
        worse in none; "no difference that would matter" only where all differences are small.
    """
    if not gaps:
        return Claim(OPEN, NOWHERE)
    decided = decisions(gaps)
    better, worse = (any(each in (which, BOTH) for each in decided.values()) for which in (BETTER, WORSE))
    alike = bool(decided) and all(each == ALIKE for each in decided.values())
    answer = MIXED if better and worse else FALSE if better else TRUE if worse else NEITHER if alike else OPEN
    return Claim(answer, "; ".join(f"{name} {text}" for name, text in reasons(gaps).items()))


def decisions(gaps: Mapping[str, Sequence[Difference]]) -> dict[str, str]:
    """Return what the differences of each figure of merit decide; arguments as in `useless`."""
    return {name: decide(found, lower_is_better=name in LOWER_IS_BETTER) for name, found in gaps.items() if found}


def reasons(gaps: Mapping[str, Sequence[Difference]]) -> dict[str, str]:
    """Return the decision and the largest difference of each figure of merit, as text; arguments as in `useless`."""
    return {name: f"{decided}: {_widest(gaps[name])}" for name, decided in decisions(gaps).items()}


def _widest(found: Sequence[Difference]) -> str:
    """Return the largest of several differences, as text."""
    return _shown(max(found, key=lambda each: abs(each.mean)))


def _shown(found: Difference) -> str:
    """Return a difference as text, an exact one without interval."""
    return str(found) if found.half else f"{signed(found.mean)} ({found.smallest:.3g} would matter)"


def terrible(distance: Estimate, idle: Estimate, least: float) -> Claim:
    """Return whether draws are farther from p^β than those of p.

    Args:
        distance: of the draws from p^β.
        idle: distance of p from p^β, measured in the same way.
        least: the smallest difference of interest.
    """
    gap = difference(distance, idle, least)
    if gap.small:
        return Claim(NEITHER, _shown(gap))
    return Claim((TRUE if gap.mean > 0 else FALSE) if gap.clear else OPEN, _shown(gap))
