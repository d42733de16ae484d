r"""Comparison of the joint and the sequential law of texts at one γ, and at equal adherence, over prompts.

At equal γ the difference is that of two independent estimates. At equal adherence the log perplexity of the joint law is
compared with that of the sequential law at the γ of the same adherence. With L(a) the log perplexity against adherence, linear
between the sampled scales, the difference is L_joint − L(a_joint). Its error includes the errors of adherence times the slope
of L. The correlation of log perplexity and adherence of one sample is unknown, so their errors are added as an upper bound.

The mean over prompts assumes independent errors, so every prompt and law needs its own random numbers.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.frames import pick
from analysis.metrics.confidence import Estimate, combined, mean, of_row

ADHERENCE, PERPLEXITY = "adherence", "perplexity, conditional"


class Compared(NamedTuple):
    """One prompt at one γ.

    scale: γ.
    consistent: whether the runs of the joint law agree.
    adherence: adherence of the joint law minus that of the sequential law, in nats per text.
    own: the γ at which the sequential law has the adherence of the joint law; NaN if there is none.
    matched: log perplexity per token at that adherence, joint minus sequential; None if there is none.
    """

    scale: float
    consistent: bool
    adherence: Estimate
    own: float
    matched: Estimate | None


class Point(NamedTuple):
    """Adherence and log perplexity of a law at one scale."""

    scale: float
    adherence: Estimate
    loss: Estimate

    def along(self, slope: float) -> Estimate:
        """Return log perplexity with its error at a given adherence, for a slope of L."""
        error = self.loss.std_error + abs(slope) * self.adherence.std_error
        return Estimate(self.loss.value, error, min(self.loss.freedom, self.adherence.freedom))


def points(frame: pd.DataFrame, prompt: str, family: str) -> list[Point]:
    """Return the points of a prompt and a family in order of the scale.

    Args:
        frame: of the chapter on text.
        prompt: the law of the frame.
        family: "joint" or "sequential".
    """
    rows = pick(frame, law=prompt, family=family)
    found = []
    for _, group in rows.groupby("scale"):
        by = group.set_index("quantity")
        loss = of_row(by.loc[PERPLEXITY])
        log_loss = Estimate(math.log(loss.value), loss.std_error / loss.value, loss.freedom)
        found.append(Point(float(group["scale"].iloc[0]), of_row(by.loc[ADHERENCE]), log_loss))
    return found


def compared(frame: pd.DataFrame, prompt: str, scale: float) -> Compared:
    """Return the differences of one prompt at one γ, and at the γ of equal adherence of the sequential law.

    Args:
        frame: of the chapter on text.
        prompt: the law of the frame.
        scale: γ of the joint law.
    """
    joint = next(point for point in points(frame, prompt, "joint") if point.scale == scale)
    curve = points(frame, prompt, "sequential")
    same = next(point for point in curve if point.scale == scale)
    consistent = pick(frame, law=prompt, family="joint", scale=scale, quantity="consistent")["value"].iloc[0]
    own, matched = at_adherence(joint, curve)
    return Compared(scale, bool(consistent), joint.adherence.minus(same.adherence), own, matched)


def at_adherence(joint: Point, curve: Sequence[Point]) -> tuple[float, Estimate | None]:
    """Return the γ of a curve at the adherence of a joint point, and the joint minus the curve's log perplexity there.

    Args:
        joint: a point of the joint law.
        curve: the points of the sequential law; noise may disorder their adherence, so they are sorted by it.
    """
    ordered = sorted(curve, key=lambda point: point.adherence.value)
    aim, values = joint.adherence.value, [point.adherence.value for point in ordered]
    if not values[0] <= aim <= values[-1]:
        return float("nan"), None
    i = min(max(int(np.searchsorted(values, aim)), 1), len(values) - 1)
    low, high, width = ordered[i - 1], ordered[i], values[i] - values[i - 1]
    part = (aim - values[i - 1]) / width if width > 0 else 0.0
    slope = (high.loss.value - low.loss.value) / width if width > 0 else 0.0
    terms = (joint.along(slope), low.along(slope), high.along(slope))
    return (1 - part) * low.scale + part * high.scale, combined((1.0, part - 1.0, -part), terms)


def pooled(estimates: Sequence[Estimate | None]) -> Estimate:
    """Return the mean over prompts of the estimates that are not None; NaN if there are none."""
    found = [each for each in estimates if each is not None]
    return mean(found) if found else Estimate(float("nan"), float("nan"), 1.0)
