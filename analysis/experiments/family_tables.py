"""The samplers of "one law, every family", and the tables of their distances to the joint tilt on the longest table."""

import pandas as pd

from analysis.experiments.coherence import acceptance
from analysis.frames import Cells, pick
from analysis.metrics.confidence import Difference, Estimate, by_family, difference

TABLE, SEQUENCE = "table", "Gaussian sequence"
AR, WEIGHTED, ODE, SDE = "sequential AR", "AR with weights", "diffusion ODE", "diffusion SDE"
CORRECTED, MALA, EXACT = "Feynman–Kac", "MALA", "exact draws"
# Diffusion of the tokens themselves: exact laws, and weighted draws.
MASKED, RATES, UNIFORM = "masked softmax", "masked rates", "uniform noise"
MASKED_WEIGHTED, RATES_WEIGHTED, UNIFORM_WEIGHTED = "softmax with weights", "rates with weights", "uniform with weights"
# Draws of exact laws, to compare with samplers that have no exact law: a finite number of draws is far from any law.
DRAWN = {name: f"{name}, drawn" for name in (AR, MASKED, RATES, UNIFORM)}
SCALE = 3.0
SMALLEST = 0.02  # the smallest difference of interest in total variation
REACHING = (WEIGHTED, CORRECTED, MALA, *acceptance.FAMILIES)  # the samplers whose limit is the joint tilt


def at_longest(frame: pd.DataFrame) -> tuple[int, dict[str, Estimate]]:
    """Return the largest length of the tables, and the total variation of every family there at γ = 3."""
    rows = pick(frame, law=TABLE, quantity="tv", scale=SCALE)
    length = int(rows["length"].max())
    return length, by_family(pick(rows, length=length))


def excess(tv: dict[str, Estimate]) -> dict[str, Difference]:
    """Return the excess of every sampler of the joint law over exact draws, with simultaneous intervals."""
    return {name: difference(tv[name], tv[EXACT], SMALLEST, len(REACHING)) for name in REACHING}


def drawn(frame: pd.DataFrame) -> Cells:
    """Return the table of every sampler's draws, compared with the same number of exact draws."""
    _, tv = at_longest(frame)
    gaps = excess(tv)
    rows = [[name, str(tv[name]), "–", "not corrected"] for name in (DRAWN[AR], ODE, SDE)]
    rows += [[name, str(tv[name]), gap.text, _decided(gap)] for name, gap in gaps.items()]
    return ("sampler", "total variation", "above exact draws", "decision"), [*rows, [EXACT, str(tv[EXACT]), "0", "the floor"]]


def _decided(gap: Difference) -> str:
    if gap.small:
        return f"by less than {SMALLEST:g}"
    return "above" if gap.clear and gap.mean > 0 else "not decided"


def tokens(frame: pd.DataFrame) -> Cells:
    """Return the table of diffusion of tokens: exact laws, draws, and draws with weights."""
    _, tv = at_longest(frame)
    pairs = {RATES: RATES_WEIGHTED, MASKED: MASKED_WEIGHTED, UNIFORM: UNIFORM_WEIGHTED}
    rows = [["left to right (sequential AR)", f"{tv[AR].value:.3f}", str(tv[DRAWN[AR]]), "–", "–", "–"]]
    for name, weighted in pairs.items():
        change = difference(tv[weighted], tv[DRAWN[name]], SMALLEST, len(pairs))
        cells = [f"{tv[name].value:.3f}", str(tv[DRAWN[name]]), str(tv[weighted]), change.text, change.answer]
        rows.append([name, *cells])
    return ("law", "exact law", "draws", "with weights", "change by weights", "decision"), rows


def hunch(frame: pd.DataFrame) -> str:
    """Return the length up to which the autoregressive law is the nearest, and the nearest law beyond, in words."""
    rows = pick(frame, law=SEQUENCE, quantity="w2", scale=SCALE)
    wide = rows.pivot(index="length", columns="family", values="value")[[AR, ODE, SDE]].dropna()
    lost = wide.index[wide.idxmin(axis=1) != AR]
    if lost.empty:
        return f"the autoregressive law is nearest up to T = {wide.index.max()}, against the hunch."
    beyond = f"the {wide.loc[lost[0]].idxmin()} is nearest at T = {', '.join(map(str, lost))}, as the hunch has it."
    kept = wide.index[wide.index < lost[0]]
    nearest_up_to = f"the autoregressive law is nearest up to T = {kept.max()}, against the hunch, and "
    return beyond if kept.empty else nearest_up_to + beyond
