r"""Fidelity against diversity of the joint and the sequential law.

Fidelity is the class probability of a sample, E[p(y | x)]; diversity is the entropy of the law. All laws are exact.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.experiments.base import Experiment, Settings
from analysis.figures import fidelity as figures
from analysis.frames import Plot, Row, Track, Verdict, per_quantity, pick, tidy
from analysis.metrics import distances
from analysis.toys import Table, digits_table, guidance
from analysis.toys.example_tables import coupled_table
from analysis.typeset import signed

SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0)
TOY, DIGITS = "coupled table", "digits"


def run(settings: Settings, track: Track) -> pd.DataFrame:
    """Return class probability and entropy of both laws per scale, on a toy and on real digits, averaged over labels."""
    tables = {TOY: coupled_table(6), DIGITS: digits_table(8 if settings.quick else 10)[0]}
    cases = [(law, table, scale) for law, table in tables.items() for scale in SCALES]
    return tidy(row for case in track(cases) for row in _measure(*case))


def verdict(frame: pd.DataFrame) -> Verdict:
    """Return the difference of the two laws in entropy at the class probability of the joint law at γ = 3."""
    costs = {law: _cost(pick(frame, law=law)) for law in (TOY, DIGITS)}
    better = {law: "the joint law keeps more" if cost > 0 else "the sequential law keeps more" for law, cost in costs.items()}
    joint = pick(frame, family="joint", quantity="class_probability").set_index(["law", "scale"])["value"]
    return Verdict(
        "entropy at equal class probability, joint − sequential",
        ", ".join(f"{signed(cost)} nats ({law})" for law, cost in costs.items()),
        "Both laws trade diversity for fidelity: from γ = 1 to 3 the joint law's class probability rises from "
        + " and ".join(f"{joint[law, 1.0]:.2f} to {joint[law, 3.0]:.2f} ({law})" for law in costs)
        + ". At equal class probability "
        + " and ".join(f"{better[law]} entropy on the {law} ({abs(cost):.2f} nats)" for law, cost in costs.items())
        + ".",
    )


def _measure(law: str, table: Table, scale: float) -> Iterator[Row]:
    labels, log_classes = range(len(table.labels)), table.log_class_probability()
    for family, law_of in (("joint", table.log_joint), ("sequential", table.log_sequential)):
        laws = [law_of(guidance(label, scale))[0] for label in labels]
        case = {"law": law, "family": family, "scale": scale, "length": table.length}
        values = {
            "class_probability": [float(distances.expectation(laws[label], log_classes[label].exp())) for label in labels],
            "entropy": [float(distances.entropy(log_p)) for log_p in laws],
        }
        yield from per_quantity(case, {quantity: np.mean(per_label) for quantity, per_label in values.items()})


def _pixels(frame: pd.DataFrame) -> int:
    """Return the number of pixels of the table of digits."""
    return int(pick(frame, law=DIGITS)["length"].max())


def _cost(frame: pd.DataFrame) -> float:
    """Return entropy(joint) − entropy(sequential) where both have the class probability of the joint law at γ = 3."""
    at = frame.pivot_table(index="scale", columns=["family", "quantity"], values="value")
    aim = at.loc[3.0, ("joint", "class_probability")]
    sequential = np.interp(aim, at["sequential", "class_probability"], at["sequential", "entropy"])
    return float(at.loc[3.0, ("joint", "entropy")] - sequential)


EXPERIMENT = Experiment(
    name="fidelity",
    title="Fidelity against diversity",
    claim="“guidance represents a trade-off: it dramatically improves adherence to the conditioning signal, as well as overall "
    "sample quality, but at great cost to diversity.”",
    run=run,
    verdict=verdict,
    source=lambda frame: f"exact laws of a table of three-valued tokens, T = 6, and of {_pixels(frame)} pixels of digits",
    plots=(
        Plot(
            "fidelity",
            (figures.class_probability, figures.entropy, figures.trade_off),
            "Exact, averaged over labels. Left and middle: class probability and entropy against the scale. Right: one "
            "against the other, from γ = 0 at the right; a curve further up and to the right is the better trade.",
        ),
    ),
)
