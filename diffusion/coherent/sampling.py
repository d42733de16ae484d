r"""Sequential guidance by a coherent pair of scores, with the posterior of the path as part of the state.

Every step follows the kernel of the guided score γ s_y + (1 − γ) Σ_k ρ_k s_k, and ρ_k gains the density of label k's kernel.
Densities are those of the kernels, on paths x_{σ_0}, x_{σ_1}, … down to the last level above 0:

    log_proposal     log N(x'; μ of the guided score, v I)
    log_target       γ log k_y(x' | x) + (1 − γ) log Σ_k ρ_k k_k(x' | x), which sums to log of p(path|y)^γ p(path)^{1−γ}
    log_normalizer   log Z of the step's Gaussians, ½ γ(γ − 1) ‖μ_y − Σ_k ρ_k μ_k‖²/v

So the weights Σ (log_target − log_proposal) are those of `diffusion.sample_accepted`'s joint law on paths: their mean is Z, and
s_γ/s'_γ = exp(Σ (log_target − log_proposal))/Z is exact. They tend to Σ log_normalizer as steps shrink; they differ because the
mixture of kernels is a Gaussian only in that limit. The last step, to σ' = 0, denoises and carries no evidence.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from arguide import checks
from arguide.smc.draws import Draw, normal, wide
from arguide.smc.samples import Info
from diffusion.coherent.kernels import Kernel
from diffusion.coherent.mixture import Component, Mixture
from diffusion.guidance import Weight, potential, weighted_sum
from diffusion.models import Field, LogLinear, combination
from diffusion.sampling import check_finite
from diffusion.sampling import init as first_noise


class State(NamedTuple):
    """n samples at a noise level, x [n, …], and log ρ_k of their paths, [n, K]."""

    x: Tensor
    log_posterior: Tensor


class PathSample(NamedTuple):
    """n draws with the posterior of their paths.

    x: values [n, …].
    log_target, log_proposal, log_normalizer: see `arguide.smc.samples.Info`, [n, steps] each.
    log_posterior: log p(k | path), [n, K].
    """

    x: Tensor
    log_target: Tensor
    log_proposal: Tensor
    log_normalizer: Tensor
    log_posterior: Tensor

    @property
    def log_weights(self) -> Tensor:
        """Unnormalised log-weights Σ_t (log p̃_t − log q_t) of the paths, [n]."""
        return (self.log_target - self.log_proposal).sum(1)


def init(model: LogLinear, like: Tensor, sigma_max: Tensor, draw: Draw) -> State:
    """Return x ~ N(0, σ_max²) and the prior, which wide noise leaves as it is.

    Args:
        model: guidance by a `Mixture`.
        like: gives shape, dtype and device of x.
        sigma_max: σ_max, [].
        draw: standard normals.
    """
    log_prior = torch.as_tensor(mixture_of(model).log_prior).to(like.device, wide(like))
    return State(first_noise(like, sigma_max, draw).x, log_prior.expand(len(like), -1))


def step(model: LogLinear, state: State, sigma: Tensor, sigma_next: Tensor, draw: Draw) -> tuple[State, Info]:
    """Take one step from σ to σ' by the guided kernel; its densities are those of the module's docstring.

    Args:
        model: guidance by a `Mixture`, with weights of sum 1.
        state: n samples at σ.
        sigma: σ, [].
        sigma_next: σ' < σ, [].
        draw: standard normals.
    """
    mixture, weights = mixture_of(model), model.weights_at(sigma)
    kernel, scores = Kernel(state.x, sigma, sigma_next), mixture.scores(state.x, sigma)
    branches = [_branch(each, mixture, scores, state, sigma) for each in model.models]
    guided = weighted_sum(branches, weights)
    x = kernel.sample(guided, draw)
    if sigma_next == 0:
        zeros = state.log_posterior.new_zeros(len(x))
        return State(x, state.log_posterior), Info(zeros, zeros, zeros)
    log_joint = state.log_posterior + torch.stack([kernel.log_density(x, each) for each in scores.unbind(1)], 1)
    log_mixture = log_joint.logsumexp(1)
    logs = [
        log_mixture if each is mixture else kernel.log_density(x, branch)
        for each, branch in zip(model.models, branches, strict=True)
    ]
    log_normalizer = kernel.precision * potential(branches, weights)
    info = Info(weighted_sum(logs, weights), kernel.log_density(x, guided), log_normalizer.to(log_mixture))
    return State(x, log_joint - log_mixture[:, None]), info


def trajectory(model: LogLinear, shape: tuple[int, ...], sigmas: Tensor, draw: Draw) -> Iterator[tuple[State, Info]]:
    """Yield the state at sigmas[1], sigmas[2], …, and the densities of the step to it.

    Args:
        model: guidance by a `Mixture`.
        shape: [n, …].
        sigmas: a falling grid, which may end above 0.
        draw: standard normals.

    Raises:
        ValueError: in place of the last state, a step that gave NaN or ∞.
    """
    state = init(model, sigmas.new_empty(shape), sigmas[0], draw)
    sums = [state.x.sum()]
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas), 2):
        state, info = step(model, state, sigma, sigma_next, draw)
        sums.append(state.x.sum())
        if i == len(sigmas):
            check_finite(torch.stack(sums), sigmas)
        yield state, info


def sample(
    model: LogLinear,
    shape: tuple[int, ...],
    sigmas: Tensor,
    *,
    generator: Generator | None = None,
    draw: Draw | None = None,
    ends_at_zero: bool = True,
) -> PathSample:
    """Draw x_0, [n, …] = shape, from N(0, σ_max²) by guidance with the posterior of the path.

    Args:
        model: `Mixture.guidance(label, scale)`, or a `LogLinear` of several scores and one mixture, with weights of sum 1.
        shape: [n, …].
        sigmas: a grid of `diffusion.noise`: at least two levels, falling to 0. It gives dtype and device.
        generator: of the default draw.
        draw: x ↦ standard normals of its shape; `normal(generator)` by default.
        ends_at_zero: False lets the grid end above 0; then x at its last level is returned, which is still noised.

    Raises:
        ValueError: a model without a mixture, weights that do not sum to 1, a grid or shape out of range; a step that gave NaN
            or ∞.
    """
    draw = checks.function("draw", draw or normal(generator))
    checks.shape("shape", shape), checks.falling("sigmas", sigmas, ends_at_zero=ends_at_zero)
    mixture_of(model)
    for sigma in sigmas[:-1]:
        _check_total(model.weights_at(sigma))
    infos = []
    for state, info in trajectory(model, shape, sigmas, draw):
        last = state
        infos.append(info)
    return PathSample(last.x, *Info.stack(infos), last.log_posterior)


def mixture_of(model: LogLinear) -> Mixture:
    """Return the mixture of a combination, or raise ValueError unless there is exactly one."""
    found = [each for each in combination(model).models if isinstance(each, Mixture)]
    if len(found) != 1:
        raise checks.refusal(
            "model", "a combination with one diffusion.Mixture", len(found), "try mixture.guidance(label, scale)"
        )
    return found[0]


def _branch(model: Field, mixture: Mixture, scores: Tensor, state: State, sigma: Tensor) -> Tensor:
    """Return the score of one model of a combination, from the scores of all labels where it is among them."""
    if model is mixture:
        return mixture.mixed(scores, state.log_posterior)
    if isinstance(model, Component) and model.mixture is mixture:
        return model.among(scores)
    return model(state.x, sigma)


def _check_total(weights: Sequence[Weight]) -> None:
    total = sum(torch.as_tensor(weight, dtype=torch.float64) for weight in weights)
    if not torch.allclose(torch.as_tensor(total), torch.ones(()).double(), rtol=0, atol=1e-6):
        raise checks.refusal("weights", "of sum 1, so that a product of kernels is a kernel", total)
