r"""What samplers return: `Info` per step, and `Sample`, `JointSample` or `Chains` per call, with the same fields in both wings.

A sampler draws x_t with proposal density q_t and targets the unnormalised density p̃_t. Then

    log weight of x = Σ_t (log p̃_t − log q_t),    log Ẑ = log of the mean weight,    E[Ẑ] = Z.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from arguide import checks


class Info(NamedTuple):
    """Densities of one step, [n] each, or of k steps, [n, k] each.

    log_target: log p̃_t, unnormalised.
    log_proposal: log q_t.
    log_normalizer: log Z_t of the step.
    """

    log_target: Tensor
    log_proposal: Tensor
    log_normalizer: Tensor

    @classmethod
    def stack(cls, steps: Sequence[Self]) -> Self:
        """Return k steps as one, [n, k]; there must be at least one."""
        return cls(*(torch.stack(column, 1) for column in zip(*steps, strict=True)))

    @property
    def log_weight(self) -> Tensor:
        """Log incremental weight log p̃ − log q, summed over the steps, [n]."""
        increments = self.log_target - self.log_proposal
        return increments.sum(1) if increments.ndim > 1 else increments


class Sample(NamedTuple):
    """n draws.

    x: tokens [n, T], or values [n, …].
    log_target, log_proposal, log_normalizer: see `Info`, [n, steps] each.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> drawn = arguide.sample(table.autoregressive(1), 5, 2)
        >>> drawn.tokens.shape, bool(drawn.log_weights.abs().max() < 1e-12)
        (torch.Size([5, 2]), True)
    """

    x: Tensor
    log_target: Tensor
    log_proposal: Tensor
    log_normalizer: Tensor

    @property
    def tokens(self) -> Tensor:
        """The same as x, [n, T] for a sampler of tokens."""
        return self.x

    @property
    def log_weights(self) -> Tensor:
        """Unnormalised log-weights Σ_t (log p̃_t − log q_t), [n]."""
        return Info(*self[1:]).log_weight


class JointSample(NamedTuple):
    """N weighted particles that follow the joint law.

    x: tokens [N, T] (padded with the ending token), or values [N, …].
    log_weights: [N], normalised to Σ exp = 1.
    log_evidence: log Ẑ, [].
    ess: effective sample size after every move, before resampling, [moves].
    ancestors: number of distinct first ancestors.
    std_error: standard error of log Ẑ, [], see `driver.Population.std_error`.
    evidences: log Ẑ of all steps up to each move, [moves].
    log_target: log p̃_t along every particle's ancestry, [N, steps].
    log_normalizer: log Z_t along it, [N, steps].

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> law = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 3.0)
        >>> drawn = arguide.sample_joint(law, 1000, 2)
        >>> drawn.draw(3).shape, round(float(drawn.log_weights.exp().sum()), 6)
        (torch.Size([3, 2]), 1.0)
    """

    x: Tensor
    log_weights: Tensor
    log_evidence: Tensor
    ess: Tensor
    ancestors: int
    std_error: Tensor
    evidences: Tensor
    log_target: Tensor
    log_normalizer: Tensor

    @property
    def tokens(self) -> Tensor:
        """The same as x, [N, T] for a sampler of tokens."""
        return self.x

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return n particles drawn by weight, [n, …]: importance resampling."""
        checks.integer("n", n), checks.generator(generator)
        return self.x[torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)]


class Chains(NamedTuple):
    """n Markov chains after their last step.

    x: tokens [n, T], or values [n, …].
    accepted: share of accepted steps, [n]; 1 for an unadjusted chain.
    log_target: log p̃ of x, [n, T] for tokens, [n, 1] for a density up to a constant, [n, 0] without a density.
    log_normalizer: log Z_t along x, of the shape of log_target; 0 for a density.
    log_weight: log p̃(x)/q(x) after every step, [steps, n]; [0, n] for chains without an independent proposal.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> chains = arguide.sample_metropolis(table.autoregressive(1), 5, 2, 3)
        >>> chains.tokens.shape, chains.accepted.mean()
        (torch.Size([5, 2]), tensor(1.))
    """

    x: Tensor
    accepted: Tensor
    log_target: Tensor
    log_normalizer: Tensor
    log_weight: Tensor

    @property
    def tokens(self) -> Tensor:
        """The same as x, [n, T] for chains of tokens."""
        return self.x


def effective_sample_size(log_weights: Tensor) -> Tensor:
    """Return (Σ w)² / Σ w² of unnormalised log-weights, [..., N] ↦ [...]."""
    return (2 * log_weights.logsumexp(-1) - (2 * log_weights).logsumexp(-1)).exp()


def pooled(runs: Sequence[JointSample]) -> JointSample:
    """Return independent runs as one sample of all their particles, each run weighted by its Ẑ.

    `std_error` is that of log Ẑ from the spread of the runs: √(Σ_r (W_r − a_r)² R/(R − 1)) with a_r = n_r/Σ n, W_r ∝ n_r Ẑ_r.

    Raises:
        ValueError: fewer than two runs.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> law = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 3.0)
        >>> arguide.pooled(arguide.sample_joints(law, 3, 100, 2)).tokens.shape
        torch.Size([300, 2])
    """
    if isinstance(runs, JointSample) or len(runs) < 2:
        found = 1 if isinstance(runs, JointSample) else len(runs)
        raise checks.refusal("runs", "at least two independent samples", found, "one run gives no standard error")
    logs = torch.stack([run.log_evidence + math.log(len(run.x)) for run in runs])
    log_weights = torch.cat([run.log_weights + log for run, log in zip(runs, logs, strict=True)]).log_softmax(0)
    sizes = torch.tensor([len(run.x) for run in runs]).to(logs)
    off = logs.softmax(0) - sizes / sizes.sum()
    return JointSample(
        x=_joined([run.x for run in runs], repeat_last=True),
        log_weights=log_weights,
        log_evidence=logs.logsumexp(0) - math.log(sum(len(run.x) for run in runs)),
        ess=effective_sample_size(log_weights)[None],
        ancestors=sum(run.ancestors for run in runs),
        std_error=(off.square().sum() * len(runs)).div(len(runs) - 1).sqrt(),
        evidences=logs[:0],
        log_target=_joined([run.log_target for run in runs]),
        log_normalizer=_joined([run.log_normalizer for run in runs]),
    )


def _joined(parts: Sequence[Tensor], *, repeat_last: bool = False) -> Tensor:
    """Concatenate rows [n, t, …], padded to the largest t with 0, or with their last column."""
    width = max(part.shape[1] for part in parts)
    if not repeat_last:
        return torch.cat([functional.pad(part, (0, width - part.shape[1])) for part in parts])
    return torch.cat([part[:, torch.arange(width, device=part.device).clamp(max=part.shape[1] - 1)] for part in parts])
