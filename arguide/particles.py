r"""Drawing from the joint law: weighted particles, and the generic driver that moves and resamples them.

A move advances every particle and returns the log of its incremental weight. With sequential guidance as the proposal
the increment is log Z_t(x_<t), already computed by the sampler, and

    Π_t Z_t(x_<t) q(x) = Π_k p_k(x)^{w_k},    E[mean weight] = Z = Σ_x Π_k p_k(x)^{w_k}:

the weighted particles follow the joint law Π_k p_k(x)^{w_k} / Z, and Ẑ is unbiased. The driver knows nothing of tokens;
`diffusion.particles` runs it over noise levels.

Sources: Del Moral, Doucet & Jasra, "Sequential Monte Carlo samplers" (2006); Chopin & Papaspiliopoulos, "An introduction to
sequential Monte Carlo" (2020), ch. 10.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from arguide import sampling
from arguide.endings import check_length
from arguide.models import Autoregressive
from arguide.resampling import Resample, systematic
from arguide.truncation import Transform, identity

Move = Callable[[Any], tuple[Any, Tensor]]
Select = Callable[[Any, Tensor], Any]
Twist = Callable[[Any], Tensor]


class Population(NamedTuple):
    """N weighted particles.

    value: whatever the moves act on.
    log_weights: [N], gathered since the last resampling.
    log_banked: [], the part of log Ẑ that earlier resamplings have settled.
    origin: [N], the first particle that each descends from.
    resamplings: how often the population was resampled.
    """

    value: Any
    log_weights: Tensor
    log_banked: Tensor
    origin: Tensor
    resamplings: int = 0

    @property
    def log_evidence(self) -> Tensor:
        """Log Ẑ = log of the mean weight, [], with E[Ẑ] = Z under any rule of when to resample."""
        return self.log_banked + self.log_weights.logsumexp(0) - math.log(len(self.log_weights))

    @property
    def ess(self) -> Tensor:
        """Effective sample size (Σ w)² / Σ w², []."""
        return effective_sample_size(self.log_weights)

    @property
    def ancestors(self) -> int:
        """Number of distinct first particles that are left."""
        return int(self.origin.bincount().count_nonzero())

    @property
    def std_error(self) -> Tensor:
        """Standard error of log Ẑ that one population can tell of itself, [].

        It compares families, the particles that descend from one first particle: Var(Ẑ)/Z² is estimated by
        1 − (N/(N−1))^{r+1} (1 − Σ_f W_f²) with W_f the weight of family f and r the number of resamplings (Lee & Whiteley,
        "Variance estimation in the particle filter", 2018, eq. 7), which holds for multinomial resampling and is rough for
        other schemes. Where one family is left it is 1, and says only that nothing is known: repeat the run.
        """
        n = len(self.log_weights)
        families = torch.zeros_like(self.log_weights).index_add(0, self.origin, self.log_weights.softmax(0))
        apart = (1 - families.square().sum()).clamp(min=0.0)
        return (1 - (n / max(n - 1, 1)) ** (self.resamplings + 1) * apart).clamp(min=0.0).sqrt()


class JointSample(NamedTuple):
    """N weighted sequences that follow the joint law.

    tokens: [N, T], after the end of a sequence its ending token.
    log_weights: [N], normalised to Σ exp = 1.
    log_evidence: [], log Ẑ.
    ess: effective sample size after every move, before it resamples; [T] where a move is one token.
    ancestors: number of distinct first particles left at the end.
    std_error: [], of log Ẑ, see `Population.std_error`.
    evidences: log Ẑ of the first tokens alone, after every move.
    log_target: log p̃(x_t|x_<t) of the tokens, [N, T]; their sum is log Π_k p_k(x)^{w_k}.
    log_normalizer: log Z_t(x_<t) along every sequence, [N, T].
    """

    tokens: Tensor
    log_weights: Tensor
    log_evidence: Tensor
    ess: Tensor
    ancestors: int
    std_error: Tensor
    evidences: Tensor
    log_target: Tensor
    log_normalizer: Tensor

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return n sequences drawn by weight, [n, T]: importance resampling."""
        return self.tokens[torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)]


def pooled(runs: Sequence[JointSample]) -> JointSample:
    """Return independent runs as one sample of all their particles, each run weighted by its Ẑ."""
    logs = torch.stack([run.log_evidence + math.log(len(run.tokens)) for run in runs])
    width = max(run.tokens.shape[1] for run in runs)
    tokens = [torch.cat([run.tokens, run.tokens[:, -1:].expand(-1, width - run.tokens.shape[1])], 1) for run in runs]
    log_weights = torch.cat([run.log_weights + log for run, log in zip(runs, logs, strict=True)]).log_softmax(0)
    log_target, log_normalizer = (
        torch.cat([functional.pad(rows, (0, width - rows.shape[1])) for rows in column])
        for column in ([run.log_target for run in runs], [run.log_normalizer for run in runs])
    )
    ratios = (logs - logs.max()).exp()
    return JointSample(
        tokens=torch.cat(tokens),
        log_weights=log_weights,
        log_evidence=logs.logsumexp(0) - math.log(sum(len(run.tokens) for run in runs)),
        ess=effective_sample_size(log_weights)[None],
        ancestors=sum(run.ancestors for run in runs),
        std_error=ratios.std() / ratios.mean() / math.sqrt(len(runs)),
        evidences=logs[:0],
        log_target=log_target,
        log_normalizer=log_normalizer,
    )


class Path(NamedTuple):
    """n prefixes, with the infos of their tokens so far, [n, t] each."""

    state: sampling.State
    info: sampling.Info


def effective_sample_size(log_weights: Tensor) -> Tensor:
    """Return (Σ w)² / Σ w² of unnormalised log-weights, [N] ↦ []."""
    return (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()


def populate(value: Any, log_weights: Tensor) -> Population:
    """Return N first particles with their log-weights, [N]."""
    origin = torch.arange(len(log_weights), device=log_weights.device)
    return Population(value, log_weights, log_weights.new_zeros(()), origin)


def resampled(population: Population, select: Select, ancestors: Tensor, log_twist: Tensor | None = None) -> Population:
    """Return the population of the given ancestors, [N], drawn in proportion to w ψ; what they weighed goes to log Ẑ.

    They weigh 1/ψ, so that any ψ > 0, drawn at random too, leaves the target and Ẑ as they are; ψ = 1 by default.
    """
    if log_twist is None:
        log_twist = torch.zeros_like(population.log_weights)
    twisted = population._replace(log_weights=population.log_weights + log_twist)
    return Population(
        select(population.value, ancestors),
        -log_twist[ancestors],
        twisted.log_evidence,
        population.origin[ancestors],
        population.resamplings + 1,
    )


def drive(
    population: Population,
    moves: Iterable[Move],
    select: Select,
    *,
    resample: Resample = systematic,
    threshold: float = 0.5,
    twist: Twist | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Population]:
    """Move the particles, resampling before a move when ESS < threshold·N; yield the population after every move.

    Args:
        moves: each maps a value to the moved value and its log incremental weights, [N].
        select: (value, index) ↦ the value whose row i is row index[i].
        resample: a scheme of `arguide.resampling`.
        threshold: 0 never resamples (importance sampling), 1 does whenever the weights differ.
        twist: value ↦ log ψ, [N]: what is expected of a particle. Resampling, and when to do it, then go by w ψ.

    Raises:
        ValueError: every particle has weight 0, so nothing of the target was found.
    """
    for move in moves:
        log_twist = torch.zeros_like(population.log_weights) if twist is None else twist(population.value)
        log_weights = population.log_weights + log_twist
        if effective_sample_size(log_weights) < threshold * len(log_weights):
            ancestors = resample(log_weights, generator)
            population = resampled(population, select, ancestors, log_twist)
        value, increment = move(population.value)
        population = population._replace(value=value, log_weights=population.log_weights + increment)
        if (population.log_weights == -math.inf).all():
            raise ValueError("all particles have weight 0: the branches share no sequence that was found; use more particles")
        yield population


def ahead(path: Path) -> Tensor:
    """Look one token ahead: log ψ = log Z_t(x_<t) of the token to come, which its law tells before it is drawn, [N]."""
    log_normalizer: Tensor = path.state.model.log_normalizer
    return log_normalizer.clamp(min=torch.finfo(log_normalizer.dtype).min / 4)


def sample_joint(
    model: Autoregressive,
    n: int,
    length: int,
    *,
    draw: sampling.Draw | None = None,
    generator: torch.Generator | None = None,
    transform: Transform = identity,
    propose: sampling.Propose = sampling.sequential,
    resample: Resample = systematic,
    threshold: float = 0.5,
    block: int = 1,
    twist: Twist | None = None,
) -> JointSample:
    """Draw n weighted sequences from the joint law Π_k p_k(x)^{w_k} / Z over `length` tokens.

    Args:
        model: a `LogLinear` or its like, whose log Z_t are the weights; `endings.Ending` of one for variable length.
        propose: what particles are drawn from, the sequential law by default; the weights make up for another one.
        transform: of the proposal, for which the weights make up too; a truncation restricts the target to the sequences
            that it can still propose.
        resample, threshold: see `drive`. `threshold=0` is plain importance sampling.
        block: how many tokens to draw between two decisions to resample.
        twist: look-ahead, a function of a `Path` to log ψ, [N], see `drive` and `ahead`. It must leave the state as it is,
            which a language model's `append` and `select` do not.

    Raises:
        ValueError: no particle, every particle has weight 0, or rows have scales of their own.
    """
    draw = draw or sampling.categorical(generator)
    if n < 1:
        raise ValueError(f"a population has at least one particle, not {n}")
    if block < 1:
        raise ValueError(f"a block has at least one token, not {block}")
    check_length(model, length)

    def move(path: Path, tokens: int) -> tuple[Path, Tensor]:
        state, infos = path.state, []
        for t in range(state.tokens.shape[1] + 1, state.tokens.shape[1] + tokens + 1):
            state, info = sampling.step(model, state, draw, transform, propose, last=t == length)
            infos.append(info)
        new = sampling.stacked(infos, state)
        info = sampling.Info(*(torch.cat(pair, 1) for pair in zip(path.info, new, strict=True)))
        return Path(state, info), (new.log_target - new.log_proposal).sum(1)

    def select(path: Path, index: Tensor) -> Path:
        state = sampling.State(model.select(path.state.model, index), path.state.tokens[index])
        return Path(state, sampling.Info(*(rows[index] for rows in path.info)))

    def moves() -> Iterator[Move]:
        for start in range(0, length, block):
            if sampling.ended(population.value.state.model):
                return
            yield partial(move, tokens=min(block, length - start))

    first = sampling.init(model, n)
    path = Path(first, sampling.stacked([], first))
    path = select(path, torch.arange(n, device=first.tokens.device))  # refuses a scale per row: the target is one
    population = populate(path, first.model.log_probs.new_zeros(n))
    ess, evidences = [], []
    options: dict[str, Any] = {"resample": resample, "threshold": threshold, "twist": twist, "generator": generator}
    for moved in drive(population, moves(), select, **options):
        population = moved
        ess.append(population.ess)
        evidences.append(population.log_evidence)
    value = population.value
    return JointSample(
        value.state.tokens,
        population.log_weights.log_softmax(0),
        population.log_evidence,
        torch.stack(ess) if ess else population.log_weights[:0],
        population.ancestors,
        population.std_error,
        torch.stack(evidences) if ess else population.log_weights[:0],
        value.info.log_target,
        value.info.log_normalizer,
    )
