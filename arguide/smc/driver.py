r"""The particle driver: weighted particles that are moved and resampled, G populations of N side by side.

A move advances every particle and returns the target and proposal densities of its draw; their ratio is the incremental weight.
The driver works for any state: tokens, values, or samples at a noise level. It records the densities and, at the end, traces
them back along every particle's ancestors.

Sources: Del Moral, Doucet & Jasra, "Sequential Monte Carlo samplers" (2006), doi:10.1111/j.1467-9868.2006.00553.x; Chopin &
Papaspiliopoulos, "An introduction to sequential Monte Carlo" (2020), doi:10.1007/978-3-030-47845-2, ch. 10.
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from arguide import checks
from arguide.smc.resampling import Resample, systematic
from arguide.smc.samples import Info, JointSample, Sample, effective_sample_size

Move = Callable[[Any], tuple[Any, Info]]
Select = Callable[[Any, Tensor], Any]
Twist = Callable[[Any], Tensor]
Model = TypeVar("Model")
Rest = ParamSpec("Rest")


class Population(NamedTuple):
    """G populations of N weighted particles, each with weights, resamplings and a Ẑ of its own.

    state: the argument of the moves; its `x` has G·N rows, one population after another.
    log_weights: [G, N], since the last resampling.
    log_banked: the part of log Ẑ from before the last resampling, [G].
    origin: index of every particle's first ancestor, [G, N].
    resamplings: number of resamplings of every population, [G].
    """

    state: Any
    log_weights: Tensor
    log_banked: Tensor
    origin: Tensor
    resamplings: Tensor

    @property
    def log_evidence(self) -> Tensor:
        """Log Ẑ = log of the mean weight, [G]; E[Ẑ] = Z for any rule of when to resample."""
        return self.log_banked + self.log_weights.logsumexp(-1) - math.log(self.log_weights.shape[-1])

    @property
    def ess(self) -> Tensor:
        """Effective sample size (Σ w)² / Σ w², [G]."""
        return effective_sample_size(self.log_weights)

    @property
    def ancestors(self) -> Tensor:
        """Number of distinct first ancestors, [G]."""
        return torch.zeros_like(self.origin, dtype=torch.bool).scatter(1, self.origin, True).sum(1)

    @property
    def std_error(self) -> Tensor:
        """Standard error of log Ẑ, estimated from one population, [G].

        A family is the particles with one first ancestor. Var(Ẑ)/Z² is estimated by 1 − (N/(N−1))^{r+1} (1 − Σ_f W_f²), with
        W_f the weight of family f and r the number of resamplings (Lee & Whiteley, "Variance estimation in the particle
        filter", arXiv:1509.00394, eq. 7). This holds for multinomial resampling and is approximate for other schemes. With a
        single family the estimate is 1 and carries no information: repeat the run.
        """
        n = self.log_weights.shape[1]
        families = torch.zeros_like(self.log_weights).scatter_add(1, self.origin, self.log_weights.softmax(1))
        between = (1 - families.square().sum(1)).clamp(min=0.0)
        factor = torch.tensor(n / max(n - 1, 1), dtype=torch.float64) ** (self.resamplings.cpu() + 1)
        return (1 - factor.to(between) * between).clamp(min=0.0).sqrt()


def populate(state: Any, log_weights: Tensor) -> Population:
    """Return G populations of N first particles with their log-weights, [G, N]."""
    none = torch.zeros_like(log_weights[:, 0])
    origin = torch.arange(log_weights.shape[1], device=log_weights.device).expand(log_weights.shape)
    return Population(state, log_weights, none, origin, torch.zeros_like(none, dtype=torch.long))


def resampled(
    population: Population, select: Select, ancestors: Tensor, log_twist: Tensor, which: Tensor
) -> tuple[Population, Tensor]:
    """Replace particles by their ancestors, drawn in proportion to w ψ; return the population and their rows, [G·N].

    The mean of w ψ goes to log Ẑ, and the particles weigh 1/ψ, so for any ψ > 0, even a random one, the target
    and E[Ẑ] stay the same.

    Args:
        population: before resampling.
        select: as for `drive`.
        ancestors: indices within each population, [G, N]; their own where a population is not resampled.
        log_twist: log ψ, [G, N].
        which: whether to resample each population, [G].
    """
    n = ancestors.shape[1]
    rows = (ancestors + n * torch.arange(len(ancestors), device=ancestors.device)[:, None]).flatten()
    twisted = population._replace(log_weights=population.log_weights + log_twist)
    moved = Population(
        select(population.state, rows),
        torch.where(which[:, None], -log_twist.gather(1, ancestors), population.log_weights),
        torch.where(which, twisted.log_evidence, population.log_banked),
        population.origin.gather(1, ancestors),
        population.resamplings + which,
    )
    return moved, rows


class _Moved(NamedTuple):
    """One move: what it drew, the rows resampled before it (None: no resampling), and ESS and log Ẑ after it, [G]."""

    info: Info
    rows: Tensor | None
    ess: Tensor
    log_evidence: Tensor


def drive(
    state: Any,
    log_weights: Tensor,
    moves: Iterable[Move],
    select: Select,
    *,
    resample: Resample = systematic,
    threshold: float = 0.5,
    twist: Twist | None = None,
    stop: Callable[[Any], bool] | None = None,
    generator: torch.Generator | None = None,
) -> list[JointSample]:
    """Move the particles, and resample a population before a move if its ESS < threshold·N; return one sample per population.

    Args:
        state: of G·N particles, one population after another; `state.x` becomes the x of the samples.
        log_weights: of the first particles, [G, N].
        moves: each maps a state to the moved state and the densities of what it drew.
        select: (state, index) ↦ the state whose row i is row index[i].
        resample: a scheme of `arguide.smc.resampling`.
        threshold: 0 never resamples (importance sampling); 1 resamples whenever the weights differ.
        twist: state ↦ log ψ, one per row: the weight that a particle is expected to gain. Resampling then follows w ψ.
        stop: state ↦ whether no further move is needed.
        generator: randomness of the resampling.

    Raises:
        ValueError: a threshold outside [0, 1]; weights with NaN or +∞; a population whose particles all have weight 0.
    """
    checks.share("threshold", threshold), checks.function("resample", resample)
    population, record = populate(state, log_weights), list[_Moved]()
    for move in moves:
        if stop is not None and stop(population.state):
            break
        log_twist = torch.zeros_like(log_weights) if twist is None else twist(population.state).view_as(log_weights)
        twisted, rows = population.log_weights + log_twist, None
        low = effective_sample_size(twisted) < threshold * log_weights.shape[1]
        if low.any():
            ancestors = _ancestors(twisted, low, resample, generator)
            population, rows = resampled(population, select, ancestors, log_twist, low)
        state, info = move(population.state)
        new = _checked(population.log_weights + info.log_weight.view_as(log_weights))
        population = population._replace(state=state, log_weights=new)
        record.append(_Moved(info, rows, population.ess, population.log_evidence))
    return _samples(population, record)


def walk(state: Any, moves: Iterable[Move], *, stop: Callable[[Any], bool] | None = None) -> Sample:
    """Move n draws without weights; return them with the densities of every move.

    Args:
        state: of n draws; `state.x` becomes the x of the sample.
        moves: at least one, as for `drive`.
        stop: state ↦ whether no further move is needed.
    """
    infos = []
    for move in moves:
        if stop is not None and stop(state):
            break
        state, info = move(state)
        infos.append(info)
    return Sample(state.x, *Info.stack(infos))


def _ancestors(log_weights: Tensor, low: Tensor, resample: Resample, generator: torch.Generator | None) -> Tensor:
    """Draw ancestors, [G, N], of the populations that are `low`; those of the others are themselves."""
    ancestors = torch.arange(log_weights.shape[1], device=log_weights.device).repeat(len(log_weights), 1)
    for i in low.nonzero()[:, 0].tolist():
        ancestors[i] = resample(log_weights[i], generator)
    return ancestors


def _checked(log_weights: Tensor) -> Tensor:
    """Require log-weights [G, N] without NaN and +∞, one in each population above −∞."""
    largest = log_weights.amax(-1)
    if largest.isfinite().all():
        return log_weights
    if (largest == -math.inf).any():
        raise ValueError("all particles have weight 0: the branches share no sequence that was found; use more particles")
    raise ValueError("log-weights must not be NaN or +inf, got such a particle; check the models' outputs and the weights")


def _samples(population: Population, record: Sequence[_Moved]) -> list[JointSample]:
    """Return every population as a sample."""
    count, none = len(population.log_weights), population.log_weights[:, :0]
    ess = torch.stack([moved.ess for moved in record], 1) if record else none
    evidences = torch.stack([moved.log_evidence for moved in record], 1) if record else none
    fields = (
        population.state.x.chunk(count),
        population.log_weights.log_softmax(1),
        population.log_evidence,
        ess,
        population.ancestors.tolist(),
        population.std_error,
        evidences,
        *(rows.chunk(count) for rows in _traced(population, record)),
    )
    return [JointSample(*each) for each in zip(*fields, strict=True)]


def _traced(population: Population, record: Sequence[_Moved]) -> tuple[Tensor, Tensor]:
    """Return log_target and log_normalizer along the ancestry of every particle, [G·N, steps] each."""
    rows = torch.arange(population.log_weights.numel(), device=population.log_weights.device)
    columns = [(population.log_weights.new_empty((len(rows), 0)),) * 2]
    for moved in reversed(record):
        columns.append((moved.info.log_target[rows], moved.info.log_normalizer[rows]))
        rows = rows if moved.rows is None else moved.rows[rows]
    targets, normalizers = (
        torch.cat([each.reshape(len(rows), -1) for each in reversed(column)], 1) for column in zip(*columns, strict=True)
    )
    return targets, normalizers


def single(
    joints: Callable[Concatenate[Model, int, Rest], list[JointSample]],
) -> Callable[Concatenate[Model, Rest], JointSample]:
    """Return `sample_joint` of a module from its `sample_joints(model, count, …)`: the same arguments without the count."""

    @functools.wraps(joints, assigned=("__module__",))
    def sample_joint(model: Model, *args: Rest.args, **kwargs: Rest.kwargs) -> JointSample:
        return joints(model, 1, *args, **kwargs)[0]

    first, _, *rest = inspect.signature(joints).parameters.values()
    sample_joint.__signature__ = inspect.Signature([first, *rest], return_annotation=JointSample)  # type: ignore[attr-defined]
    sample_joint.__name__ = sample_joint.__qualname__ = "sample_joint"
    sample_joint.__doc__ = f"Draw one sample of the joint law: `sample_joints` with count = 1.\n\n{joints.__doc__}"
    return cast(Callable[Concatenate[Model, Rest], JointSample], sample_joint)
