r"""Langevin dynamics at one noise level, or annealed over a grid: unadjusted, and with the Metropolis correction (MALA).

A step of size h proposes x' = x + h·s(x) + √(2h)·ξ. Unadjusted, it keeps a law that is off by O(h); accepted with
probability min(1, π(x') q(x|x') / π(x) q(x'|x)), *each sample by itself*, it keeps π exactly.

Sources: Roberts & Tweedie (1996); Song & Ermon (2019) for the annealing; Du et al., "Reduce, reuse, recycle" (2023)
for compositions.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from arguide import checks
from diffusion.models import Field
from diffusion.sampling import Draw, normal

Target = Callable[[Tensor], tuple[Tensor, Tensor]]


class State(NamedTuple):
    """n chains: x [n, d], the target's log-density [n] (up to a constant) and score [n, d] there."""

    x: Tensor
    log_density: Tensor
    score: Tensor


def with_autograd(log_density: Callable[[Tensor], Tensor]) -> Target:
    """Return x ↦ (log π(x), ∇ log π(x)) by autograd, from a log-density [n, d] ↦ [n]."""
    checks.function("log_density", log_density)

    def target(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = log_density(leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient

    return target


def unadjusted(score: Field, x: Tensor, sigma: Tensor, step_size: Tensor | float, draw: Draw) -> Tensor:
    """Take one Langevin step without correction: x + h·s(x, σ) + √(2h)·ξ, [n, …]."""
    if not isinstance(step_size, Tensor):
        checks.positive("step_size", step_size)
    return x + step_size * score(x, sigma) + (2 * step_size) ** 0.5 * draw(x)


def init(target: Target, x: Tensor) -> State:
    """Return the chains at x, [n, d]."""
    return State(x, *target(x))


def step(target: Target, state: State, step_size: Tensor | float, draw: Draw, uniform: Draw) -> tuple[State, Tensor]:
    """Take one MALA step on every chain by itself; return the state and which chains accepted, [n].

    Args:
        step_size: h, a number.
        draw: standard normal of a shape; uniform: the same on [0, 1).
    """
    x = state.x + step_size * state.score + (2 * step_size) ** 0.5 * draw(state.x)
    proposed = init(target, x)
    back = _log_proposal(proposed, state.x, step_size) - _log_proposal(state, proposed.x, step_size)
    log_ratio = proposed.log_density - state.log_density + back
    accepted = uniform(log_ratio).log() < log_ratio
    kept = (torch.where(_rows(accepted, new), new, old) for new, old in zip(proposed, state, strict=True))
    return State(*kept), accepted


def mala(
    target: Target, x: Tensor, *, step_size: Tensor | float, steps: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Run `steps` MALA steps from x [n, d]; return x and the mean acceptance rate of every chain, [n].

    Raises:
        ValueError: a step size that is not positive, no step, or a start where the log-density or the score is not finite.
    """
    checks.positive("step_size", step_size), checks.integer("steps", steps)
    draw, uniform, state = normal(generator), _uniform(generator), init(checks.function("target", target), _start(x))
    if not (state.log_density.isfinite().all() and state.score.isfinite().all()):
        raise ValueError("x must start where the target has a finite log-density and score, got a chain that does not")
    accepts = torch.zeros_like(state.log_density)
    for _ in range(steps):
        state, accepted = step(target, state, step_size, draw, uniform)
        accepts += accepted
    return state.x, accepts / steps


def annealed(
    score: Field, x: Tensor, sigmas: Tensor, *, steps: int, ratio: float = 0.1, generator: torch.Generator | None = None
) -> Tensor:
    """Run unadjusted Langevin down a grid, `steps` steps of size h = ratio·σ² at each level above 0; return x [n, …].

    Raises:
        ValueError: a grid that rises or holds what is no noise level, no step, a ratio that is not positive; a score that has
            led to NaN or ∞.
    """
    draw, x = normal(generator), _start(x)
    checks.function("score", score)
    for sigma in _levels(sigmas, steps, ratio):
        for _ in range(steps):
            x = unadjusted(score, x, sigma, ratio * sigma**2, draw)
    if not x.isfinite().all():
        raise ValueError("x must stay finite, got NaN or inf at the end; check the score, or take a smaller ratio")
    return x


def annealed_mala(
    target_at: Callable[[Tensor], Target],
    x: Tensor,
    sigmas: Tensor,
    *,
    steps: int,
    ratio: float = 0.3,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Run MALA down a grid, `steps` steps of size h = ratio·σ² at each level above 0; return x [n, d].

    Every level's chain is exact for its own target. Near σ = 0 a multimodal law no longer mixes, so the result inherits
    what the middle levels held, and is exact in the limit of many levels and steps only.

    Args:
        target_at: sigma ↦ target, for instance of Σ_k w_k log p_{σ,k}.

    Raises:
        ValueError: as `annealed`, and as `mala` at every level.
    """
    checks.function("target_at", target_at), _start(x)
    for sigma in _levels(sigmas, steps, ratio):
        x, _ = mala(target_at(sigma), x, step_size=ratio * sigma**2, steps=steps, generator=generator)
    return x


def _start(x: Tensor) -> Tensor:
    if not checks.tensor("x", x).isfinite().all() or not x.is_floating_point():
        raise checks.refusal("x", "finite floating-point samples [n, …]", x)
    return x


def _levels(sigmas: Tensor, steps: int, ratio: float) -> Tensor:
    """Return the levels above 0, of which there is one at least."""
    checks.integer("steps", steps), checks.positive("ratio", ratio)
    levels = checks.falling("sigmas", sigmas, ends_at_zero=False, least=1)
    if levels[0] == 0:
        raise checks.refusal("sigmas", "levels of which one is above 0", levels)
    return levels[levels > 0]


def _log_proposal(start: State, end: Tensor, step_size: Tensor | float) -> Tensor:
    """Return log N(end; x + h·s, 2h·I) up to a constant, [n]."""
    return -(end - start.x - step_size * start.score).flatten(1).square().sum(-1) / (4 * step_size)


def _rows(mask: Tensor, like: Tensor) -> Tensor:
    return mask.reshape(-1, *(1,) * (like.ndim - 1))


def _uniform(generator: torch.Generator | None) -> Draw:
    return lambda like: torch.rand(like.shape, generator=generator, dtype=like.dtype, device=like.device)
