r"""Compare independent runs of weighted particles on one target, and report where they disagree.

Weights do not show which sequences all particles missed. So runs are repeated and compared in log Ẑ, in effective sample size,
in the number of ancestors and, where values are given, in means. Runs with one proposal may all miss the same rare tokens of
large weight. Probes look for such tokens: they are runs on the same target with another proposal. No finite number of runs
proves convergence, so the positive verdict is "no disagreement found"; benchmarks/README.md has its error rate.

Ẑ is unbiased for every proposal. So Ẑ, not log Ẑ, is averaged over two groups, runs and probes, with weights 1/(v_g + τ²).
Here m_g is the mean of Ẑ in a group, and v_g the variance of that mean. The variance between groups is
τ² = max(0, (m_1 − m_2)² − 4 (v_1 + v_2))/2, which is 0 for means that differ by less than two standard errors.
If the log Ẑ of a probe is more than half a nat larger than that of the runs, the v_g are too small, and all runs and probes
have equal weights.

Source: DerSimonian & Laird, "Meta-analysis in clinical trials" (1986), doi:10.1016/0197-2456(86)90046-2, for random effects.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from arguide import checks
from arguide.smc.samples import Chains, JointSample

# Limits of a positive verdict: nats, a share of N, ancestors, standard errors, and a ratio of standard deviations.
SPREAD, SHARE, ANCESTORS, DEVIATIONS, DISPERSION = 0.5, 0.05, 4, 4.0, 3.0


class Diagnosis(NamedTuple):
    """Comparison of R runs and P probes.

    log_evidence: log Ẑ, pooled over runs and probes.
    std_error: of log_evidence, from the spread of runs and probes.
    spread: standard deviation of log Ẑ over runs and probes.
    ess_share: the smallest effective sample size of a run after any move, over N.
    ancestors: the smallest number of distinct ancestors of a run.
    agreement: the largest difference between the means of particles and of chains, in standard errors; None without chains.
    missed: the largest log Ẑ of a probe minus the log of the mean Ẑ of the runs; None without probes.
    dispersion: see `dispersion`; None without values.
    consistent: whether no comparison exceeds its limit; this does not prove convergence.
    verdict: the comparisons in words, with advice.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> law = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 3.0)
        >>> found = arguide.diagnose(arguide.sample_joints(law, 4, 256, 2))
        >>> found.consistent, found.verdict.split(":")[0]
        (True, 'no disagreement found')
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
    runs: Sequence[JointSample],
    chains: Chains | None = None,
    probes: Sequence[JointSample] = (),
    *,
    values: Sequence[Tensor] | None = None,
    advice: str = ADVICE,
) -> Diagnosis:
    """Compare independent runs on one target with each other, with probes and with chains.

    Args:
        runs: two at least, with the same number of particles.
        chains: of `sample_metropolis`; runs and probes must then be samples of `sample_joint`.
        probes: runs on the same target with other proposals, see `transforms.defensive`.
        values: per run, values [N, …] whose means are compared.
        advice: the end of a negative verdict.

    Raises:
        ValueError: fewer than two runs.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> law = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 3.0)
        >>> arguide.diagnose(arguide.sample_joints(law, 4, 256, 2)).consistent
        True
    """
    if isinstance(runs, JointSample) or len(runs) < 2:
        count = 1 if isinstance(runs, JointSample) else len(runs)
        raise checks.refusal("runs", "two at least", count, "one run cannot be compared with itself")
    logs = torch.stack([run.log_evidence for run in (*runs, *probes)]).double()
    of_runs, of_probes = logs.tensor_split([len(runs)])
    missed = float(of_probes.max() - of_runs.logsumexp(0)) + math.log(len(runs)) if probes else None
    grouped = len(probes) > 1 and missed is not None and missed <= SPREAD
    log_evidence, std_error = _random_effects(of_runs, of_probes) if grouped else _mean_of(logs)
    found = Diagnosis(
        log_evidence=log_evidence,
        std_error=std_error,
        spread=float(logs.std()),
        ess_share=min((float(run.ess.min()) / len(run.log_weights) for run in runs if len(run.ess)), default=1.0),
        ancestors=min(run.ancestors for run in runs),
        agreement=None if chains is None else _agreement([*runs, *probes], logs, chains),
        missed=missed,
        dispersion=None if values is None else dispersion(runs, values),
        consistent=False,
        verdict="",
    )
    consistent, verdict = verdict_of(_doubts(found), _facts(found), advice)
    return found._replace(consistent=consistent, verdict=verdict)


def verdict_of(doubts: Iterable[str], facts: Iterable[str], advice: str) -> tuple[bool, str]:
    """Return whether there are no doubts, and the verdict in words.

    Args:
        doubts: sentences on the comparisons that exceed their limits.
        facts: sentences on all comparisons, of a positive verdict.
        advice: the end of a negative verdict.
    """
    if found := list(doubts):
        return False, f"not converged: {', '.join(found)}; {advice}"
    return True, f"no disagreement found: {', '.join(facts)}"


def over_runs(values: Sequence[float] | Tensor, log_evidences: Sequence[float] | Tensor) -> tuple[float, float]:
    """Return m = Σ_r W_r v_r over R runs, W_r ∝ Ẑ_r, and its standard error √(Σ_r W_r² (v_r − m)² R/(R − 1)).

    Args:
        values: v_r, the estimate of each run, [R].
        log_evidences: log Ẑ_r of each run, [R]; if all are equal, m is the plain mean.

    Raises:
        ValueError: shapes that differ, fewer than two runs, or numbers that are not finite.

    Example:
        >>> mean, error = arguide.over_runs([1.0, 2.0], [0.0, 0.0])
        >>> mean, round(error, 6)
        (1.5, 0.5)
    """
    rows, logs = (torch.as_tensor(each, dtype=torch.float64) for each in (values, log_evidences))
    if rows.ndim != 1 or rows.shape != logs.shape or len(rows) < 2:
        raise ValueError(f"values and log_evidences must be [R], R at least 2, got {tuple(rows.shape)} and {tuple(logs.shape)}")
    if not (rows.isfinite().all() and logs.amax().isfinite()):
        raise ValueError("values must be finite, and the largest of log_evidences too, got NaN or inf")
    weights = logs.softmax(0)
    mean = (weights * rows).sum()
    error = (weights.square() * (rows - mean).square()).sum() * len(rows) / (len(rows) - 1)
    return float(mean), float(error.sqrt())


def dispersion(runs: Sequence[JointSample], values: Sequence[Tensor]) -> float:
    """Return √(Σ_j Var_r(m_rj) / Σ_j mean_r(v_rj/n_r)), about 1 where effective sample sizes are right.

    m_rj and v_rj are the mean and variance of coordinate j in run r, and n_r is the smaller of its last effective sample size
    and its number of ancestors. Of the ratios for the values and for their squares the larger is returned. Weights with heavy
    tails make means vary far more than effective sample sizes imply.
    """
    return max(_dispersion(runs, [each.double() ** power for each in values]) for power in (1, 2))


def _dispersion(runs: Sequence[JointSample], values: Sequence[Tensor]) -> float:
    means, implied = [], []
    for run, rows in zip(runs, values, strict=True):
        weights, rows = run.log_weights.double().exp(), rows.flatten(1)
        means.append(weights @ rows)
        implied.append(weights @ (rows - means[-1]).square() / min(float(run.ess[-1]), run.ancestors))
    variance = torch.stack(implied).mean(0).sum()
    return float((torch.stack(means).var(0).sum() / variance.clamp(min=torch.finfo(variance.dtype).tiny)).sqrt())


def _mean_of(logs: Tensor) -> tuple[float, float]:
    """Return the log of the mean of Ẑ, and its standard error."""
    ratios = (logs - logs.max()).exp()
    return float(ratios.mean().log() + logs.max()), float(ratios.std() / ratios.mean() / math.sqrt(len(logs)))


def _random_effects(*groups: Tensor) -> tuple[float, float]:
    """Return the log of Ẑ averaged over two groups by the random-effects model, and its standard error."""
    top = torch.cat(groups).max()
    ratios = [(logs - top).exp() for logs in groups]
    means = torch.stack([each.mean() for each in ratios])
    variances = torch.stack([each.var() / len(each) for each in ratios])
    between = ((means[0] - means[1]).square() - 4 * variances.sum()).clamp(min=0) / 2
    weights = 1 / (variances + between).clamp(min=torch.finfo(variances.dtype).tiny)
    mean = (weights / weights.sum() * means).sum()
    return float(mean.log() + top), float(weights.sum().rsqrt() / mean)


def _doubts(found: Diagnosis) -> Iterator[str]:
    """Yield a sentence for every comparison that exceeds its limit."""
    if not found.spread <= SPREAD:
        yield f"log Ẑ differs by {found.spread:.2g} nats between runs"
    if not found.ess_share >= SHARE:
        yield f"the effective sample size falls to {found.ess_share:.1%} of the particles"
    if found.ancestors < ANCESTORS:
        yield f"only {found.ancestors} distinct {'ancestor remains' if found.ancestors == 1 else 'ancestors remain'}"
    if found.agreement is not None and not found.agreement <= DEVIATIONS:
        yield f"the means of particles and chains differ by {found.agreement:.1f} standard errors"
    if found.missed is not None and not found.missed <= SPREAD:
        yield f"log Ẑ is {found.missed:.2g} nats larger with another proposal"
    if found.dispersion is not None and not found.dispersion <= DISPERSION:
        yield f"the means of runs vary {found.dispersion:.1f} times as much as their effective sample sizes imply"


def _facts(found: Diagnosis) -> Iterator[str]:
    """Yield a sentence for every comparison."""
    yield f"log Ẑ agrees to {found.spread:.2g} nats between runs"
    yield f"the effective sample size is at least {found.ess_share:.0%} of the particles"
    yield f"{found.ancestors} distinct ancestors remain"
    if found.agreement is not None:
        yield f"the means of particles and chains agree within {found.agreement:.1f} standard errors"


def _agreement(runs: Sequence[JointSample], log_evidences: Tensor, chains: Chains) -> float:
    """Return the larger difference of the means of Σ log Z_t and of log p̃, in standard errors."""
    return max(
        _distance([_mean(run, getattr(run, name)) for run in runs], log_evidences, getattr(chains, name).double().sum(1))
        for name in ("log_normalizer", "log_target")
    )


def _distance(means: list[float], log_evidences: Tensor, chains: Tensor) -> float:
    """Return the difference between the means over runs and over chains, in standard errors."""
    mean, error = over_runs(means, log_evidences)
    distance = abs(mean - float(chains.mean()))
    return distance / max(math.sqrt(error**2 + float(chains.var()) / len(chains)), 1e-9)


def _mean(run: JointSample, rows: Tensor) -> float:
    """Return the weighted mean of sums over tokens; rows of weight 0 may hold any value, NaN included."""
    weights = run.log_weights.double().exp()
    return float((weights * rows.double().sum(1).masked_fill(weights == 0, 0.0)).sum())
