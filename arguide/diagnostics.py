r"""Whether a joint sample can be trusted: repeats against one another, and against a second route to the same law.

Weights never say by themselves that something was missed: what no particle has found has no weight. So runs are repeated,
and compared in log Ẑ, in how many particles count, in how many first particles the last ones descend from, and, if chains are
given, in the means of Σ_t log Z_t and of log p̃(x), which both routes estimate without Z. Yet all of them draw from the same
proposal, and may miss the same rare words of great weight; so probes look where it does not, with a share of uniform draws.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arguide.metropolis import Chains, sample_metropolis
from arguide.models import Autoregressive
from arguide.particles import JointSample, pooled, sample_joint
from arguide.truncation import Transform, compose, defensive, identity

# Beyond these a run is not trusted: nats between runs, a share of N, particles, standard errors.
SPREAD, SHARE, ANCESTORS, DEVIATIONS = 0.5, 0.05, 4, 4.0
WIDER = 0.1  # the share of uniform draws of a probe


class Diagnosis(NamedTuple):
    """What R runs say of one another.

    log_evidence: log of the mean of Ẑ over the runs.
    std_error: of log_evidence, from their spread.
    spread: standard deviation of log Ẑ over the runs.
    ess_share: the least effective sample size after any move, over N.
    ancestors: the least number of first particles that are left.
    agreement: the largest distance of the particles' means from the chains', in standard errors; None without chains.
    missed: how much larger log Ẑ of a probe is at most; None without probes.
    trusted: whether nothing speaks against the runs.
    verdict: that, in words, and what to do.
    """

    log_evidence: float
    std_error: float
    spread: float
    ess_share: float
    ancestors: int
    agreement: float | None
    missed: float | None
    trusted: bool
    verdict: str


def diagnose(runs: Sequence[JointSample], chains: Chains | None = None, probes: Sequence[JointSample] = ()) -> Diagnosis:
    """Compare independent runs of `sample_joint` on one target, and chains of `sample_metropolis` on it.

    Args:
        runs: two at least, of one number of particles.
        probes: further runs on the target, from a wider proposal, see `truncation.defensive`.

    Raises:
        ValueError: fewer than two runs.
    """
    if len(runs) < 2:
        raise ValueError("one run cannot be compared with itself; give two at least")
    logs = torch.stack([run.log_evidence for run in runs]).double()
    ratios = (logs - logs.max()).exp()
    log_evidence = float(ratios.mean().log() + logs.max())
    std_error = float(ratios.std() / ratios.mean() / math.sqrt(len(runs)))
    spread = float(logs.std())
    share = min((float(run.ess.min()) / len(run.tokens) for run in runs if len(run.ess)), default=1.0)
    ancestors = min(run.ancestors for run in runs)
    agreement = None if chains is None else _agreement(runs, logs, chains)
    missed = max((float(probe.log_evidence) - log_evidence for probe in probes), default=None)
    doubts = _doubts(spread, share, ancestors, agreement, missed)
    verdict = "trusted: " + _facts(spread, share, ancestors, agreement)
    if doubts:
        verdict = f"not converged: {', '.join(doubts)}; use more particles, a scale and a power nearer 1, or shorter texts"
    return Diagnosis(log_evidence, std_error, spread, share, ancestors, agreement, missed, not doubts, verdict)


def repeat_joint(
    model: Autoregressive,
    n: int,
    length: int,
    *,
    repeats: int = 4,
    chains: int = 32,
    steps: int = 8,
    probes: int = 2,
    generator: torch.Generator | None = None,
    transform: Transform = identity,
    **options: Any,
) -> tuple[list[JointSample], Diagnosis]:
    """Draw from the joint law several times, and check it: `repeats` runs of `sample_joint`, chains from their texts, probes.

    Where the particles follow the law, chains that start at them leave it as it is.

    Args:
        model, n, length, transform, options: as in `sample_joint`.
        chains: number of chains, n at most.
        steps: of every chain.
        probes: number of runs from a proposal that draws a tenth of its tokens evenly.

    Raises:
        ValueError: fewer than two runs; and as `sample_joint`.
    """
    sample = partial(sample_joint, model, n, length, generator=generator, **options)
    runs = [sample(transform=transform) for _ in range(repeats)]
    wider = [sample(transform=compose(transform, defensive(WIDER))) for _ in range(probes)]
    first = pooled(runs).draw(min(chains, n), generator)
    kept = sample_metropolis(model, len(first), length, steps, first=first, transform=transform, generator=generator)
    return runs, diagnose(runs, kept, wider)


def over_runs(values: Sequence[float] | Tensor, log_evidences: Sequence[float] | Tensor) -> tuple[float, float]:
    """Return the mean over R runs, each weighted by its Ẑ, and its standard error: √(Σ_r W_r² (v_r − mean)² R/(R − 1)).

    Args:
        values: v_r, what every run estimates, [R].
        log_evidences: log Ẑ of every run, [R]; equal ones make the mean that of equals.
    """
    rows = torch.as_tensor(values, dtype=torch.float64)
    weights = torch.as_tensor(log_evidences, dtype=torch.float64).softmax(0)
    if rows.ndim != 1 or rows.shape != weights.shape or len(rows) < 2:
        raise ValueError(
            f"values and log_evidences must be [R], R at least 2, got {tuple(rows.shape)} and {tuple(weights.shape)}"
        )
    mean = (weights * rows).sum()
    error = (weights.square() * (rows - mean).square()).sum() * len(rows) / (len(rows) - 1)
    return float(mean), float(error.sqrt())


def _doubts(spread: float, share: float, ancestors: int, agreement: float | None, missed: float | None) -> list[str]:
    doubts = []
    if not spread <= SPREAD:
        doubts.append(f"log Ẑ differs by {spread:.2g} nats between runs")
    if not share >= SHARE:
        doubts.append(f"{share:.1%} of the particles count at the worst step")
    if ancestors < ANCESTORS:
        doubts.append("all particles descend from " + ("one" if ancestors == 1 else f"{ancestors}"))
    if agreement is not None and not agreement <= DEVIATIONS:
        doubts.append(f"particles and chains disagree by {agreement:.1f} standard errors")
    if missed is not None and not missed <= SPREAD:
        doubts.append(f"a wider proposal finds log Ẑ to be {missed:.2g} nats more")
    return doubts


def _facts(spread: float, share: float, ancestors: int, agreement: float | None) -> str:
    facts = [f"log Ẑ agrees to {spread:.2g} nats between runs", f"{share:.0%} of the particles count at the worst step"]
    facts.append(f"{ancestors} first particles are left")
    if agreement is not None:
        facts.append(f"chains agree within {agreement:.1f} standard errors")
    return ", ".join(facts)


def _agreement(runs: Sequence[JointSample], log_evidences: Tensor, chains: Chains) -> float:
    """Return the largest distance of two means, Σ log Z_t and log p̃, in standard errors."""
    return max(
        _distance([_mean(run, run.log_normalizer) for run in runs], log_evidences, chains.log_normalizer.double().sum(1)),
        _distance([_mean(run, run.log_target) for run in runs], log_evidences, chains.log_target.double().sum(1)),
    )


def _distance(means: list[float], log_evidences: Tensor, chains: Tensor) -> float:
    """Return how far the mean over runs is from that over chains."""
    mean, error = over_runs(means, log_evidences)
    apart = abs(mean - float(chains.mean()))
    return apart / max(math.sqrt(error**2 + float(chains.var()) / len(chains)), 1e-9)


def _mean(run: JointSample, rows: Tensor) -> float:
    """Return the weighted mean of a sum over tokens; rows of weight 0 may hold anything."""
    weights = run.log_weights.double().exp()
    return float((weights * rows.double().sum(1).masked_fill(weights == 0, 0.0)).sum())
