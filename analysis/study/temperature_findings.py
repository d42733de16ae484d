r"""What a study finds of temperature: of the factors against the joint's, and of scores times β, at γ = 1.

A lower temperature trades diversity for quality, so it works where some β > 1 clearly gains precision or accuracy over β = 1;
the energy distance counts both sides. Intervals hold 95 % over the seeds, paired, all that one answer looks at together; the β
that is shown is the best of all, of the joint law the best of those at which it is reached, if there are any.
"""

import math
from typing import NamedTuple

import pandas as pd

from analysis.figures import study as figures
from analysis.frames import Plot, Story, Verdict, pick
from analysis.metrics.confidence import Difference
from analysis.metrics.confidence import paired_difference as difference
from analysis.study import guidance_findings
from analysis.study.samplers import JOINT, SEQUENTIAL
from analysis.study.temperatures import NOISE, ODE, SDE, WEIGHTS

RISES = ("precision", "accuracy")
SMALLEST = 0.05  # of interest, of any share
DISTANCE = "energy distance"


class Change(NamedTuple):
    """Of a quantity from β = 1 to the best β above: which β that is, the mean over seeds, and half its interval."""

    beta: float
    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ± {self.half:.3f} at β = {self.beta:g}"


def by_beta(frame: pd.DataFrame, family: str, quantity: str) -> pd.DataFrame:
    """Return a quantity with a row a seed and a column a β."""
    return pick(frame, family=family, quantity=quantity).pivot_table(index="seed", columns="beta", values="value")


def changes(frame: pd.DataFrame, family: str, quantity: str) -> list[Change]:
    """Return the change of a quantity from β = 1 to every β above; of the joint law as far as it is reached, if it is."""
    wide = by_beta(frame, family, quantity)
    most = (reached(frame, JOINT) if family == JOINT else None) or math.inf
    betas = [beta for beta in map(float, wide.columns) if 1 < beta <= most]
    looks = len(betas) * len(RISES)
    return [Change(beta, *difference(wide[beta].tolist(), wide[1.0].tolist(), looks)) for beta in betas]


def best(frame: pd.DataFrame, family: str, quantity: str) -> Change:
    """Return the best change of a quantity, a fall of a distance and a rise of anything else."""
    return (min if quantity == DISTANCE else max)(changes(frame, family, quantity), key=lambda change: change.mean)


def gain(frame: pd.DataFrame, family: str) -> bool | None:
    """Return whether some β > 1 clearly gains precision or accuracy; None where their intervals do not decide that."""
    found = [change for quantity in RISES for change in changes(frame, family, quantity)]
    if any(change.mean > change.half for change in found):
        return True
    return False if all(change.mean + change.half < SMALLEST for change in found) else None


def _gained(frame: pd.DataFrame, family: str, what: str) -> str:
    """Say what lowering a temperature gains."""
    if family == JOINT and reached(frame, JOINT) is None:
        return f"What lowering the temperature of {what} gains is not decided: its law is reached at no β > 1."
    return {
        True: f"Lowering the temperature of {what} works here.",
        False: f"Lowering the temperature of {what} gains less than {SMALLEST:g} of precision and of accuracy here.",
        None: f"What lowering the temperature of {what} gains here is not decided: the interval of some gain holds 0, and more "
        f"than the {SMALLEST:g} that would matter.",
    }[gain(frame, family)]


def verdict(frame: pd.DataFrame) -> Verdict:
    """Return whether the joint's temperature is of use where that of the factors is, and what becomes of scores times β."""
    frame = frame[frame["beta"].notna()]
    near = {family: best(frame, family, DISTANCE) for family in (SEQUENTIAL, JOINT)}
    told = [_gained(frame, SEQUENTIAL, "the factors"), _gained(frame, JOINT, "the joint law")]
    told += [*(_family(frame, family) for family in (SEQUENTIAL, JOINT)), _agreement(frame, JOINT), _apart(frame)]
    scores = [family for family in (ODE, SDE, NOISE, WEIGHTS) if family in set(frame["family"])]
    if scores:
        told += [_scores(frame, scores), _agreement(frame, WEIGHTS)]
    return Verdict(
        f"{DISTANCE} to held-out data, the best β > 1 − β = 1",
        f"{SEQUENTIAL} {near[SEQUENTIAL]}, {JOINT} {near[JOINT]}",
        " ".join(filter(None, told)),
    )


def _family(frame: pd.DataFrame, family: str) -> str:
    precision, accuracy = (best(frame, family, quantity) for quantity in RISES)
    cover = by_beta(frame, family, "coverage").mean()
    covered = ", ".join(f"{value:.2f}" for value in cover)
    betas = ", ".join(f"{beta:g}" for beta in cover.index)
    return f"{family}: precision {precision}, accuracy {accuracy}; coverage at β = {betas}: {covered}."


def reached(frame: pd.DataFrame, family: str) -> float | None:
    """Return the largest β at which populations find the law, see `findings.reached`; None for no β > 1."""
    return max(guidance_findings.reached(frame, family, "beta"), default=None)


def _agreement(frame: pd.DataFrame, family: str) -> str:
    at = reached(frame, family)
    if at is None:
        return f"The law of “{family}” is reached at no β > 1: what is shown is where the weights begin to lead."
    return f"The law of “{family}” is reached up to β = {at:g}; beyond, what is shown is where the weights begin to lead."


def _apart(frame: pd.DataFrame) -> str:
    """Tell the two laws' difference at one β, the largest that the joint law is reached at."""
    at = reached(frame, JOINT)
    if at is None:
        return ""
    told = []
    for quantity in (*RISES, "coverage"):
        first, second = (by_beta(frame, family, quantity)[at].tolist() for family in (JOINT, SEQUENTIAL))
        found = Difference(*difference(first, second, len(RISES) + 1), SMALLEST)
        told.append(f"{quantity} {found}: {found.answer}")
    return f"There, {JOINT} − {SEQUENTIAL}: {'; '.join(told)}."


def _scores(frame: pd.DataFrame, families: list[str]) -> str:
    means = {family: by_beta(frame, family, DISTANCE).mean() for family in families}
    told = ", ".join(f"{family} {' '.join(f'{value:.2f}' for value in mean)}" for family, mean in means.items())
    betas = ", ".join(f"{beta:g}" for beta in means[families[0]].index)
    return f"In diffusion, {DISTANCE} at β = {betas}: {told}; in the end {_nearest(frame, families)}."


def _nearest(frame: pd.DataFrame, families: list[str]) -> str:
    """Say which family ends nearest to the data, if the next one's difference from it is clear."""
    last = {family: by_beta(frame, family, DISTANCE).iloc[:, -1] for family in families}
    first, second = sorted(families, key=lambda family: float(last[family].mean()))[:2]
    mean, half = difference(last[second].tolist(), last[first].tolist())
    if mean > half:
        return f"the nearest to the data is “{first}”"
    return f"the nearest to the data is not decided (“{second}” − “{first}”: {mean:+.3f} ± {half:.3f})"


def story(*, images: bool) -> Story:
    """Return the chapter of a study's report."""
    looks = [
        Plot(
            "study_temperature_samples",
            tuple(figures.samples(family, by="beta") for family in (SEQUENTIAL, JOINT)),
            "The same labels at γ = 1 and every β, the first samples of the first seed, none chosen.",
        ),
        Plot(
            "study_temperature_scores",
            tuple(figures.samples(family, by="beta") for family in (ODE, NOISE, WEIGHTS)),
            "The same for diffusion: the score times β, the noise times β^(−1/2), and the score times β with weights.",
        ),
    ]
    return Story(
        name="temperature",
        title="Temperature of learned models",
        claim="“changing the temperature of the sequential conditionals is not the same as changing the temperature of the "
        "joint distribution”, and tuning that of the joint is useless where that of the conditionals works; multiplying the "
        "score “invariably yields terrible results”.",
        verdict=verdict,
        plots=(
            *(looks if images else []),
            Plot(
                "study_temperature",
                (
                    figures.against_scale("accuracy", "Accuracy", by="beta"),
                    figures.against_scale("precision", "Precision", by="beta"),
                    figures.against_scale("coverage", "Coverage", by="beta"),
                    figures.against_scale(DISTANCE, "Distance to the data", legend=True, by="beta"),
                ),
                "At γ = 1 against the inverse temperature, by family. Bands are two standard errors over the seeds.",
            ),
            Plot(
                "study_temperature_runs",
                (
                    figures.against_scale("log_z_apart", "Halves apart in log Z", by="beta"),
                    figures.against_scale("spread", "Spread within a label", legend=True, by="beta"),
                ),
                "Left: by how much halves of the populations disagree about log Z of p(x)^β; above half a nat that law is "
                "not reached. Right: diversity within a label, by family as above.",
            ),
        ),
    )
