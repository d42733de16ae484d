r"""Diffusion with uniform noise, guided: every token becomes uniform over its V_j values at rate 1, and back.

From t to s < t, branch k moves every token by the exact reverse kernel of its own denoiser D_k(a) = p_k(x_0,j = a | x_t),

    k_k(v | x_t) = Σ_a D_k(a) K_s(v|a) K_{t−s}(x_j|v) / K_t(x_j|a),    K_t(v|a) = e^{−t}[v = a] + (1 − e^{−t})/V_j,

and guidance multiplies the kernels, K_{t−s}^{1−W} Π_k k_k^{w_k} / Z_j with W = Σ_k w_k; where W ≠ 1, the noise K_{t−s} has the
remaining weight 1 − W. With rates R_k(x → x') = p_{t,k}(x')/(V_j p_{t,k}(x)), x' one token away, small steps tend to the
process of guided rates Π_k R_k^{w_k} V_j^{W−1}, whose law is not the joint one. Their log normalizer is

    Σ_j log Z_j = (t − s) Σ_{x'} [Π_k R_k^{w_k} V_j^{W−1} − Σ_k w_k R_k − (1 − W)/V_j] + O((t − s)²),

the Feynman–Kac potential: as ∂_t p_k(x) = p_k(x) Σ_{x'} (R_k(x → x') − 1/V_j), and as the guided process alone moves
π = Π_k p_{t,k}^{w_k} by Σ_{x'} (π(x) − π(x'))/V_j, it keeps particles on π. Weighted by Π Z, they follow the joint law in
the limit of small steps; one token alone is exact at any step, as its kernels are those of the whole process.

Sources: Nisonoff et al., "Unlocking guidance for discrete state-space diffusion and flow models", arXiv:2406.01572, for the
rates; Schiff et al., "Simple guidance mechanisms for discrete diffusion models", arXiv:2412.10193, for the kernels; Lee et al.,
"Debiasing guidance for discrete diffusion with sequential Monte Carlo", arXiv:2502.06079, for weights.

Example:
    >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
    >>> cond, uncond = diffusion.conditioned(table.denoise_uniform, 1), diffusion.conditioned(table.denoise_uniform)
    >>> diffusion.uniform.sample(diffusion.LogLinear.guidance(cond, uncond, 3.0), 100, (2, 2), torch.linspace(1, 0, 9)).x.shape
    torch.Size([100, 2])
"""

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Generator, Tensor

from arguide import checks
from arguide.smc.diagnostics import Diagnosis
from arguide.smc.draws import Draw, torch_categorical
from arguide.smc.driver import Move, drive, single, walk
from arguide.smc.repeats import repeat
from arguide.smc.resampling import Resample, systematic
from arguide.smc.samples import Info, JointSample, Sample
from diffusion.discrete.base import State, combine, select
from diffusion.models import LogLinear, combination
from diffusion.noise import refined


def kernel(log_denoised: Tensor, x: Tensor, sizes: Tensor, time: Tensor, time_next: Tensor) -> Tensor:
    """Return log k(v | x_t), [n, T, V], of the step from `time` to `time_next`; codes v ≥ V_j are −∞.

    Args:
        log_denoised: log p(x_0,j = v | x_t), [n, T, V].
        x: tokens x_t, [n, T].
        sizes: V_j, [T].
        time: t, [].
        time_next: s < t, [].
    """
    values = torch.arange(log_denoised.shape[2], device=x.device)
    here = x[..., None] == values
    evidence = log_denoised - _noise(here, sizes, time)
    stay, uniform = -time_next, (-torch.expm1(-time_next) / sizes).log()[:, None]
    ahead = torch.logaddexp(evidence + stay, evidence.logsumexp(-1, keepdim=True) + uniform)
    return (ahead + _noise(here, sizes, time - time_next)).masked_fill(values >= sizes[:, None], -math.inf)


def init(n: int, sizes: Tensor, draw: Draw) -> State:
    """Draw n sequences of pure noise, uniform over V_j values at position j.

    Args:
        n: number of sequences.
        sizes: V_j, [T].
        draw: log-probs [m, V] ↦ values [m].
    """
    values = torch.arange(int(sizes.max()), device=sizes.device)
    law = torch.where(values < sizes[:, None], -sizes[:, None].double().log(), -math.inf)
    return State(draw(law.repeat(n, 1)).reshape(n, len(sizes)))


def step(model: LogLinear, state: State, sizes: Tensor, time: Tensor, time_next: Tensor, draw: Draw) -> tuple[State, Info]:
    """Take one guided step from t = `time` to s = `time_next`; log_normalizer is Σ_j log Z_j.

    Where no value is possible (Z_j = 0) x stays, and log_target = −∞.

    Args:
        model: the combination of denoisers.
        state: tokens x_t.
        sizes: V_j, [T].
        time: t, [].
        time_next: s, [].
        draw: log-probs [n·T, V] ↦ values [n·T].
    """
    x, weights = state.x, model.weights_at(time)
    kernels = [kernel(denoise(x, time), x, sizes, time, time_next) for denoise in model.models]
    same = x[..., None] == torch.arange(kernels[0].shape[2], device=x.device)
    noise = _noise(same, sizes, time - time_next)
    guided = combine([*kernels, noise], [*weights, 1 - sum(weights)])
    log_z = guided.logsumexp(-1)
    law = torch.where(log_z[..., None] == -math.inf, same.log(), guided).log_softmax(-1)
    x = draw(law.flatten(0, 1)).reshape(x.shape)
    log_normalizer, log_proposal = log_z.sum(1), law.gather(2, x[..., None]).sum((1, 2))
    return State(x), Info(log_normalizer + log_proposal, log_proposal, log_normalizer)


def sample(
    model: LogLinear,
    n: int,
    sizes: Sequence[int],
    times: Tensor,
    *,
    draw: Draw | None = None,
    generator: Generator | None = None,
) -> Sample:
    """Draw n sequences by guided diffusion with uniform noise.

    Args:
        model: denoisers (x [n, T], time) ↦ log p(x_0,j = v | x_t), [n, T, V], and their weights.
        n: number of sequences.
        sizes: V_1, …, V_T.
        times: falling to 0 from a time where the noise has covered the data, such as `diffusion.geometric(100, 0.01, 8.0)`.
        draw: log-probs [m, V] ↦ values [m].
        generator: of the default draw.

    Raises:
        ValueError: a step that leaves no possible token; a grid, sizes or n out of range.
    """
    first, moves, _ = _prepared(model, n, sizes, times, draw, generator)
    drawn = walk(first, moves)
    dead = (drawn.log_normalizer == -math.inf).any(0)
    if dead.any():
        time = float(times[int(dead.int().argmax())])
        raise ValueError(f"dead end at time {time:g}: the branches leave no possible token")
    return drawn


def sample_joints(
    model: LogLinear,
    count: int,
    n: int,
    sizes: Sequence[int],
    times: Tensor,
    *,
    draw: Draw | None = None,
    generator: Generator | None = None,
    resample: Resample = systematic,
    threshold: float = 0.5,
) -> list[JointSample]:
    """Draw `count` samples of n weighted sequences, which in the limit of small steps follow Π_k p_k(x)^{w_k} / Z.

    Args:
        model: as in `sample`, its weights the same for all particles and at every time.
        count: number of samples, side by side in one batch.
        n: N, particles of a sample.
        sizes: V_1, …, V_T.
        times: as in `sample`.
        draw: as in `sample`.
        generator: of the default draw and of the resampling.
        resample: a scheme of `arguide.smc.resampling`.
        threshold: resample when ESS < threshold·N; 0 only weighs.

    Raises:
        ValueError: weights that differ between samples or times; a sample whose particles all have weight 0.
    """
    total = combination(model).total_weight()
    first, moves, counts = _prepared(model, checks.integer("count", count) * n, sizes, times, draw, generator)
    # Of pure noise, Π_k p_k^{w_k} is (Π_j 1/V_j)^W with W = Σ_k w_k; drawn uniformly, it weighs (Π_j V_j)^{1−W}.
    log_weights = counts.double().log().sum().mul(1 - total).repeat(count, n)
    return drive(first, log_weights, moves, select, resample=resample, threshold=threshold, generator=generator)


sample_joint = single(sample_joints)


def repeat_joint(
    model: LogLinear,
    n: int,
    sizes: Sequence[int],
    times: Tensor,
    *,
    repeats: int = 4,
    probes: int = 2,
    generator: Generator | None = None,
    threshold: float = 0.5,
) -> tuple[list[JointSample], Diagnosis]:
    """Draw from the joint law several times and compare: runs of `sample_joint`, and probes on a finer grid.

    Args:
        model: as in `sample_joints`, as are n, sizes, times and threshold.
        n: N.
        sizes: V_1, …, V_T.
        times: the grid of the runs.
        repeats: number of runs, 2 at least.
        probes: number of runs on the grid of twice the steps; their particles serve the diagnosis alone.
        generator: of all randomness.
        threshold: of the ESS.

    Raises:
        ValueError: fewer than two runs; and as `sample_joints`.
    """
    draw = partial(sample_joint, model, n, sizes, generator=generator, threshold=threshold)
    return repeat(partial(draw, times), [partial(draw, refined(times))] * probes, repeats)


def _prepared(
    model: LogLinear, n: int, sizes: Sequence[int], times: Tensor, draw: Draw | None, generator: Generator | None
) -> tuple[State, list[Move], Tensor]:
    """Return pure noise, the moves through the grid, and V_j as a tensor, [T]."""
    combination(model), checks.integer("n", n), checks.shape("sizes", sizes), checks.falling("times", times)
    draw = checks.function("draw", draw or torch_categorical(generator))
    counts = torch.tensor(sizes, device=times.device)
    moves: list[Move] = [
        partial(step, model, sizes=counts, time=time, time_next=after, draw=draw) for time, after in pairwise(times)
    ]
    return init(n, counts, draw), moves, counts


def _noise(same: Tensor, sizes: Tensor, time: Tensor) -> Tensor:
    """Return log K_t(v|a), [n, T, V], where `same` is v = a."""
    other = (-torch.expm1(-time) / sizes)[:, None]
    return torch.where(same, other + (-time).exp(), other).log()
