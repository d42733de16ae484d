r"""Sequential and joint sampling of continuous autoregressive models, one value at a time.

Σ_k w_k log p_k(x) is the log-density of the joint law Π_k p_k^{w_k} / Z; with its gradient MALA draws from it, see
`diffusion.langevin.target`. `sample_joint` takes another route. For mixtures Z_t(x_<t) = ∫ Π_k p_k(x_t|x_<t)^{w_k} dx_t has no
closed form, so each x_t is one of M candidates from one p_j(x_t | x_<t), drawn in proportion to ω = Π_k p_k^{w_k} / p_j. The
mean of ω is an unbiased estimate of Z_t. Weighted by the product of these means, sequences are proper for the joint law at any
M; without weights they follow sequential guidance as M → ∞.

Source: Naesseth, Lindsten & Schön, "Nested sequential Monte Carlo methods", arXiv:1502.02536, for estimated weights.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from arguide import checks
from arguide.continuous.mixtures import Bound, Mixture, log_density
from arguide.product import Product
from arguide.smc.diagnostics import Diagnosis
from arguide.smc.draws import Draw, torch_categorical
from arguide.smc.driver import drive, single, walk
from arguide.smc.repeats import repeat
from arguide.smc.resampling import Resample, systematic
from arguide.smc.samples import Info, JointSample, Sample


@dataclass(frozen=True)
class LogLinear(Product[Bound]):
    """The combination Π_k p_k(x_t|x_<t)^{w_k} of conditionals whose labels are bound (`functools.partial`)."""

    def log_density(self, x: Tensor) -> Tensor:
        """Return Σ_k w_k log p_k(x), [n, T] ↦ [n], the unnormalised log-density of the joint law."""
        self.total_weight()
        pairs = zip(self.models, self.weights_at(0), strict=True)
        return torch.stack([w * log_density(model, x) for model, w in pairs]).sum(0)


class State(NamedTuple):
    """n sequences, of which the first `position` values of x, [n, T], are drawn."""

    x: Tensor
    position: int


def init(n: int, length: int, like: Tensor | None = None) -> State:
    """Return n empty sequences.

    Args:
        n: number of sequences.
        length: T.
        like: gives dtype and device; float64 on the CPU by default.
    """
    zeros = torch.zeros((n, length), dtype=torch.float64) if like is None else like.new_zeros((n, length))
    return State(zeros, 0)


def select(state: State, index: Tensor) -> State:
    """Return the state whose row i is row index[i] of this one."""
    return State(state.x[index], state.position)


def step(
    model: LogLinear, state: State, draw: Draw, *, candidates: int, proposal: int = 0, generator: Generator | None = None
) -> tuple[State, Info]:
    """Draw one value per row; log_normalizer is log of the mean ω, an estimate of log Z_t.

    The proposal density is that of the whole draw, so log_target − log_proposal = log_normalizer.

    Args:
        model: the combination.
        state: n sequences.
        draw: log-probs [n, M] ↦ which candidate to keep, [n].
        candidates: M.
        proposal: j, the model that candidates are drawn from; its tails must cover those of the others.
        generator: of the candidates.

    Raises:
        ValueError: a model that returns NaN.
    """
    x, t = state
    laws = [Mixture(*(rows[:, t] for rows in each(x))) for each in model.models]
    values = laws[proposal].sample(candidates, generator)
    logs = [Mixture(*(rows[:, None] for rows in law)).log_density(values) for law in laws]
    tilted = torch.stack([w * log for w, log in zip(model.weights_at(t), logs, strict=True)]).sum(0)
    ratios = tilted - logs[proposal]
    if ratios.amax(1).isnan().any():
        raise ValueError(f"models must give densities without NaN, got NaN at position {t}")
    chosen = draw(ratios.log_softmax(-1))[:, None]
    log_normalizer = ratios.logsumexp(-1) - math.log(candidates)
    log_target = tilted.gather(1, chosen)[:, 0]
    x = x.index_copy(1, torch.tensor([t], device=x.device), values.gather(1, chosen))
    return State(x, t + 1), Info(log_target, log_target - log_normalizer, log_normalizer)


@torch.no_grad()
def sample(
    model: LogLinear | Bound,
    n: int,
    length: int,
    *,
    candidates: int = 64,
    like: Tensor | None = None,
    draw: Draw | None = None,
    generator: Generator | None = None,
) -> Sample:
    """Draw n sequences of the sequential law, approximately for a combination, exactly for one model with its label bound.

    Args:
        model: the combination, or one model.
        n: number of sequences.
        length: T, one pass of the models each.
        candidates: M; more come closer to sequential guidance. One model needs 1, whatever is given.
        like: gives the dtype and device of x; float64 on the CPU by default.
        draw: log-probs [n, M] ↦ which candidate to keep, [n].
        generator: of the candidates and of the default draw.

    Raises:
        ValueError: n, length or candidates below 1; a model that returns NaN.
    """
    if not isinstance(model, LogLinear):
        model, candidates = LogLinear((model,), (1.0,)), 1
    draw = _check(model, n, length, candidates, draw, generator)
    move = partial(step, model, draw=draw, candidates=candidates, generator=generator)
    return walk(init(n, length, like), [move] * length)


@torch.no_grad()
def sample_joints(
    model: LogLinear,
    count: int,
    n: int,
    length: int,
    *,
    candidates: int = 64,
    proposal: int = 0,
    like: Tensor | None = None,
    draw: Draw | None = None,
    generator: Generator | None = None,
    resample: Resample = systematic,
    threshold: float = 0.5,
) -> list[JointSample]:
    """Draw `count` independent samples of n weighted sequences of the joint law Π_k p_k^{w_k} / Z, side by side.

    Args:
        model: the combination.
        count: number of samples.
        n: N, particles of a sample.
        length: T, one pass of the models each.
        candidates: M. The weights are proper for any M; more bring the draws closer to sequential guidance.
        proposal: index of the model that candidates are drawn from; its tails must cover those of the others.
        like: gives the dtype and device of x; float64 on the CPU by default.
        draw: log-probs [n, M] ↦ which candidate to keep, [n].
        generator: of the candidates, the default draw and the resampling.
        resample: a scheme of `arguide.smc.resampling`.
        threshold: resample when ESS < threshold·N; 0 only weighs.

    Raises:
        ValueError: count, n, length or candidates below 1; models that return NaN.
    """
    checks.integer("count", count)
    draw = _check(model, n, length, candidates, draw, generator)
    move = partial(step, model, draw=draw, candidates=candidates, proposal=proposal, generator=generator)
    first = init(count * n, length, like)
    zeros = first.x.new_zeros(count, n)
    return drive(first, zeros, [move] * length, select, resample=resample, threshold=threshold, generator=generator)


sample_joint = single(sample_joints)


def repeat_joint(
    model: LogLinear,
    n: int,
    length: int,
    *,
    repeats: int = 4,
    probes: int = 2,
    candidates: int = 64,
    like: Tensor | None = None,
    generator: Generator | None = None,
    threshold: float = 0.5,
) -> tuple[list[JointSample], Diagnosis]:
    """Draw from the joint law several times and compare: runs, and probes that draw candidates from each model in turn.

    Args:
        model: as in `sample_joints`.
        n: N.
        length: T.
        repeats: number of runs, 2 at least.
        probes: number of probes; their particles serve the diagnosis alone.
        candidates: M.
        like: gives dtype and device.
        generator: of all randomness.
        threshold: of the ESS.

    Raises:
        ValueError: fewer than two runs; and as `sample_joints`.
    """
    run = partial(sample_joint, model, n, length, candidates=candidates, like=like, generator=generator, threshold=threshold)
    others = [partial(run, proposal=(1 + k) % len(model.models)) for k in range(probes)]
    return repeat(run, others, repeats, values=lambda drawn: drawn.x)


def _check(model: LogLinear, n: int, length: int, candidates: int, draw: Draw | None, generator: Generator | None) -> Draw:
    if not isinstance(model, LogLinear):
        raise checks.refusal("model", "an arguide.continuous.LogLinear", model)
    checks.integer("n", n), checks.integer("length", length), checks.integer("candidates", candidates)
    return checks.function("draw", draw or torch_categorical(generator))
