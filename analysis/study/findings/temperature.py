"""Answer the empirical questions on temperature at γ = 1 from a study's frame: decisions, and the sentences that report them.

The temperature of the sequential conditionals, of the joint law, and of the score are compared. A lower temperature trades
diversity for quality, so it works where some β > 1 clearly gains precision or accuracy over β = 1; the energy distance measures
both sides. The β that is reported is the best of all, for the joint law the best of those at which its sampler converged.
"""

import math

import pandas as pd

from analysis.frames import Verdict
from analysis.metrics.confidence import Difference
from analysis.study.samplers import JOINT, SEQUENTIAL
from analysis.study.statistics import SMALLEST, by_seed, converged, difference_at, paired
from analysis.study.temperatures import NOISE, ODE, SDE, WEIGHTS

RISES = ("precision", "accuracy")
DISTANCE = "energy distance"


def limit(frame: pd.DataFrame, family: str) -> float | None:
    """Return the largest β at which a joint sampler converged, None if it converged at no β > 1."""
    return max(converged(frame, family, "beta"), default=None)


def changes(frame: pd.DataFrame, family: str, quantity: str) -> dict[float, Difference]:
    """Return the change of a quantity from β = 1 to every β above, of the joint law up to its limit if it has one.

    Args:
        frame: of a study.
        family: the sampler.
        quantity: of the frame.
    """
    wide = by_seed(frame, family, quantity, "beta")
    most = (limit(frame, JOINT) if family == JOINT else None) or math.inf
    betas = [beta for beta in map(float, wide.columns) if 1 < beta <= most]
    return {beta: paired(wide[beta], wide[1.0], comparisons=len(betas) * len(RISES)) for beta in betas}


def gain(frame: pd.DataFrame, family: str) -> bool | None:
    """Return whether some β > 1 clearly gains precision or accuracy; None where the intervals do not decide."""
    found = [change for quantity in RISES for change in changes(frame, family, quantity).values()]
    if any(change.mean > change.half for change in found):
        return True
    return False if all(change.mean + change.half < SMALLEST for change in found) else None


def verdict(frame: pd.DataFrame) -> Verdict:
    """Return whether a lower temperature works for the factors and for the joint law, and the results of score × β."""
    frame = frame[frame["beta"].notna()]
    sentences = [_gained(frame, SEQUENTIAL, "the factors"), _gained(frame, JOINT, "the joint law")]
    sentences += [_limit(frame, JOINT), _joint_law(frame)]
    scores = [family for family in (ODE, SDE, NOISE, WEIGHTS) if family in set(frame["family"])]
    if scores:
        sentences += [_scores(frame, scores), _limit(frame, WEIGHTS)]
    return Verdict(
        f"{DISTANCE} to held-out data, the best β > 1 − β = 1",
        ", ".join(f"{family} {_best(frame, family, DISTANCE)}" for family in (SEQUENTIAL, JOINT)),
        "\n".join(filter(None, sentences)),
    )


def _best(frame: pd.DataFrame, family: str, quantity: str) -> str:
    """Return the best change of a quantity as text: a fall of a distance, a rise of anything else."""
    choose = min if quantity == DISTANCE else max
    beta, change = choose(changes(frame, family, quantity).items(), key=lambda item: item[1].mean)
    return f"{change.text} at β = {beta:g}"


def _gained(frame: pd.DataFrame, family: str, what: str) -> str:
    """Return the sentence on the gain of a lower temperature."""
    if family == JOINT and limit(frame, JOINT) is None:
        return f"The gain from lowering the temperature of {what} is not decided: its sampler converged at no β > 1."
    return {
        True: f"Lowering the temperature of {what} works here.",
        False: f"Lowering the temperature of {what} gains less than {SMALLEST:g} of precision and of accuracy here.",
        None: f"The gain from lowering the temperature of {what} is not decided here: the interval of some gain includes 0, "
        f"and values beyond the {SMALLEST:g} that would matter.",
    }[gain(frame, family)]


def _limit(frame: pd.DataFrame, family: str) -> str:
    at = limit(frame, family)
    if at is None:
        return f"The sampler of “{family}” converged at no β > 1: its result is only partly corrected."
    return f"The sampler of “{family}” converged up to β = {at:g}; above, its result is only partly corrected."


def _joint_law(frame: pd.DataFrame) -> str:
    """Return the sentence on joint minus sequential at the largest β where the joint sampler converged."""
    at = limit(frame, JOINT)
    if at is None:
        return ""
    measures = (*RISES, "coverage")
    found = {
        name: difference_at(frame, name, (JOINT, SEQUENTIAL), at, by="beta", comparisons=len(measures)) for name in measures
    }
    parts = "; ".join(f"{name} {each.text}, {each.answer}" for name, each in found.items())
    return f"At β = {at:g}, {JOINT} − {SEQUENTIAL}: {parts}."


def _scores(frame: pd.DataFrame, families: list[str]) -> str:
    """Return the sentence on the ways to lower a score's temperature: the nearest to the data at the last β."""
    tables = {family: by_seed(frame, family, DISTANCE, "beta") for family in families}
    beta, last = tables[families[0]].columns[-1], {family: table.iloc[:, -1] for family, table in tables.items()}
    first, second = sorted(families, key=lambda family: float(last[family].mean()))[:2]
    found = paired(last[second], last[first])
    nearest = f"the nearest to the data is “{first}”"
    if not found.mean > found.half:
        nearest = f"the nearest to the data is not decided (“{second}” − “{first}”: {found.text})"
    return f"In diffusion, by {DISTANCE} at β = {beta:g}, {nearest}."
