r"""Whether a joint sample can be trusted: repeats against one another, and against a second route to the same law.

Weights never say by themselves that something was missed: what no particle has found has no weight. So runs are repeated,
and compared in log Ẑ, in how many particles count, in how many first particles the last ones descend from, and, if chains are
given, in the means of Σ_t log Z_t and of log p̃(x), which both routes estimate without Z.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from arguide.metropolis import Chains
from arguide.particles import JointSample

# Beyond these a run is not trusted: nats between runs, a share of N, particles, standard errors.
SPREAD, SHARE, ANCESTORS, DEVIATIONS = 0.5, 0.05, 4, 4.0


class Diagnosis(NamedTuple):
    """What R runs say of one another.

    log_evidence: log of the mean of Ẑ over the runs.
    std_error: of log_evidence, from their spread.
    spread: standard deviation of log Ẑ over the runs.
    ess_share: the least effective sample size after any move, over N.
    ancestors: the least number of first particles that are left.
    agreement: the largest distance of the particles' means from the chains', in standard errors; None without chains.
    trusted: whether nothing speaks against the runs.
    verdict: that, in words, and what to do.
    """

    log_evidence: float
    std_error: float
    spread: float
    ess_share: float
    ancestors: int
    agreement: float | None
    trusted: bool
    verdict: str


def diagnose(runs: Sequence[JointSample], chains: Chains | None = None) -> Diagnosis:
    """Compare independent runs of `sample_joint` on one target, and chains of `sample_metropolis` on it.

    Args:
        runs: two at least, of one number of particles.

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
    agreement = None if chains is None else _agreement(runs, ratios, chains)
    doubts = _doubts(spread, share, ancestors, agreement)
    verdict = "trusted: " + _facts(spread, share, ancestors, agreement)
    if doubts:
        verdict = f"not converged: {', '.join(doubts)}; use more particles, a scale nearer 1, or shorter texts"
    return Diagnosis(log_evidence, std_error, spread, share, ancestors, agreement, not doubts, verdict)


def _doubts(spread: float, share: float, ancestors: int, agreement: float | None) -> list[str]:
    doubts = []
    if not spread <= SPREAD:
        doubts.append(f"log Ẑ differs by {spread:.2g} nats between runs")
    if not share >= SHARE:
        doubts.append(f"{share:.1%} of the particles count at the worst step")
    if ancestors < ANCESTORS:
        doubts.append("all particles descend from " + ("one" if ancestors == 1 else f"{ancestors}"))
    if agreement is not None and not agreement <= DEVIATIONS:
        doubts.append(f"particles and chains disagree by {agreement:.1f} standard errors")
    return doubts


def _facts(spread: float, share: float, ancestors: int, agreement: float | None) -> str:
    facts = [f"log Ẑ agrees to {spread:.2g} nats between runs", f"{share:.0%} of the particles count at the worst step"]
    facts.append(f"{ancestors} first particles are left")
    if agreement is not None:
        facts.append(f"chains agree within {agreement:.1f} standard errors")
    return ", ".join(facts)


def _agreement(runs: Sequence[JointSample], ratios: Tensor, chains: Chains) -> float:
    """Return the largest distance of two means, Σ log Z_t and log p̃, in standard errors."""
    return max(
        _distance([_mean(run, run.log_normalizer) for run in runs], ratios, chains.log_normalizer.double().sum(1)),
        _distance([_mean(run, run.log_target) for run in runs], ratios, chains.log_target.double().sum(1)),
    )


def _distance(means: list[Tensor], ratios: Tensor, chains: Tensor) -> float:
    """Return how far the mean over runs, weighted by Ẑ, is from that over chains."""
    values, weights = torch.stack(means), ratios / ratios.sum()
    mean = (weights * values).sum()
    error = (weights.square() * (values - mean).square()).sum() * len(means) / (len(means) - 1)
    return float((mean - chains.mean()).abs() / (error + chains.var() / len(chains)).sqrt().clamp(min=1e-9))


def _mean(run: JointSample, rows: Tensor) -> Tensor:
    """Return the weighted mean of a sum over tokens; rows of weight 0 may hold anything."""
    weights = run.log_weights.double().exp()
    return (weights * rows.double().sum(1).masked_fill(weights == 0, 0.0)).sum()
