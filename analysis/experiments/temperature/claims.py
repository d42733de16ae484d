"""Read the source's two statements on temperature from the frame of the chapter: one answer per wing, law and way."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd

from analysis.experiments.temperature import scores, tokens
from analysis.frames import Cells, pick
from analysis.metrics.confidence import Difference, Estimate, of_row
from analysis.metrics.temperature import claims as temperature_claims
from analysis.metrics.temperature.claims import Claim
from analysis.metrics.temperature.laws import BIGRAMS, DISTINCT, ENTROPY, FORMS, LENGTH, LIKELIHOOD, REPEATED, SEQUENTIAL
from analysis.metrics.trends import EQUAL

AT = 2.0  # the β at which ways are compared with p^β


class Reached(NamedTuple):
    """One way at one β: the β that it reaches, its distance from p^β, that of p, and the answer to "terrible"."""

    law: str
    way: str
    beta: Estimate
    distance: Estimate
    idle: Estimate
    claim: Claim


def reached(frame: pd.DataFrame, beta: float = AT) -> Iterator[Reached]:
    """Yield every way of both wings at one β."""
    exact = pick(frame, temperature=1 / beta, length=tokens.LONG)
    for law, rows in exact.groupby("law", sort=False):
        found = {str(row["quantity"]): of_row(row) for _, row in rows.iterrows()}
        distance, idle = found["kl_sequential_joint"], found["kl_untempered_joint"]
        claim = temperature_claims.terrible(distance, idle, temperature_claims.PER_TOKEN * tokens.LONG)
        yield Reached(str(law), SEQUENTIAL, found["effective_beta"], distance, idle, claim)
    for law in scores.LAWS:
        distances = {name: value(frame, law, name, "w1", beta) for name in (*scores.SAMPLERS, scores.IDLE)}
        idle = distances.pop(scores.IDLE)
        for name, distance in distances.items():
            answer = temperature_claims.terrible(distance, idle, temperature_claims.SMALLEST_W1)
            yield Reached(law, name, value(frame, law, name, "effective_beta", beta), distance, idle, answer)


def value(frame: pd.DataFrame, law: str, family: str, quantity: str, beta: float = AT) -> Estimate:
    """Return a number of a diffusion sampler at one β.

    Args:
        frame: of the chapter.
        law: the data.
        family: the sampler.
        quantity: of the frame.
        beta: β.
    """
    return of_row(pick(frame, law=law, family=family, quantity=quantity, beta=beta).iloc[0])


def reached_cells(frame: pd.DataFrame, beta: float = AT) -> Cells:
    """Return the table of the β that every way reaches, and of the distances that decide whether it is terrible."""
    rows = []
    for each in reached(frame, beta):
        unit = "KL" if each.way == SEQUENTIAL else "W1"
        distances = f"{number(each.distance)} ({unit})", number(each.idle)
        rows.append([each.law, each.way, number(each.beta), *distances, each.claim.answer])
    return ("law", "way", "β reached", "distance to p^β", "that of p", "terrible"), rows


def number(found: Estimate) -> str:
    """Return an estimate as text, a large one without decimals."""
    return format(found, ".3f" if abs(found.value) < 100 else ".0f")


def useless(frame: pd.DataFrame) -> dict[str, Claim]:
    """Return, per law of tokens, the answer to "the joint's temperature is useless where the sequential one works"."""
    return {law: temperature_claims.useless(differences(frame, law)) for law in _laws(frame)}


def useless_cells(frame: pd.DataFrame) -> Cells:
    """Return the table of the answers to "the joint's temperature is useless", with the differences that decide them."""
    rows = []
    for law, claim in useless(frame).items():
        reasons = temperature_claims.reasons(differences(frame, law)) or {"–": claim.reason}
        rows += [[law, claim.answer, name, text] for name, text in reasons.items()]
    return ("law", "useless", "figure of merit", "joint − sequential"), rows


def _laws(frame: pd.DataFrame) -> list[str]:
    """Return the laws whose ways are compared."""
    return list(map(str, frame.loc[frame["quantity"] == LIKELIHOOD, "law"].unique()))


def differences(frame: pd.DataFrame, law: str) -> dict[str, list[Difference]]:
    """Return joint − sequential at equal likelihood, figure of merit ↦ one difference per setting that raises the likelihood.

    Args:
        frame: of the chapter.
        law: a law of tokens.
    """
    found = pick(frame, law=law, family=SEQUENTIAL)
    gaps: dict[str, list[Difference]] = {}
    for _, rows in found.groupby("setting"):
        by = {str(row["quantity"]): of_row(row) for _, row in rows.iterrows()}
        works = by["effective_beta"].value > 1 + EQUAL
        for name in (ENTROPY, DISTINCT, BIGRAMS, REPEATED) if works else ():
            if f"equal {name}" in by:
                gap = by[f"equal {name}"].minus(by[name])
                least = temperature_claims.smallest(name, by[LENGTH].value)
                gaps.setdefault(name, []).append(Difference(gap.value, gap.half, least))
    return gaps


def at_equal_likelihood(frame: pd.DataFrame, shown: Mapping[str, Sequence[float]] = MappingProxyType({})) -> Cells:
    """Return the table of the ways of tokens beside the power of equal likelihood: its β*, and the figures of merit of both.

    Args:
        frame: of the chapter.
        shown: the settings in the table by family; all settings of a family that is missing.
    """
    columns = ("law", "way", "β reached", "log p", "entropy", "lost", LENGTH, DISTINCT, REPEATED)
    rows = []
    for law in _laws(frame):
        settings = pick(frame, law=law).dropna(subset="setting").groupby(["family", "setting"], sort=False)
        for key, group in settings:
            family, setting = map(str, key)
            by = group.set_index("quantity")["value"]
            if "lost" in by and float(setting) in shown.get(family, (float(setting),)):
                pairs = [f"{by[name]:z.2f} / {by[f'equal {name}']:z.2f}" for name in (ENTROPY, LENGTH, DISTINCT, REPEATED)]
                numbers = f"{by['effective_beta']:.2f}", f"{by[LIKELIHOOD]:.2f}", pairs[0], f"{by['lost']:z.3f}"
                rows.append([law, FORMS[family].format(float(setting)), *numbers, *pairs[1:]])
    return columns, rows
