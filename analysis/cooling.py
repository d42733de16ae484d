r"""What a study finds of temperature: of the factors against the joint's, and of scores times β, at γ = 1.

A lower temperature trades diversity for quality, so it works where some β > 1 clearly gains precision or accuracy over β = 1;
the energy distance counts both sides. Intervals hold 95 % over the seeds, paired, all that one answer looks at together; the β
that is shown is the best of all, of the joint law the best of those at which it is reached, if there are any.
"""

import math
from typing import NamedTuple

import pandas as pd

from analysis import findings
from analysis.experiment import Plot, Story, Verdict, pick
from analysis.families import JOINT, SEQUENTIAL
from analysis.figures import study as figures
from analysis.quality import difference
from analysis.temperatures import NOISE, ODE, SDE, WEIGHTS

RISES = ("precision", "accuracy")
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


def works(frame: pd.DataFrame, family: str) -> bool:
    """Whether some β > 1 clearly gains precision or accuracy."""
    return any(change.mean > change.half for quantity in RISES for change in changes(frame, family, quantity))


def verdict(frame: pd.DataFrame) -> Verdict:
    """Return whether the joint's temperature is of use where that of the factors is, and what becomes of scores times β."""
    frame = frame[frame["beta"].notna()]
    near = {family: best(frame, family, DISTANCE) for family in (SEQUENTIAL, JOINT)}
    answer = {
        (True, False): "Lowering the temperature of the factors works here, and lowering that of the joint law does not.",
        (True, True): "Lowering the temperature works here, of the factors and of the joint law alike.",
        (False, True): "Lowering the temperature of the joint law works here, and lowering that of the factors does not.",
        (False, False): "Lowering the temperature gains nothing that can be seen here, of the factors or of the joint law.",
    }[works(frame, SEQUENTIAL), works(frame, JOINT)]
    if reached(frame, JOINT) is None:
        gains = "works" if works(frame, SEQUENTIAL) else "gains nothing that can be seen"
        answer = f"Lowering the temperature of the factors {gains} here; of the joint law it cannot be told."
    told = [answer, *(_family(frame, family) for family in (SEQUENTIAL, JOINT)), _agreement(frame, JOINT), _apart(frame)]
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
    return max(findings.reached(frame, family, "beta"), default=None)


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
        mean, half = difference(first, second, len(RISES) + 1)
        told.append(f"{quantity} {mean:+.3f} ± {half:.3f}")
    return f"There, {JOINT} − {SEQUENTIAL}: {', '.join(told)}."


def _scores(frame: pd.DataFrame, families: list[str]) -> str:
    means = {family: by_beta(frame, family, DISTANCE).mean() for family in families}
    told = ", ".join(f"{family} {' '.join(f'{value:.2f}' for value in mean)}" for family, mean in means.items())
    last = {family: mean.iloc[-1] for family, mean in means.items()}
    nearest = min(last, key=lambda family: last[family])
    betas = ", ".join(f"{beta:g}" for beta in means[families[0]].index)
    return f"In diffusion, {DISTANCE} at β = {betas}: {told}; the nearest to the data in the end is “{nearest}”."


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
