r"""Drawing from the joint law: sequences as weighted particles, on the driver of `arguide.smc.driver`.

A move draws a token. With sequential guidance as the proposal its incremental weight is log Z_t(x_<t), already computed by the
sampler, and

    Π_t Z_t(x_<t) q(x) = Π_k p_k(x)^{w_k},    E[mean weight] = Z = Σ_x Π_k p_k(x)^{w_k}:

the weighted particles follow the joint law Π_k p_k(x)^{w_k} / Z, and Ẑ is unbiased.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from arguide import checks, sampling
from arguide.models import Autoregressive
from arguide.smc.driver import Move, Population, Twist, drive, effective_sample_size, populate
from arguide.smc.resampling import Resample, systematic
from arguide.stopping import check_length
from arguide.transforms import Transform, identity


class JointSample(NamedTuple):
    """N weighted sequences that follow the joint law.

    tokens: [N, T], after the end of a sequence its ending token.
    log_weights: [N], normalised to Σ exp = 1.
    log_evidence: [], log Ẑ.
    ess: effective sample size after every move, before it resamples; [T] where a move is one token.
    ancestors: number of distinct first particles left at the end.
    std_error: [], of log Ẑ, see `smc.driver.Population.std_error`.
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
        checks.integer("n", n)
        return self.tokens[torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)]


def pooled(runs: Sequence[JointSample]) -> JointSample:
    """Return independent runs as one sample of all their particles, each run weighted by its Ẑ.

    `std_error` is that of log Ẑ from the spread of the runs: √(Σ_r (W_r − a_r)² R/(R − 1)) with a_r = n_r/Σ n, W_r ∝ n_r Ẑ_r.

    Raises:
        ValueError: fewer than two runs.
    """
    if isinstance(runs, JointSample) or len(runs) < 2:
        raise checks.refusal(
            "runs", "at least two independent samples", len(runs), "one run has no spread to estimate an error by"
        )
    logs = torch.stack([run.log_evidence + math.log(len(run.tokens)) for run in runs])
    width = max(run.tokens.shape[1] for run in runs)
    tokens = [torch.cat([run.tokens, run.tokens[:, -1:].expand(-1, width - run.tokens.shape[1])], 1) for run in runs]
    log_weights = torch.cat([run.log_weights + log for run, log in zip(runs, logs, strict=True)]).log_softmax(0)
    log_target, log_normalizer = (
        torch.cat([functional.pad(rows, (0, width - rows.shape[1])) for rows in column])
        for column in ([run.log_target for run in runs], [run.log_normalizer for run in runs])
    )
    sizes = torch.tensor([len(run.tokens) for run in runs]).to(logs)
    off = logs.softmax(0) - sizes / sizes.sum()
    return JointSample(
        tokens=torch.cat(tokens),
        log_weights=log_weights,
        log_evidence=logs.logsumexp(0) - math.log(sum(len(run.tokens) for run in runs)),
        ess=effective_sample_size(log_weights)[None],
        ancestors=sum(run.ancestors for run in runs),
        std_error=(off.square().sum() * len(runs)).div(len(runs) - 1).sqrt(),
        evidences=logs[:0],
        log_target=log_target,
        log_normalizer=log_normalizer,
    )


class Path(NamedTuple):
    """n prefixes, with the infos of their tokens so far, [n, t] each."""

    state: sampling.State
    info: sampling.Info


def ahead(path: Path) -> Tensor:
    """Look one token ahead: log ψ = log Z_t(x_<t) of the next token, known before it is drawn, [N]; 0 without a normalizer."""
    state = path.state.model
    log_normalizer: Tensor = getattr(state, "log_normalizer", torch.zeros_like(state.log_probs[:, 0]))
    return log_normalizer.clamp(min=torch.finfo(log_normalizer.dtype).min / 4)


def sample_joint(model: Autoregressive, n: int, length: int, **options: Any) -> JointSample:
    """Draw n weighted sequences from the joint law Π_k p_k(x)^{w_k} / Z over `length` tokens; options as in `sample_joints`.

    Raises:
        ValueError: every particle has weight 0, or rows have scales of their own.
    """
    (sample,) = sample_joints(model, 1, n, length, **options)
    return sample


def sample_joints(
    model: Autoregressive,
    count: int,
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
) -> list[JointSample]:
    """Draw `count` independent samples of n weighted sequences, side by side in one batch, as `sample_joint` draws each.

    Args:
        model: a `LogLinear` or its like, whose log Z_t are the weights; `stopping.Ending` of one for variable length. Its
            condition may differ by row where all n rows of a sample are alike.
        propose: what particles are drawn from, the sequential law by default; the weights make up for another one.
        transform: of the proposal, for which the weights make up too; a truncation restricts the target to the sequences
            that it can still propose.
        resample, threshold: see `smc.driver.drive`. `threshold=0` is plain importance sampling.
        block: how many tokens to draw between two decisions to resample.
        twist: look-ahead, a function of a `Path` to log ψ, see `smc.driver.drive`, `ahead`. It must leave the state as it is,
            which a language model's `append` and `select` do not.

    Raises:
        ValueError: no particle, every particle of a sample has weight 0, or rows have scales of their own.
    """
    sampling.check(model, n, length)
    checks.integer("count", count), checks.integer("block", block)
    draw = checks.function("draw", draw or sampling.categorical(generator))
    for name, part in (("transform", transform), ("propose", propose), ("twist", twist or ahead)):
        checks.function(name, part)
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

    first = sampling.init(model, count * n)
    path = Path(first, sampling.stacked([], first))
    path = select(path, torch.arange(count * n, device=first.tokens.device))  # refuses a scale per row: the target is one
    population = populate(path, first.model.log_probs.new_zeros(count, n))
    ess, evidences = [], []
    options: dict[str, Any] = {"resample": resample, "threshold": threshold, "twist": twist, "generator": generator}
    for moved in drive(population, moves(), select, **options):
        population = moved
        ess.append(population.ess)
        evidences.append(population.log_evidence)
    none = population.log_weights[:, :0]
    return _apart(population, *(torch.stack(rows, 1) if rows else none for rows in (ess, evidences)))


def _apart(population: Population, ess: Tensor, evidences: Tensor) -> list[JointSample]:
    """Return the samples of populations of paths that stand side by side, with what every move left, [G, moves]."""
    path: Path = population.value
    count = len(population.log_weights)
    columns = (each.chunk(count) for each in (path.state.tokens, path.info.log_target, path.info.log_normalizer))
    return [
        JointSample(
            tokens=tokens,
            log_weights=own.log_weights.log_softmax(0),
            log_evidence=own.log_evidence,
            ess=ess[i],
            ancestors=own.ancestors,
            std_error=own.std_error,
            evidences=evidences[i],
            log_target=log_target,
            log_normalizer=log_normalizer,
        )
        for i, (own, tokens, log_target, log_normalizer) in enumerate(zip(population.apart(), *columns, strict=True))
    ]
