r"""Exact draws by acceptance: proposals x are kept with probability w ρ(x)^a, where ρ ≤ 1 is the posterior of a label.

    law of the kept x = proposal(x) w(x) ρ(x)^a / A,    A = E_proposal[w ρ^a],    log Z = log A − a log π.

The weight w ≤ 1 is the probability of an ending token where a length cap forces one, and 1 elsewhere.

With a = γ − 1 and p(x|y) as the proposal, or a = γ and the mixture p(x), this is the joint guided law
p(x) p(y|x)^γ / E_p[p(y|x)^γ] of a coherent pair, and Z = Σ_x p(x)^{1−γ} p(x|y)^γ.

Source: von Neumann, "Various techniques used in connection with random digits" (1951).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arguide import checks
from arguide.smc.draws import Draw

LEAST = 1e-3
FIRST, GROWN, MOST = 64, 512, 4096  # rows of the first batch, and of later ones, by default


class Proposed(NamedTuple):
    """Proposals, log ρ of each, and log w of each; 0 for none."""

    x: Tensor
    log_posterior: Tensor
    log_weight: Tensor | float = 0.0


Propose = Callable[[int], Proposed]


class LowAcceptanceError(ValueError):
    """The share of proposals that would be accepted is too small to be practical.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> mixture = arguide.Mixture([table.autoregressive(0), table.autoregressive(1)], table.log_prior())
        >>> try:
        ...     arguide.sample_accepted(mixture, 1, 50.0, 10, 2)
        ... except arguide.LowAcceptanceError:
        ...     print("try a smaller scale")
        try a smaller scale
    """


class Accepted(NamedTuple):
    """n exact and independent draws of the joint law.

    x: tokens [n, T], or values [n, …].
    log_posterior: log ρ_y(x), [n], at most 0.
    tried: number of proposals.
    log_acceptance: log A, the log of the mean weight w ρ^a over all proposals, [].
    log_evidence: log Ẑ, [].
    std_error: standard error of log A and log Ẑ, [].

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> mixture = arguide.Mixture([table.autoregressive(0), table.autoregressive(1)], table.log_prior())
        >>> drawn = arguide.sample_accepted(mixture, 1, 3.0, 1000, 2)
        >>> bool(drawn.most_kl > 0), drawn.tried >= 1000
        (True, True)
    """

    x: Tensor
    log_posterior: Tensor
    tried: int
    log_acceptance: Tensor
    log_evidence: Tensor
    std_error: Tensor

    @property
    def tokens(self) -> Tensor:
        """The same as x, [n, T] for a sampler of tokens."""
        return self.x

    @property
    def most_kl(self) -> Tensor:
        """The bound −log A on KL(joint ‖ proposal) in nats, []."""
        return -self.log_acceptance

    @property
    def most_tv(self) -> Tensor:
        """The bound 1 − A on the total variation between the joint law and the proposal, []."""
        return -self.log_acceptance.expm1()


class Proposals:
    """Proposals for several powers at once, and those that each power has accepted."""

    def __init__(self, powers: Sequence[float], n: int) -> None:
        self.powers, self.n = powers, n
        self.logs: list[tuple[Tensor, Tensor]] = []
        self.kept: list[list[tuple[Tensor, Tensor]]] = [[] for _ in powers]

    def add(self, proposed: Proposed, uniform: Draw) -> None:
        """Accept each proposal of a batch, or not, by one uniform number for all powers.

        Args:
            proposed: x [rows, …], log ρ(x) [rows] and log w(x).
            uniform: [rows] ↦ uniform numbers in [0, 1).

        Raises:
            ValueError: a log ρ that is NaN or above 0.
        """
        x, log_posterior = proposed.x, proposed.log_posterior
        if not (log_posterior < 1e-6).all():
            largest = log_posterior.max()
            raise checks.refusal("log_posterior", "log-probabilities, at most 0", largest, "try log_softmax for a classifier")
        log_weight = torch.as_tensor(proposed.log_weight).to(log_posterior).expand_as(log_posterior)
        self.logs.append((log_posterior, log_weight))
        level = uniform(log_posterior)
        for power, kept in zip(self.powers, self.kept, strict=True):
            accept = level < _weights(log_posterior, log_weight, power)
            kept.append((x[accept], log_posterior[accept]))

    @property
    def accepted(self) -> list[int]:
        """Number of accepted proposals of every power."""
        return [sum(len(x) for x, _ in kept) for kept in self.kept]

    def estimate(self, power: float) -> tuple[Tensor, Tensor]:
        """Return log A and its standard error."""
        log_posterior, log_weight = (torch.cat(rows) for rows in zip(*self.logs, strict=True))
        weights = _weights(log_posterior, log_weight, power)
        mean = weights.mean()
        error = weights.std() / (mean * math.sqrt(len(weights))) if len(weights) > 1 else mean * math.inf
        return mean.log(), torch.where(weights.amax() == weights.amin(), torch.zeros_like(error), error)

    def result(self, k: int, log_prior: float) -> Accepted:
        """Return the first n accepted proposals of power k."""
        x, log_posterior = (torch.cat(parts)[: self.n] for parts in zip(*self.kept[k], strict=True))
        log_acceptance, std_error = self.estimate(self.powers[k])
        log_evidence = log_acceptance - self.powers[k] * log_prior
        return Accepted(x, log_posterior, sum(len(rows) for rows, _ in self.logs), log_acceptance, log_evidence, std_error)


def at_scales(
    propose: Callable[[bool, int], Proposed],
    scale: float | Sequence[float],
    n: int,
    log_prior: float,
    *,
    uniform: Draw,
    tolerance: float,
    least: float,
    rows: int | None,
) -> Accepted | list[Accepted]:
    """Draw n samples of the joint guided law at every scale; scales of at least 1 share proposals, and so do smaller ones.

    Args:
        propose: (conditional?, rows) ↦ as many proposals from p(x|y) or from p(x), with log ρ_y(x) and log w(x).
        scale: γ ≥ 0, or several.
        n: as in `accept`, as are all further arguments.
        log_prior: log π_y.
        uniform: of the acceptance.
        tolerance: of log Ẑ.
        least: of A.
        rows: per batch.

    Returns:
        An `Accepted`; a list of them for several scales, in their order.

    Raises:
        ValueError: γ below 0, for which no bound exists, and as `accept`.
    """
    several = isinstance(scale, Sequence) and not isinstance(scale, str)
    scales = [_scale(each) for each in (scale if several else [scale])]  # type: ignore[union-attr]
    found: dict[int, Accepted] = {}
    for conditional in (True, False):
        chosen = [i for i, each in enumerate(scales) if (each >= 1) == conditional]
        if chosen:
            powers = [scales[i] - conditional for i in chosen]
            limits: dict[str, Any] = {"tolerance": tolerance, "least": least, "rows": rows}
            results = accept(partial(propose, conditional), powers, n, log_prior, uniform=uniform, **limits)
            found |= zip(chosen, results, strict=True)
    return [found[i] for i in range(len(scales))] if several else found[0]


def accept(
    propose: Propose,
    powers: Sequence[float],
    n: int,
    log_prior: float,
    *,
    uniform: Draw,
    tolerance: float = 0.02,
    least: float = LEAST,
    rows: int | None = None,
) -> list[Accepted]:
    """Draw n samples for each power from shared proposals, in whole batches.

    Args:
        propose: number of rows ↦ that many proposals x, with log ρ(x) and log w(x), [rows] in double precision.
        powers: a ≥ 0, one per result.
        n: number of samples per result.
        log_prior: log π of the label.
        uniform: [rows] ↦ uniform numbers in [0, 1).
        tolerance: largest standard error of log Ẑ; more proposals are made until it is reached. With ∞, no more proposals
            are made than n draws need.
        least: the smallest A that passes.
        rows: proposals per batch; by default n, between 64 and 4,096, and twice as many per further batch up to 512.

    Raises:
        ValueError: an A below `least`, with its estimate; a log ρ that is NaN or above 0.
    """
    checks.integer("n", n), checks.share("least", least)
    checks.number("tolerance", tolerance, "positive", lambda found: found > 0)
    size = min(max(n, FIRST), MOST) if rows is None else checks.integer("rows", rows)
    proposals = Proposals(powers, n)
    while True:
        proposals.add(propose(size), uniform)
        size = size if rows is not None else max(size, min(2 * size, GROWN))
        wanting = False
        for power, accepted in zip(powers, proposals.accepted, strict=True):
            log_acceptance, std_error = map(float, proposals.estimate(power))
            if accepted < n:
                _check_practical(log_acceptance, std_error, least)
            wanting |= accepted < n or std_error > tolerance
        if not wanting:
            return [proposals.result(k, log_prior) for k in range(len(powers))]


def _scale(scale: Any) -> float:
    return checks.number("scale", scale, "finite and at least 0 for acceptance", lambda found: 0 <= found < math.inf)


def _weights(log_posterior: Tensor, log_weight: Tensor, power: float) -> Tensor:
    """Return w ρ^a, [n]; w for a = 0, also where ρ = 0."""
    return (log_weight if power == 0 else log_weight + power * log_posterior).exp()


def _check_practical(log_acceptance: float, std_error: float, least: float) -> None:
    """Raise ValueError if A is below `least` by two standard errors."""
    if log_acceptance + math.log1p(2 * std_error if std_error < math.inf else 0) < math.log(least):
        found = f"{math.exp(log_acceptance):.1g}" if log_acceptance > -math.inf else "0"
        hint = f"one draw needs about 1/A proposals; try a smaller scale, or least={float(found) / 2:.1g} to wait"
        raise LowAcceptanceError(f"the share of accepted proposals A must be at least {least:g}, got {float(found)}; {hint}")
