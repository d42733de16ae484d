r"""Masked (absorbing) diffusion, guided: tokens are unmasked one at a time, in an order that is drawn too.

The reverse process unmasks x_j to v at a rate ∝ p(x_j = v | x_U), x_U the unmasked tokens, so a denoiser needs no time. The
guided rates are w_j(v) = Π_k p_k(v | x_U)^{w_k}, Z_j = Σ_v w_j(v), S = Σ over the m masked j of Z_j. A rule makes them the
law of the next jump (j, v): `unnormalized`, `normalized` or `left_to_right`. Each has its own law of x, none the joint one.

Weights make any of them exact. Let the target draw the next position with o_j(x_U), and the value by w_j(v), unnormalised.
As Σ_π Π o = 1 for every x, its mass on x is Π_k p_k(x)^{w_k}, whatever the order; a jump drawn with probability q(j, v) weighs

    o_j w_j(v) / q(j, v):    S/m for unnormalised rates (o_j = 1/m),    Z_j for normalised ones (whatever o_j).

S/m is also what the potential of the continuous-time process, rate·(S − m), gives when the holding time is integrated out.

Sources: Ou et al., "Your absorbing discrete diffusion secretly models the conditional distributions of clean data" (2024), for
the rates; Nisonoff et al., "Unlocking guidance for discrete state-space diffusion and flow models" (2024), and Schiff
et al. (2024) for guided ones; Lee et al., "Debiasing guidance for discrete diffusion with
sequential Monte Carlo" (2025), for weights.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from arguide import checks
from arguide.guidance import normalize
from arguide.smc.driver import drive, populate
from arguide.smc.resampling import Resample, systematic
from diffusion.discrete.base import Choose, categorical, check_model, combine, one_target
from diffusion.models import LogLinear
from diffusion.particles import JointSample, driven

MASK = -1


class Jump(NamedTuple):
    """How the next jump is drawn: log q(j, v), [n, T, V], and log o_j of the target, [n, T]; unmasked j are −∞ in both."""

    log_probs: Tensor
    log_order: Tensor


Rule = Callable[[Tensor, Tensor], Jump]


def unnormalized(log_rates: Tensor, masked: Tensor) -> Jump:
    """Jump in proportion to the guided rates, w_j(v)/S; the target's order is uniform."""
    return Jump(normalize(log_rates.flatten(1)).log_probs.reshape(log_rates.shape), _uniform(masked))


def normalized(log_rates: Tensor, masked: Tensor) -> Jump:
    """Choose a masked position uniformly, then its value from w_j(v)/Z_j: softmax guidance at every position."""
    return _at(log_rates, _uniform(masked))


def left_to_right(log_rates: Tensor, masked: Tensor) -> Jump:
    """Unmask the first masked position, its value from w_j(v)/Z_j: sequential autoregressive guidance."""
    first = masked & (masked.cumsum(1) == 1)
    return _at(log_rates, torch.where(first, 0.0, -math.inf).to(log_rates.dtype))


def step(model: LogLinear, x: Tensor, rule: Rule, choose: Choose) -> tuple[Tensor, Tensor]:
    """Unmask one token of every row, x [n, T]; return x and the log incremental weights, [n].

    A row where no jump is possible (Z = 0) weighs 0, log −∞, and gets token 0.
    """
    masked = x == MASK
    time = masked.double().mean()
    log_probs = [denoise(x, time) for denoise in model.scores]
    log_rates = combine(log_probs, model.weights_at(time)).masked_fill(~masked[..., None], -math.inf)
    jump = rule(log_rates, masked)
    law = jump.log_probs.flatten(1)
    dead = law.amax(1) == -math.inf
    anything = torch.full_like(log_rates, -math.inf)
    anything[..., 0] = masked.log()
    index = choose(torch.where(dead[:, None], anything.flatten(1), law).log_softmax(1))
    at, position = index[:, None], index[:, None] // log_rates.shape[2]
    log_target = log_rates.flatten(1).gather(1, at) + jump.log_order.gather(1, position)
    increment = (log_target - law.gather(1, at)).squeeze(1)
    x = x.scatter(1, position, at % log_rates.shape[2])
    return x, torch.where(dead, -math.inf, increment)


def sample(
    model: LogLinear,
    n: int,
    length: int,
    *,
    rule: Rule = normalized,
    choose: Choose | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw n sequences of `length` tokens by guided masked diffusion, [n, T].

    Args:
        model: denoisers (x [n, T] with −1 for masks, share of masks) ↦ log-probs [n, T, V], and their weights.
        rule: `unnormalized`, `normalized` or `left_to_right`.
        choose: the seam of randomness, log-probs [n, T·V] ↦ flat index of the jump, [n].

    Raises:
        ValueError: unmasked tokens that leave no possible jump; no row, no token, or what is no model.
    """
    choose = _check(model, n, length, rule, choose or categorical(generator))
    x = torch.full((n, length), MASK, device=device)
    for left in range(length, 0, -1):
        x, increment = step(model, x, rule, choose)
        if (increment == -math.inf).any():
            raise ValueError(f"dead end with {left} masks left: the branches leave no possible token")
    return x


def sample_joint(
    model: LogLinear,
    n: int,
    length: int,
    *,
    rule: Rule = normalized,
    choose: Choose | None = None,
    generator: torch.Generator | None = None,
    resample: Resample = systematic,
    threshold: float = 0.5,
    device: torch.device | str | None = None,
) -> JointSample:
    """Draw n weighted sequences from the joint law Π_k p_k(x)^{w_k} / Z; Ẑ is unbiased.

    Args:
        resample, threshold: see `arguide.smc.driver.drive`; `threshold=0` only weighs.

    Raises:
        ValueError: weights that differ between samples or times; every particle of weight 0.
    """
    one_target(model)
    choose = _check(model, n, length, rule, choose or categorical(generator))
    first = populate(torch.full((n, length), MASK, device=device), torch.zeros(n, dtype=torch.float64, device=device))
    moves = [lambda x: step(model, x, rule, choose)] * length
    steps = drive(first, moves, lambda x, i: x[i], resample=resample, threshold=threshold, generator=generator)
    return driven(steps)


def _check(model: LogLinear, n: int, length: int, rule: Rule, choose: Choose) -> Choose:
    check_model(model)
    checks.integer("n", n), checks.integer("length", length), checks.function("rule", rule)
    return checks.function("choose", choose)


def _at(log_rates: Tensor, log_order: Tensor) -> Jump:
    """Return the jump that draws the position by the order, and its value from w_j(v)/Z_j."""
    return Jump(normalize(log_rates).log_probs + log_order[..., None], log_order)


def _uniform(masked: Tensor) -> Tensor:
    return torch.where(masked, -masked.sum(1, keepdim=True).double().log(), -math.inf)
