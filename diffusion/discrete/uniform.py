r"""Diffusion with uniform noise, guided: every token becomes uniform over its V_j values at rate 1, and back.

From t to s < t, branch k moves every token by the exact reverse kernel of its own denoiser D_k(a) = p_k(x_0,j = a | x_t),

    k_k(v | x_t) = Σ_a D_k(a) K_s(v|a) K_{t−s}(x_j|v) / K_t(x_j|a),    K_t(v|a) = e^{−t}[v = a] + (1 − e^{−t})/V_j,

and guidance multiplies the kernels, K_{t−s}^{1−W} Π_k k_k^{w_k} / Z_j; where the weights do not sum to W = 1, noise makes up
for it. With rates R_k(x → x') = p_{t,k}(x')/(V_j p_{t,k}(x)), x' one token away, small steps tend to the process of guided
rates Π_k R_k^{w_k} V_j^{W−1}, whose law is not the joint one. Their log normalizer is

    Σ_j log Z_j = (t − s) Σ_{x'} [Π_k R_k^{w_k} V_j^{W−1} − Σ_k w_k R_k − (1 − W)/V_j] + O((t − s)²),

the Feynman–Kac potential: as ∂_t p_k(x) = p_k(x) Σ_{x'} (R_k(x → x') − 1/V_j), and as the guided process alone moves
π = Π_k p_{t,k}^{w_k} by Σ_{x'} (π(x) − π(x'))/V_j, it keeps particles on π. Weighted by Π Z, they follow the joint law in
the limit of small steps; one token alone is exact at any step, as its kernels are those of the whole process.

Sources: Nisonoff et al. (2024) for the rates; Schiff et al. (2024) for the kernels;
Lee et al., "Debiasing guidance for discrete diffusion with sequential Monte Carlo" (2025), for weights.
"""

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from arguide import checks
from arguide.smc.driver import Move, drive, populate
from arguide.smc.resampling import Resample, systematic
from diffusion.discrete.base import Choose, categorical, check_model, combine, one_target
from diffusion.models import LogLinear
from diffusion.particles import JointSample, driven


def kernel(log_denoised: Tensor, x: Tensor, sizes: Tensor, time: Tensor, time_next: Tensor) -> Tensor:
    """Return log k(v | x_t), [n, T, V], of the step from `time` to `time_next`; codes v ≥ V_j are −∞.

    Args:
        log_denoised: log p(x_0,j = v | x_t), [n, T, V].
        x: tokens x_t, [n, T].
        sizes: V_j, [T].
    """
    values = torch.arange(log_denoised.shape[2], device=x.device)
    here = x[..., None] == values
    evidence = log_denoised - _noise(here, sizes, time)
    stay, uniform = -time_next, (-torch.expm1(-time_next) / sizes).log()[:, None]
    ahead = torch.logaddexp(evidence + stay, evidence.logsumexp(-1, keepdim=True) + uniform)
    return (ahead + _noise(here, sizes, time - time_next)).masked_fill(values >= sizes[:, None], -math.inf)


def step(model: LogLinear, x: Tensor, sizes: Tensor, time: Tensor, time_next: Tensor, choose: Choose) -> tuple[Tensor, Tensor]:
    """Take one guided step from `time` to `time_next`, x [n, T]; return x and Σ_j log Z_j, [n]."""
    weights = model.weights_at(time)
    kernels = [kernel(denoise(x, time), x, sizes, time, time_next) for denoise in model.scores]
    same = x[..., None] == torch.arange(kernels[0].shape[2], device=x.device)
    noise = _noise(same, sizes, time - time_next)
    guided = combine([*kernels, noise], [*weights, 1 - sum(weights)])
    log_z = guided.logsumexp(-1)
    law = torch.where(log_z[..., None] == -math.inf, same.log(), guided).log_softmax(-1)  # where nothing is possible, x stays
    return choose(law.flatten(0, 1)).reshape(x.shape), log_z.sum(1)


def init(n: int, sizes: Tensor, choose: Choose) -> Tensor:
    """Draw tokens of pure noise, uniform over V_j values each, [n, T]."""
    values = torch.arange(int(sizes.max()), device=sizes.device)
    law = torch.where(values < sizes[:, None], -sizes[:, None].double().log(), -math.inf)
    return choose(law.repeat(n, 1)).reshape(n, len(sizes))


def sample(
    model: LogLinear,
    n: int,
    sizes: Sequence[int],
    times: Tensor,
    *,
    choose: Choose | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw n sequences by guided diffusion with uniform noise, [n, T].

    Args:
        model: denoisers (x [n, T], time) ↦ log p(x_0,j = v | x_t), [n, T, V], and their weights.
        sizes: V_1, …, V_T.
        times: falling to 0 from where nothing is left of the data, such as `diffusion.geometric(100, 0.01, 8.0)`.
        choose: the seam of randomness, log-probs [m, V] ↦ [m].

    Raises:
        ValueError: a step that leaves no possible token; a grid, sizes or a number of rows that cannot be.
    """
    choose = _check(model, n, sizes, times, choose or categorical(generator))
    counts = torch.tensor(sizes, device=times.device)
    x = init(n, counts, choose)
    for pair in pairwise(times):
        x, log_z = step(model, x, counts, *pair, choose)
        if (log_z == -math.inf).any():
            raise ValueError(f"dead end at time {float(pair[0]):g}: the branches leave no possible token")
    return x


def sample_joint(
    model: LogLinear,
    n: int,
    sizes: Sequence[int],
    times: Tensor,
    *,
    choose: Choose | None = None,
    generator: torch.Generator | None = None,
    resample: Resample = systematic,
    threshold: float = 0.5,
) -> JointSample:
    """Draw n weighted sequences that in the limit of small steps follow Π_k p_k(x)^{w_k} / Z; log Ẑ estimates log Z.

    Args:
        resample, threshold: see `arguide.smc.driver.drive`; `threshold=0` only weighs.

    Raises:
        ValueError: weights that differ between samples or times; every particle of weight 0.
    """
    one_target(model)
    choose = _check(model, n, sizes, times, choose or categorical(generator))
    counts = torch.tensor(sizes, device=times.device)
    x = init(n, counts, choose)
    # Of pure noise, Π_k p_k^{w_k} is (Π_j 1/V_j)^W with W = Σ_k w_k; drawn uniformly, it weighs (Π_j V_j)^{1−W}.
    total = sum(float(weight) for weight in model.weights_at(times[0]))
    first = populate(x, counts.double().log().sum().mul(1 - total).repeat(n))
    moves: list[Move] = [
        partial(step, model, sizes=counts, time=time, time_next=after, choose=choose) for time, after in pairwise(times)
    ]
    steps = drive(first, moves, lambda x, i: x[i], resample=resample, threshold=threshold, generator=generator)
    return driven(steps)


def _check(model: LogLinear, n: int, sizes: Sequence[int], times: Tensor, choose: Choose) -> Choose:
    check_model(model)
    checks.integer("n", n), checks.shape("sizes", sizes), checks.falling("times", times)
    return checks.function("choose", choose)


def _noise(same: Tensor, sizes: Tensor, time: Tensor) -> Tensor:
    """Return log K_t(v|a), [n, T, V], where `same` says that v = a."""
    other = (-torch.expm1(-time) / sizes)[:, None]
    return torch.where(same, other + (-time).exp(), other).log()
