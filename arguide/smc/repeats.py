"""Repeat a sample of the joint law and diagnose it: independent runs, and probes, runs with other proposals."""

from collections.abc import Callable, Sequence

from torch import Tensor

from arguide import checks
from arguide.smc.diagnostics import ADVICE, Diagnosis, diagnose
from arguide.smc.samples import Chains, JointSample

Draw = Callable[[], JointSample]


def repeat(
    draw: Draw,
    probes: Sequence[Draw],
    repeats: int,
    *,
    chains: Callable[[Sequence[JointSample]], Chains] | None = None,
    values: Callable[[JointSample], Tensor] | None = None,
    advice: str = ADVICE,
) -> tuple[list[JointSample], Diagnosis]:
    """Draw `repeats` runs and every probe; return the runs, and the diagnosis of runs and probes.

    Args:
        draw: draws a run.
        probes: each draws a run with another proposal on the same target.
        repeats: number of runs, 2 at least.
        chains: (runs and probes) ↦ Markov chains on the same target.
        values: run ↦ values whose means are compared between runs, [N, …].
        advice: the end of a negative verdict.

    Raises:
        ValueError: fewer than two runs; and as the draws.
    """
    checks.integer("repeats", repeats, 2)
    runs = [draw() for _ in range(repeats)]
    wider = [probe() for probe in probes]
    found = None if chains is None else chains([*runs, *wider])
    return runs, diagnose(runs, found, wider, values=None if values is None else [values(run) for run in runs], advice=advice)
