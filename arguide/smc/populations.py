r"""Many small populations with one target: one draw from each, and statistics of convergence.

Particles of one population share ancestors, so n independent draws need n populations, one draw per population. The bias of a
draw is about Var(Ẑ)/Z² of its population.
"""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from arguide.smc.draws import categorical
from arguide.smc.samples import JointSample, effective_sample_size


class WeightSpread(NamedTuple):
    """Statistics of the log-weights Σ log Z of independent draws, means over groups.

    ess_share: effective sample size over n.
    log_path, log_path_spread: mean and standard deviation of Σ log Z, in nats.
    """

    ess_share: float
    log_path: float
    log_path_spread: float


class Convergence(NamedTuple):
    """Statistics of populations on the same targets, means over targets.

    ess_share: the smallest ESS of a population after any move, over N.
    ancestors: distinct ancestors over N.
    log_z: log of the mean Ẑ.
    log_z_apart: absolute difference of log Ẑ between the two halves of the populations, in nats.
    left: Var(Ẑ)/Z², a proxy for the remaining bias.
    """

    ess_share: float
    ancestors: float
    log_z: float
    log_z_apart: float
    left: float


def weight_spread(log_weights: Tensor) -> WeightSpread:
    """Return the statistics of unresampled log-weights, [groups, n]."""
    return WeightSpread(
        fmean(float(effective_sample_size(each)) / len(each) for each in log_weights),
        fmean(float(each.mean()) for each in log_weights),
        fmean(float(each.std()) for each in log_weights),
    )


def convergence(runs: Sequence[JointSample], targets: int) -> Convergence:
    """Return the statistics of populations, the same number for each target, one target after another."""
    logs = torch.stack([run.log_evidence for run in runs]).double().reshape(targets, -1)
    halves = torch.stack([half.logsumexp(1) - math.log(half.shape[1]) for half in logs.tensor_split(2, 1)])
    relative = (logs - logs.logsumexp(1, keepdim=True)).exp() * logs.shape[1]
    return Convergence(
        ess_share=fmean(float(run.ess.min()) / len(run.log_weights) for run in runs),
        ancestors=fmean(run.ancestors / len(run.log_weights) for run in runs),
        log_z=float((logs.logsumexp(1) - math.log(logs.shape[1])).mean()),
        log_z_apart=float((halves[0] - halves[1]).abs().mean()),
        left=float(relative.var(1).mean()),
    )


def one_each(runs: Sequence[JointSample], generator: torch.Generator | None = None) -> Tensor:
    """Return one particle per population, drawn by weight, [G, …]."""
    index = categorical(generator)(torch.stack([run.log_weights for run in runs]).log_softmax(1))
    return torch.stack([run.x[i] for run, i in zip(runs, index.tolist(), strict=True)])
