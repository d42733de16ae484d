r"""Compare independent runs of weighted particles on one target, and report where they disagree.

Weights never show what every particle missed. So runs are repeated and compared in log Ẑ, in effective sample size, in the
number of ancestors, and, where the caller gives values, in means. Runs with one proposal may all miss the same rare words
of great weight; probes, runs on the same target with another proposal, look for those. No finite number of runs proves
convergence, so the positive verdict is "no disagreement found"; benchmarks/README.md has its rate of errors.

Each Ẑ is unbiased whatever its proposal, so log Ẑ is pooled over runs and probes, two groups with weights 1/(v_g + τ²), v_g
the variance of a group's mean. The variance between groups is τ² = max(0, (m_1 − m_2)² − 4 (v_1 + v_2))/2: means that
differ by less than two standard errors are taken for equal. Where a probe finds log Ẑ to be more than half a nat larger,
the v_g are too small, and all runs and probes have equal weights.

Source: DerSimonian & Laird, "Meta-analysis in clinical trials" (1986), for random effects.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

# Limits of a positive verdict: nats, a share of N, particles, standard errors, and a ratio of standard deviations.
SPREAD, SHARE, ANCESTORS, DEVIATIONS, DISPERSION = 0.5, 0.05, 4, 4.0, 3.0


class Run(Protocol):
    """N weighted particles of one run."""

    @property
    def log_weights(self) -> Tensor:
        """Normalised log-weights, [N]."""

    @property
    def log_evidence(self) -> Tensor:
        """Log Ẑ, []."""

    @property
    def ess(self) -> Tensor:
        """Effective sample size after every move."""

    @property
    def ancestors(self) -> int:
        """Number of distinct first particles left at the end."""


class Route(Protocol):
    """Chains on the same target, see `metropolis.Chains`."""

    @property
    def log_target(self) -> Tensor:
        """Log p̃(x_t|x_<t), [n, T]."""

    @property
    def log_normalizer(self) -> Tensor:
        """Log Z_t(x_<t), [n, T]."""


class Diagnosis(NamedTuple):
    """Comparison of R runs and P probes.

    log_evidence: log Ẑ, pooled over runs and probes.
    std_error: of log_evidence, from the spread of runs and probes.
    spread: standard deviation of log Ẑ over runs and probes.
    ess_share: the smallest effective sample size of a run after any move, over N.
    ancestors: the smallest number of distinct ancestors of a run.
    agreement: the largest distance of the particles' means from the chains', in standard errors; None without chains.
    missed: the largest log Ẑ of a probe minus log of the mean of Ẑ over the runs; None without probes.
    dispersion: standard deviation of the runs' means over what their effective sample sizes imply; None without values.
    consistent: whether no comparison exceeds its limit. It is no proof of convergence.
    verdict: the same in words, with advice.
    """

    log_evidence: float
    std_error: float
    spread: float
    ess_share: float
    ancestors: int
    agreement: float | None
    missed: float | None
    dispersion: float | None
    consistent: bool
    verdict: str


ADVICE = "use more particles, a scale and a power nearer 1, or shorter texts"


def diagnose(
    runs: Sequence[Run],
    chains: Route | None = None,
    probes: Sequence[Run] = (),
    *,
    values: Sequence[Tensor] | None = None,
    advice: str = ADVICE,
) -> Diagnosis:
    """Compare independent runs on one target with one another, with probes and with chains.

    Args:
        runs: two at least, of one number of particles.
        chains: of `sample_metropolis`; the runs and probes must then be those of `sample_joint`.
        probes: runs on the same target from other proposals, see `transforms.defensive`.
        values: what is averaged to compare the runs, [N, …] for each of them.
        advice: what a negative verdict recommends.

    Raises:
        ValueError: fewer than two runs.
    """
    if len(runs) < 2:
        raise ValueError(f"runs must be two at least, got {len(runs)}; one run cannot be compared with itself")
    own, every = _logs(runs), _logs([*runs, *probes])
    missed = float(every[len(runs) :].max() - own.logsumexp(0)) + math.log(len(runs)) if probes else None
    apart = len(probes) > 1 and missed is not None and missed <= SPREAD
    log_evidence, std_error = _pooled(own, every[len(runs) :]) if apart else _mean_of(every)
    found = Diagnosis(
        log_evidence=log_evidence,
        std_error=std_error,
        spread=float(every.std()),
        ess_share=min((float(run.ess.min()) / len(run.log_weights) for run in runs if len(run.ess)), default=1.0),
        ancestors=min(run.ancestors for run in runs),
        agreement=None if chains is None else _agreement([*runs, *probes], every, chains),
        missed=missed,
        dispersion=None if values is None else dispersion(runs, values),
        consistent=False,
        verdict="",
    )
    doubts = _doubts(found)
    verdict = f"not converged: {', '.join(doubts)}; {advice}" if doubts else f"no disagreement found: {_facts(found)}"
    return found._replace(consistent=not doubts, verdict=verdict)


def over_runs(values: Sequence[float] | Tensor, log_evidences: Sequence[float] | Tensor) -> tuple[float, float]:
    """Return the mean over R runs, each weighted by its Ẑ, and its standard error: √(Σ_r W_r² (v_r − mean)² R/(R − 1)).

    Args:
        values: v_r, what every run estimates, [R].
        log_evidences: log Ẑ of every run, [R]; equal ones make the mean that of equals.

    Raises:
        ValueError: shapes that differ, fewer than two runs, or numbers that are not finite.
    """
    rows, logs = (torch.as_tensor(each, dtype=torch.float64) for each in (values, log_evidences))
    if rows.ndim != 1 or rows.shape != logs.shape or len(rows) < 2:
        raise ValueError(f"values and log_evidences must be [R], R at least 2, got {tuple(rows.shape)} and {tuple(logs.shape)}")
    if not (rows.isfinite().all() and logs.amax().isfinite()):
        raise ValueError("values must be finite and log_evidences not NaN, +inf or all -inf, got others")
    weights = logs.softmax(0)
    mean = (weights * rows).sum()
    error = (weights.square() * (rows - mean).square()).sum() * len(rows) / (len(rows) - 1)
    return float(mean), float(error.sqrt())


def dispersion(runs: Sequence[Run], values: Sequence[Tensor]) -> float:
    """Return √(Σ_j Var_r(m_rj) / Σ_j mean_r(v_rj/n_r)), about 1 where effective sample sizes are honest.

    m_rj and v_rj are mean and variance of coordinate j in run r, and n_r is its last effective sample size or, where it is
    smaller, its number of ancestors. The larger of the ratios for the values and for their squares is returned: where weights
    have heavy tails, means scatter far more than effective sample sizes imply.
    """
    return max(_dispersion(runs, [each.double() ** power for each in values]) for power in (1, 2))


def _dispersion(runs: Sequence[Run], values: Sequence[Tensor]) -> float:
    means, claims = [], []
    for run, rows in zip(runs, values, strict=True):
        weights, rows = run.log_weights.double().exp(), rows.flatten(1)
        means.append(weights @ rows)
        claims.append(weights @ (rows - means[-1]).square() / min(float(run.ess[-1]), run.ancestors))
    claimed = torch.stack(claims).mean(0).sum()
    return float((torch.stack(means).var(0).sum() / claimed.clamp(min=torch.finfo(claimed.dtype).tiny)).sqrt())


def _mean_of(logs: Tensor) -> tuple[float, float]:
    """Return log of the mean of Ẑ, and the standard error of that log."""
    ratios = (logs - logs.max()).exp()
    return float(ratios.mean().log() + logs.max()), float(ratios.std() / ratios.mean() / math.sqrt(len(logs)))


def _pooled(*groups: Tensor) -> tuple[float, float]:
    """Return log Ẑ of two groups by the random-effects model, and its standard error."""
    top = torch.cat(groups).max()
    ratios = [(logs - top).exp() for logs in groups]
    means = torch.stack([each.mean() for each in ratios])
    variances = torch.stack([each.var() / len(each) for each in ratios])
    between = ((means[0] - means[1]).square() - 4 * variances.sum()).clamp(min=0) / 2
    weights = 1 / (variances + between).clamp(min=torch.finfo(variances.dtype).tiny)
    mean = (weights / weights.sum() * means).sum()
    return float(mean.log() + top), float(weights.sum().rsqrt() / mean)


def _logs(runs: Sequence[Run]) -> Tensor:
    return torch.stack([run.log_evidence for run in runs]).double()


def _doubts(found: Diagnosis) -> list[str]:
    doubts = []
    if not found.spread <= SPREAD:
        doubts.append(f"log Ẑ differs by {found.spread:.2g} nats between runs")
    if not found.ess_share >= SHARE:
        doubts.append(f"the effective sample size falls to {found.ess_share:.1%} of the particles")
    if found.ancestors < ANCESTORS:
        doubts.append("all particles descend from " + ("one" if found.ancestors == 1 else f"{found.ancestors}"))
    if found.agreement is not None and not found.agreement <= DEVIATIONS:
        doubts.append(f"particles and chains disagree by {found.agreement:.1f} standard errors")
    if found.missed is not None and not found.missed <= SPREAD:
        doubts.append(f"another proposal finds log Ẑ to be {found.missed:.2g} nats more")
    if found.dispersion is not None and not found.dispersion <= DISPERSION:
        doubts.append(f"means differ between runs {found.dispersion:.1f} times as much as their effective sample sizes imply")
    return doubts


def _facts(found: Diagnosis) -> str:
    facts = [f"log Ẑ agrees to {found.spread:.2g} nats between runs"]
    facts.append(f"the effective sample size is at least {found.ess_share:.0%} of the particles")
    facts.append(f"{found.ancestors} distinct ancestors remain")
    if found.agreement is not None:
        facts.append(f"chains agree within {found.agreement:.1f} standard errors")
    return ", ".join(facts)


def _agreement(runs: Sequence[Run], log_evidences: Tensor, chains: Route) -> float:
    """Return the largest distance of two means, Σ log Z_t and log p̃, in standard errors."""
    return max(
        _distance([_mean(run, getattr(run, name)) for run in runs], log_evidences, getattr(chains, name).double().sum(1))
        for name in ("log_normalizer", "log_target")
    )


def _distance(means: list[float], log_evidences: Tensor, chains: Tensor) -> float:
    """Return how far the mean over runs is from that over chains."""
    mean, error = over_runs(means, log_evidences)
    distance = abs(mean - float(chains.mean()))
    return distance / max(math.sqrt(error**2 + float(chains.var()) / len(chains)), 1e-9)


def _mean(run: Run, rows: Tensor) -> float:
    """Return the weighted mean of a sum over tokens; rows of weight 0 may hold anything."""
    weights = run.log_weights.double().exp()
    return float((weights * rows.double().sum(1).masked_fill(weights == 0, 0.0)).sum())
