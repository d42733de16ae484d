r"""Langevin dynamics at one noise level, or annealed over a grid: unadjusted, and with the Metropolis correction (MALA).

A step of size h proposes x' = x + h·s(x) + √(2h)·ξ. Unadjusted, it keeps a law that is off by O(h); accepted with
probability min(1, π(x') q(x|x') / π(x) q(x'|x)), *each sample by itself*, it keeps π exactly.

Every sampler returns `Chains`. Autoregressive models of continuous values have a density, so MALA can draw their joint law:
see `target`.

Sources: Roberts & Tweedie, "Exponential convergence of Langevin distributions and their discrete approximations" (1996),
https://www.jstor.org/stable/3318418; Song & Ermon, "Generative modeling by estimating gradients of the data distribution",
arXiv:1907.05600, for the annealing; Du et al., "Reduce, reuse, recycle", arXiv:2302.11552, for compositions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arguide import checks
from arguide.continuous import Conditionals
from arguide.continuous import LogLinear as ContinuousLogLinear
from arguide.smc.draws import Draw, normal, uniform
from arguide.smc.samples import Chains
from diffusion.guidance import columns
from diffusion.models import Field
from diffusion.models import Target as Target
from diffusion.models import with_autograd as with_autograd


class State(NamedTuple):
    """n chains: x [n, d], the target's log-density [n] (up to a constant) and score [n, d] there."""

    x: Tensor
    log_density: Tensor
    score: Tensor


def target(model: ContinuousLogLinear) -> Target:
    """Return x ↦ (Σ_k w_k log p_k(x), its gradient) of continuous autoregressive models: their joint law."""
    return with_autograd(model.log_density)


def guided(model: Conditionals, label: Any, scale: float) -> Target:
    """Return the target p(x)^{1−γ} p(x|label)^γ, the joint law of guidance.

    Args:
        model: p(x) and p(x|label).
        label: the condition.
        scale: γ.

    Raises:
        ValueError: a model that is no function, or a scale that is not finite.
    """
    checks.function("model", model), checks.number("scale", scale)
    return target(ContinuousLogLinear.guidance(partial(model, label=label), model, scale))


def unadjusted(score: Field, x: Tensor, sigma: Tensor, step_size: Tensor | float, draw: Draw) -> Tensor:
    """Take one Langevin step without correction: return x + h·s(x, σ) + √(2h)·ξ, [n, …].

    Args:
        score: (x, σ) ↦ score.
        x: samples, [n, …].
        sigma: σ, [].
        step_size: h, a number.
        draw: standard normals.

    Example:
        >>> normal = lambda x, sigma: -x / (1 + sigma**2)
        >>> diffusion.unadjusted(normal, torch.ones(1, 2), torch.tensor(0.0), 0.1, torch.zeros_like)
        tensor([[0.9000, 0.9000]])
    """
    if not isinstance(step_size, Tensor):
        checks.positive("step_size", step_size)
    return x + step_size * score(x, sigma) + (2 * step_size) ** 0.5 * draw(x)


def init(target: Target, x: Tensor) -> State:
    """Return the chains at x, [n, d]."""
    return State(x, *target(x))


def step(target: Target, state: State, step_size: Tensor | float, draw: Draw, uniform: Draw) -> tuple[State, Tensor]:
    """Take one MALA step on every chain by itself; return the state and which chains accepted, [n].

    Args:
        target: x ↦ (log-density, score).
        state: n chains.
        step_size: h, a number.
        draw: standard normals.
        uniform: uniform numbers in [0, 1).
    """
    x = state.x + step_size * state.score + (2 * step_size) ** 0.5 * draw(state.x)
    proposed = init(target, x)
    back = _log_proposal(proposed, state.x, step_size) - _log_proposal(state, proposed.x, step_size)
    log_ratio = proposed.log_density - state.log_density + back
    accepted = uniform(log_ratio).log() < log_ratio
    kept = (torch.where(columns(accepted, new), new, old) for new, old in zip(proposed, state, strict=True))
    return State(*kept), accepted


def mala(
    target: Target, x: Tensor, *, step_size: Tensor | float, steps: int, generator: torch.Generator | None = None
) -> Chains:
    """Run `steps` MALA steps from x [n, d]; log_target of the chains is the log-density, [n, 1].

    Args:
        target: x ↦ (log-density, score).
        x: where the chains start.
        step_size: h, a number.
        steps: number of steps.
        generator: of all randomness.

    Raises:
        ValueError: a step size that is not positive, no step, or a start where the log-density or the score is not finite.

    Example:
        >>> pair = analysis.GaussianPair.scalar(1.0, 1.0, 4.0)
        >>> target = diffusion.langevin.with_autograd(pair.cond.log_density)
        >>> chains = diffusion.mala(target, torch.zeros(100, 1).double(), step_size=0.5, steps=20)
        >>> chains.x.shape, bool(chains.accepted.mean() > 0.5)
        (torch.Size([100, 1]), True)
    """
    checks.positive("step_size", step_size), checks.integer("steps", steps)
    draws, state = (normal(generator), uniform(generator)), init(checks.function("target", target), _start(x))
    if not (state.log_density.isfinite().all() and state.score.isfinite().all()):
        raise ValueError("x must start where the target has a finite log-density and score, got a chain that does not")
    accepts = torch.zeros_like(state.log_density)
    for _ in range(steps):
        state, accepted = step(target, state, step_size, *draws)
        accepts += accepted
    return _chains(state.x, accepts / steps, state.log_density[:, None])


def annealed(
    score: Field, x: Tensor, sigmas: Tensor, *, steps: int, ratio: float = 0.1, generator: torch.Generator | None = None
) -> Chains:
    """Run unadjusted Langevin down a grid, `steps` steps of size h = ratio·σ² at each level above 0.

    Args:
        score: (x, σ) ↦ score.
        x: where the chains start, [n, …].
        sigmas: a falling grid.
        steps: number of steps per level.
        ratio: h/σ².
        generator: of all randomness.

    Raises:
        ValueError: a grid that rises or has a negative level, no step, a ratio that is not positive; a score that has led to
            NaN or ∞.

    Example:
        >>> normal = lambda x, sigma: -x / (1 + sigma**2)
        >>> diffusion.annealed(normal, 10 * torch.randn(4, 2), diffusion.edm(10, 0.1, 10.0), steps=5).x.shape
        torch.Size([4, 2])
    """
    draw, x = normal(generator), _start(x)
    checks.function("score", score)
    for sigma in _levels(sigmas, steps, ratio):
        for _ in range(steps):
            x = unadjusted(score, x, sigma, ratio * sigma**2, draw)
    if not x.isfinite().all():
        raise ValueError("x must stay finite, got NaN or inf at the end; check the score, or take a smaller ratio")
    return _chains(x, x.new_ones(len(x)), x.new_empty((len(x), 0)))


def annealed_mala(
    target_at: Callable[[Tensor], Target],
    x: Tensor,
    sigmas: Tensor,
    *,
    steps: int,
    ratio: float = 0.3,
    generator: torch.Generator | None = None,
) -> Chains:
    """Run MALA down a grid, `steps` steps of size h = ratio·σ² at each level above 0; `accepted` is the mean over levels.

    Every level's chain is exact for its own target. Near σ = 0 chains no longer move between modes, so the result inherits
    the shares of the modes at the middle levels, and is exact in the limit of many levels and steps only.

    Args:
        target_at: sigma ↦ target, for instance of Σ_k w_k log p_{σ,k}.
        x: where the chains start, [n, d].
        sigmas: a falling grid.
        steps: number of steps per level.
        ratio: h/σ².
        generator: of all randomness.

    Raises:
        ValueError: as `annealed`, and as `mala` at every level.

    Example:
        >>> normal = lambda sigma: lambda x: (-x.square().sum(1) / (2 + 2 * sigma**2), -x / (1 + sigma**2))
        >>> diffusion.annealed_mala(normal, 10 * torch.randn(4, 2), diffusion.edm(10, 0.1, 10.0), steps=5).x.shape
        torch.Size([4, 2])
    """
    checks.function("target_at", target_at), _start(x)
    accepted = []
    for sigma in _levels(sigmas, steps, ratio):
        chains = mala(target_at(sigma), x, step_size=ratio * sigma**2, steps=steps, generator=generator)
        x = chains.x
        accepted.append(chains.accepted)
    return chains._replace(accepted=torch.stack(accepted).mean(0))


def _chains(x: Tensor, accepted: Tensor, log_target: Tensor) -> Chains:
    return Chains(x, accepted, log_target, torch.zeros_like(log_target), log_target.new_empty((0, len(x))))


def _start(x: Tensor) -> Tensor:
    if not checks.tensor("x", x).isfinite().all() or not x.is_floating_point():
        raise checks.refusal("x", "finite floating-point samples [n, …]", x)
    return x


def _levels(sigmas: Tensor, steps: int, ratio: float) -> Tensor:
    """Return the levels above 0; there must be one."""
    checks.integer("steps", steps), checks.positive("ratio", ratio)
    levels = checks.falling("sigmas", sigmas, ends_at_zero=False, least=1)
    if levels[0] == 0:
        raise checks.refusal("sigmas", "levels of which one is above 0", levels)
    return levels[levels > 0]


def _log_proposal(start: State, end: Tensor, step_size: Tensor | float) -> Tensor:
    """Return log N(end; x + h·s, 2h·I) up to a constant, [n]."""
    return -(end - start.x - step_size * start.score).flatten(1).square().sum(-1) / (4 * step_size)
