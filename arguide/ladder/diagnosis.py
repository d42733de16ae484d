r"""Diagnose a run of a ladder: its measurements and a verdict.

A ladder converges only if texts travel: from level 0, where they are drawn afresh, to the target and back. The verdict counts
these round trips, and compares both halves of the run and both estimates of log Z. A mode that no text has found shows in none
of these, so the positive verdict is "no disagreement found".
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from arguide.ladder import estimates
from arguide.ladder.replicas import Info
from arguide.ladder.texts import Levels, Texts
from arguide.smc.diagnostics import verdict_of

# Limits of a positive verdict: the standard error of log Ẑ and differences in nats, the share of exchanges, round trips per
# ladder, and standard errors of a difference.
ERROR, NATS, SWAPPED, TRIPS, DEVIATIONS = 0.15, 0.25, 0.1, 1.0, 4.0
# Standard errors of a drift, independent texts per ladder, and the autocorrelation at which its sum ends.
APART, LEAST, CORRELATED = 3.0, 5.0, 0.05
ADVICE = "use more sweeps, more levels, a scale and a power nearer 1, or shorter texts"


class Ladder(NamedTuple):
    """n independent ladders of L levels.

    x: texts of the target, [m·n, T], with padding after their ends; row i·n + j is text i of ladder j, the last one of each
        after the last sweep.
    log_target: log p̃ of their tokens, [m·n, T].
    log_normalizer: log Z_t along them, [m·n, T].
    levels: u, [L], from 0 at the exact law to 1 at the target; the scale of guidance is 1 + u (γ − 1).
    ratios: r(x) of the texts of every level after every sweep, [sweeps, L, n].
    log_evidence: log Ẑ by the multistate Bennett acceptance ratio, [].
    std_error: its standard error, from the spread over ladders, [].
    log_evidences: the value of each ladder to first order, [n]; log Ẑ is their mean.
    integrated: log Ẑ by thermodynamic integration, []; NaN where r is infinite at level 0.
    accepted: share of suffixes that were accepted at levels 1 to L − 1, [L − 1].
    exchanged: share of exchanges that were accepted between neighbouring levels, [L − 1].
    round_trips: number of texts that came from level 0 to the target and returned, over all ladders.
    halves: log Ẑ of the second half of the sweeps minus that of the first, and its standard error.
    consistent: whether no comparison exceeds its limit; this does not prove convergence.
    verdict: the comparisons in words, with advice.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> law = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 3.0)
        >>> ladder = arguide.sample_ladder(law, 16, 2, levels=3, sweeps=100, burn_in=24)
        >>> ladder.exchanged.shape, ladder.verdict.split(":")[0]
        (torch.Size([2]), 'no disagreement found')
    """

    x: Tensor
    log_target: Tensor
    log_normalizer: Tensor
    levels: Tensor
    ratios: Tensor
    log_evidence: Tensor
    std_error: Tensor
    log_evidences: Tensor
    integrated: Tensor
    accepted: Tensor
    exchanged: Tensor
    round_trips: int
    halves: tuple[float, float]
    consistent: bool
    verdict: str

    @property
    def tokens(self) -> Tensor:
        """The same as x, [m·n, T]."""
        return self.x


def diagnosed(levels: Levels, texts: Texts, info: Info) -> Ladder:
    """Return the result of a run.

    Args:
        levels: the laws.
        texts: of the target, m·n.
        info: of the sweeps, stacked, [sweeps, …].
    """
    log_evidence, std_error, change = estimates.log_evidence(levels.u, info.ratios, info.log_weights)
    found = Ladder(
        x=texts.tokens,
        log_target=texts.log_target,
        log_normalizer=texts.log_normalizers[..., -1],
        levels=levels.u,
        ratios=info.ratios,
        log_evidence=log_evidence,
        std_error=std_error,
        log_evidences=log_evidence + change,
        integrated=estimates.integrated(levels.u, info.ratios, info.log_weights),
        accepted=info.accepted.mean((0, 2)),
        exchanged=info.exchanged.mean((0, 2)),
        round_trips=int(info.trips[:, 0].sum()),
        halves=_halves(levels.u, info),
        consistent=False,
        verdict="",
    )
    consistent, verdict = verdict_of(_doubts(found), _facts(found), ADVICE)
    return found._replace(consistent=consistent, verdict=verdict)


def _halves(u: Tensor, info: Info) -> tuple[float, float]:
    """Return the difference of log Ẑ between the halves of the sweeps, and its standard error, from the same ladders."""
    halves = zip(info.ratios.tensor_split(2), info.log_weights.tensor_split(2), strict=True)
    (first, _, one), (second, _, other) = (estimates.log_evidence(u, *half) for half in halves)
    return float(second - first), float((other - one).std()) / math.sqrt(len(one))


def _drift(ratios: Tensor) -> tuple[float, float]:
    """Return by how much the mean of r differs between the halves of the sweeps, [S, n], and its standard error."""
    first, second = (half.mean(0) for half in ratios.tensor_split(2))
    change = second - first
    return float(change.mean()), float(change.std()) / math.sqrt(len(change))


def correlation_time(ratios: Tensor) -> float:
    """Return the integrated autocorrelation time of r, τ = 1 + 2 Σ_k ρ_k, in sweeps.

    ρ_k is the autocorrelation around the mean of all ladders, so ladders with different means have a long time. The sum
    ends where ρ_k is below 0.05.

    Args:
        ratios: r of the target's texts after every sweep, [S, n].

    Source: Sokal, "Monte Carlo methods in statistical mechanics" (1996), doi:10.1007/978-1-4899-0319-8_6, section 3.
    """
    centred = ratios - ratios.mean()
    variance, time = float(centred.square().mean()), 1.0
    for lag in range(1, len(ratios)) if variance > 0 else ():
        correlation = float((centred[:-lag] * centred[lag:]).mean()) / variance
        if not correlation >= CORRELATED:
            break
        time += 2 * correlation
    return time


def _doubts(found: Ladder) -> Iterator[str]:
    """Yield a sentence for every comparison that exceeds its limit."""
    lowest, n = float(found.exchanged.min()), found.ratios.shape[-1]
    if not lowest >= SWAPPED:
        yield f"only {lowest:.1%} of the exchanges between two levels are accepted"
    if found.round_trips < TRIPS * n:
        yield f"only {found.round_trips} round {'trip' if found.round_trips == 1 else 'trips'} in {n} ladders"
    if not float(found.std_error) <= ERROR:
        yield f"log Ẑ has a standard error of {float(found.std_error):.2g} nats"
    difference, error = found.halves
    if not (abs(difference) <= NATS and abs(difference) <= max(DEVIATIONS * error, 0.02)):
        yield f"log Ẑ differs by {abs(difference):.2g} nats between the halves of the run"
    drift, error = _drift(found.ratios[:, -1])
    if abs(drift) > max(NATS, APART * error):
        yield f"the mean of r at the target differs by {abs(drift):.2g} nats between the halves of the run"
    independent = len(found.ratios) / correlation_time(found.ratios[:, -1])
    if independent < LEAST:
        yield f"the texts of the target change so slowly that a ladder has {independent:.2g} independent ones"
    apart = abs(float(found.integrated - found.log_evidence))
    if apart > NATS:
        yield f"two estimates of log Z differ by {apart:.2g} nats"


def _facts(found: Ladder) -> Iterator[str]:
    """Yield a sentence for every comparison."""
    yield f"log Ẑ has a standard error of {float(found.std_error):.2g} nats"
    yield f"it differs by {abs(found.halves[0]):.2g} nats between the halves of the run"
    yield f"{found.round_trips} round trips in {found.ratios.shape[-1]} ladders"
    yield f"at least {float(found.exchanged.min()):.0%} of the exchanges are accepted"
