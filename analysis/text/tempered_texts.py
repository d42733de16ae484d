r"""Texts of a language model at lower temperatures, by every way, compared at equal likelihood.

The power p^β of the whole text is sampled at every β that is asked for. The other ways, which cost far less, are sampled on
grids, and compared with it where their mean log-likelihood is the same, see `analysis.metrics.temperature.draws`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import torch

from analysis import limits
from analysis.frames import Track
from analysis.metrics.confidence import Difference
from analysis.metrics.temperature import claims as temperature_claims
from analysis.metrics.temperature.claims import Claim
from analysis.metrics.temperature.draws import MERITS, Matched, Plan, Point, at_likelihood, measure
from analysis.metrics.temperature.laws import JOINT, LENGTH, LIKELIHOOD, SEQUENTIAL, TOP_K, TOP_P
from analysis.metrics.trends import EQUAL
from analysis.text.loading import Loaded
from analysis.text.tokens import PLAIN, Chat, Request, check_cap, encode, law, stop_tokens, text_of

OTHERS = (SEQUENTIAL, TOP_K, TOP_P)
SPAN = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0)  # β of the factors, besides those that are asked for


@dataclass(frozen=True)
class Target:
    """The texts that are drawn.

    Attributes:
        prompt: the prompt.
        betas: β of the whole text.
        top_k: settings of top-k.
        top_p: settings of top-p.
        max_new_tokens: T, the maximum length of a text.
        cap: the meaning of T, "truncate" or "force", see `arguide.stopping`.
        chat: the settings of the chat.

    Raises:
        ValueError: a number out of range, or another cap.
    """

    prompt: str
    betas: tuple[float, ...]
    top_k: tuple[float, ...]
    top_p: tuple[float, ...]
    max_new_tokens: int = 24
    cap: str = "truncate"
    chat: Chat = PLAIN

    def __post_init__(self) -> None:
        limits.check_temperatures(self.betas, self.top_k, self.top_p)
        check_cap(self.cap)

    def jobs(self) -> list[tuple[str, float]]:
        """Return the settings to measure, the power of the whole text first."""
        sequential = sorted({*SPAN, *self.betas})
        grids = {JOINT: self.betas, SEQUENTIAL: sequential, TOP_K: self.top_k, TOP_P: self.top_p}
        return [(family, setting) for family, several in grids.items() for setting in several]


class Pair(NamedTuple):
    """The power of the whole text beside another way at equal likelihood; `matched` is None where that way never has it."""

    point: Point
    family: str
    matched: Matched | None

    def differences(self, comparisons: int = 1) -> dict[str, Difference]:
        """Return joint − other of every figure of merit, with one of so many simultaneous intervals; none without a match."""
        length = self.point.estimate(LENGTH).value
        return {
            name: Difference(
                gap.value if abs(gap.value) > EQUAL else 0.0,
                gap.half_of(comparisons),
                temperature_claims.smallest(name, length),
            )
            for name, gap in ({} if self.matched is None else self.matched.gaps).items()
        }


class Measured(NamedTuple):
    """All points, and every power of the whole text beside every other way."""

    points: list[Point]
    pairs: list[Pair]

    def useless(self) -> Claim:
        """Return the answer to "the joint's temperature is useless where the sequential one works", where particles agree."""
        pairs = [each for each in self.pairs if each.family == SEQUENTIAL and each.point.converged and each.matched]
        gaps: dict[str, list[Difference]] = {}
        for each in pairs:
            for name, found in each.differences(len(pairs) * (len(MERITS) - 1)).items():
                if name != LENGTH:
                    gaps.setdefault(name, []).append(found)
        return temperature_claims.useless(gaps)


def measure_texts(loaded: Loaded, target: Target, plan: Plan, *, seed: int = 0, track: Track = iter) -> Measured:
    """Draw and measure texts of every way and setting.

    Args:
        loaded: the models.
        target: the texts that are drawn.
        plan: the numbers of draws.
        seed: seed of the random generator.
        track: makes a progress bar.

    Raises:
        ValueError: an unreadable prompt, no room in the context, no stop token for the cap to force, or too little memory.
    """
    length = target.max_new_tokens
    encoded = encode(loaded, [Request(target.prompt, None, 1.0)], length, chat=target.chat)[0]
    generator = torch.Generator(loaded.model.device).manual_seed(seed)

    def power(beta: float) -> Any:
        return law(loaded, encoded, max_new_tokens=length, temperature=1 / beta, cap=target.cap)

    try:
        jobs = track(target.jobs())
        points = [measure(power, family, setting, length, plan, generator) for family, setting in jobs]
    except torch.OutOfMemoryError as error:
        option = "--groups" if plan.sampler == "ladder" else "--particles"
        raise ValueError(f"{loaded.model.device} has too little memory; lower {option}") from error
    plain = next(each for each in points if (each.family, each.setting) == (SEQUENTIAL, 1.0))
    ends = {TOP_K: float(len(loaded.tokenizer)), TOP_P: 1.0}
    curves = {family: [each for each in points if each.family == family] for family in OTHERS}
    for family, setting in ends.items():
        curves[family].append(plain._replace(family=family, setting=setting))
    joint = [each for each in points if each.family == JOINT and each.setting != 1]
    return Measured(points, [Pair(each, family, at_likelihood(each, curves[family])) for each in joint for family in OTHERS])


def texts(loaded: Loaded, target: Target, measured: Measured) -> pd.DataFrame:
    """Return every text of every point: family, setting, number, text.

    Args:
        loaded: the models.
        target: the texts that were drawn.
        measured: the measurement.
    """
    prompt = encode(loaded, [Request(target.prompt, None, 1.0)], target.max_new_tokens, chat=target.chat)[0].prompt
    decode, ends = partial(_decoded, loaded, prompt), stop_tokens(loaded)
    rows = [
        (each.family, each.setting, number, decode(row, ends))
        for each in measured.points
        for number, row in enumerate(each.tokens.tolist())
    ]
    return pd.DataFrame(rows, columns=["family", "setting", "number", "text"])


def _decoded(loaded: Loaded, prompt: list[int], row: list[int], ends: tuple[int, ...]) -> str:
    size = next((i for i, token in enumerate(row) if token in ends), len(row))
    return text_of(loaded, prompt, row[:size])


def nearest(pair: Pair, points: Sequence[Point]) -> Point | None:
    """Return the point of the other way that was drawn nearest to the likelihood of the power; None without a match."""
    if pair.matched is None:
        return None
    aim = pair.point.estimate(LIKELIHOOD).value
    return min(
        (each for each in points if each.family == pair.family), key=lambda each: abs(each.estimate(LIKELIHOOD).value - aim)
    )


def record(target: Target, plan: Plan, measured: Measured) -> dict[str, Any]:
    """Return a measurement, ready for JSON.

    Args:
        target: the texts that were drawn.
        plan: the numbers of draws.
        measured: the measurement.
    """
    claim = measured.useless()
    return {
        "law": asdict(target) | asdict(plan),
        "merits": [_point(each) for each in measured.points],
        "equal_likelihood": [_pair(each) for each in measured.pairs],
        "useless": claim._asdict(),
    }


def _point(point: Point) -> dict[str, Any]:
    found = {name: point.estimate(name) for name in (LIKELIHOOD, *MERITS)}
    numbers = {name: {"value": each.value, "interval": list(each.interval)} for name, each in found.items()}
    verdict = None if point.diagnosis is None else point.diagnosis.verdict
    return {"family": point.family, "setting": point.setting, "converged": point.converged, "verdict": verdict} | numbers


def _pair(pair: Pair) -> dict[str, Any]:
    found = {
        name: {"value": each.mean, "half": each.half, "smallest": each.smallest, "answer": each.answer}
        for name, each in pair.differences().items()
    }
    setting = None if pair.matched is None else pair.matched.setting
    return {"beta": pair.point.setting, "converged": pair.point.converged, "family": pair.family, "setting": setting} | found
