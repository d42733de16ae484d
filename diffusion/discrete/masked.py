r"""Masked (absorbing) diffusion, guided: tokens are unmasked one at a time, in an order that is drawn too.

The reverse process unmasks x_j to v at a rate ∝ p(x_j = v | x_U), x_U the unmasked tokens, so a denoiser needs no time. The
guided rates are w_j(v) = Π_k p_k(v | x_U)^{w_k}, Z_j = Σ_v w_j(v), S = Σ over the m masked j of Z_j. A rule makes them the
law of the next jump (j, v): `unnormalized`, `normalized` or `left_to_right`. Each has its own law of x, none the joint one.

Weights make any of them exact. Let the target draw the next position with o_j(x_U), and the value by w_j(v), unnormalised.
The probabilities of all orders sum to 1 for every x, so its mass on x is Π_k p_k(x)^{w_k} for any o. A jump drawn with
probability q(j, v) has the weight

    o_j w_j(v) / q(j, v):    S/m for unnormalised rates (o_j = 1/m),    Z_j for normalised ones (whatever o_j).

S/m is also what the potential of the continuous-time process, rate·(S − m), gives when the holding time is integrated out.

Sources: Ou et al., "Your absorbing discrete diffusion secretly models the conditional distributions of clean data",
arXiv:2406.03736, for the rates; Nisonoff et al., "Unlocking guidance for discrete state-space diffusion and flow models",
arXiv:2406.01572, and Schiff et al., arXiv:2412.10193, for guided ones; Lee et al., "Debiasing guidance for discrete diffusion
with sequential Monte Carlo", arXiv:2502.06079, for weights.

Example:
    >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
    >>> cond, uncond = diffusion.conditioned(table.denoise_masked, 1), diffusion.conditioned(table.denoise_masked)
    >>> diffusion.masked.sample(diffusion.LogLinear.guidance(cond, uncond, 3.0), 100, 2).x.shape
    torch.Size([100, 2])
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from arguide import checks
from arguide.guidance import normalize
from arguide.smc.diagnostics import Diagnosis
from arguide.smc.draws import Draw, torch_categorical
from arguide.smc.driver import drive, single, walk
from arguide.smc.repeats import repeat
from arguide.smc.resampling import Resample, systematic
from arguide.smc.samples import Info, JointSample, Sample
from diffusion.discrete.base import State, combine, select
from diffusion.models import LogLinear, combination

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


def defensive(rule: Rule, share: float) -> Rule:
    """Return the rule (1 − ε) q + ε/K on the K jumps that are possible, with the same target: no jump has a tiny probability.

    Args:
        rule: gives q and the target's order.
        share: ε, in [0, 1).

    Raises:
        ValueError: a share outside [0, 1).
    """
    checks.number("share", share, "in [0, 1)", lambda found: 0 <= found < 1)
    if share == 0:
        return rule

    def wider(log_rates: Tensor, masked: Tensor) -> Jump:
        jump = rule(log_rates, masked)
        possible = jump.log_probs > -math.inf
        even = math.log(share) - possible.sum((1, 2), keepdim=True).to(log_rates).log()
        mixed = torch.logaddexp(jump.log_probs + math.log1p(-share), even)
        return jump._replace(log_probs=mixed.masked_fill(~possible, -math.inf))

    return wider


def init(n: int, length: int, device: torch.device | str | None = None) -> State:
    """Return n sequences of masks.

    Args:
        n: number of sequences.
        length: T.
        device: of x.
    """
    return State(torch.full((n, length), MASK, device=device))


def step(model: LogLinear, state: State, rule: Rule, draw: Draw) -> tuple[State, Info]:
    """Unmask one token per row; log_target − log_proposal = log_normalizer.

    A row where no jump is possible (Z = 0) gets token 0 and log_target = −∞.

    Args:
        model: the combination of denoisers.
        state: tokens, −1 for masks.
        rule: the law of the next jump.
        draw: log-probs [n, T·V] ↦ flat index of the jump, [n].
    """
    x, masked = state.x, state.x == MASK
    time = masked.double().mean()
    log_probs = [denoise(x, time) for denoise in model.models]
    log_rates = combine(log_probs, model.weights_at(time)).masked_fill(~masked[..., None], -math.inf)
    jump = rule(log_rates, masked)
    law = jump.log_probs.flatten(1)
    dead = law.amax(1) == -math.inf
    anything = torch.full_like(log_rates, -math.inf)
    anything[..., 0] = masked.log()
    law = torch.where(dead[:, None], anything.flatten(1), law)
    at = draw(law.log_softmax(1))[:, None]
    position = at // log_rates.shape[2]
    log_target = (log_rates.flatten(1).gather(1, at) + jump.log_order.gather(1, position))[:, 0]
    log_target, log_proposal = torch.where(dead, -math.inf, log_target), law.gather(1, at)[:, 0]
    return State(x.scatter(1, position, at % log_rates.shape[2])), Info(log_target, log_proposal, log_target - log_proposal)


def sample(
    model: LogLinear,
    n: int,
    length: int,
    *,
    rule: Rule = normalized,
    draw: Draw | None = None,
    generator: Generator | None = None,
    device: torch.device | str | None = None,
) -> Sample:
    """Draw n sequences of `length` tokens by guided masked diffusion.

    Args:
        model: denoisers (x [n, T] with −1 for masks, share of masks) ↦ log-probs [n, T, V], and their weights.
        n: number of sequences.
        length: T.
        rule: `unnormalized`, `normalized` or `left_to_right`.
        draw: log-probs [n, T·V] ↦ flat index of the jump, [n].
        generator: of the default draw.
        device: of x.

    Raises:
        ValueError: unmasked tokens that leave no possible jump; n or length below 1, or no `LogLinear`.
    """
    draw = _check(model, n, length, rule, draw, generator)
    drawn = walk(init(n, length, device), [partial(step, model, rule=rule, draw=draw)] * length)
    dead = (drawn.log_target == -math.inf).any(0)
    if dead.any():
        raise ValueError(f"dead end with {length - int(dead.int().argmax())} masks left: the branches leave no possible token")
    return drawn


def sample_joints(
    model: LogLinear,
    count: int,
    n: int,
    length: int,
    *,
    rule: Rule = normalized,
    draw: Draw | None = None,
    generator: Generator | None = None,
    resample: Resample = systematic,
    threshold: float = 0.5,
    device: torch.device | str | None = None,
) -> list[JointSample]:
    """Draw `count` independent samples of n weighted sequences of the joint law Π_k p_k(x)^{w_k} / Z; Ẑ is unbiased.

    Args:
        model: as in `sample`, its weights the same for all particles and at every time.
        count: number of samples, side by side in one batch.
        n: N, particles of a sample.
        length: T.
        rule: as in `sample`.
        draw: as in `sample`.
        generator: of the default draw and of the resampling.
        resample: a scheme of `arguide.smc.resampling`.
        threshold: resample when ESS < threshold·N; 0 only weighs.
        device: of x.

    Raises:
        ValueError: weights that differ between samples or times; a sample whose particles all have weight 0.
    """
    checks.integer("count", count), combination(model).total_weight()
    draw = _check(model, n, length, rule, draw, generator)
    first, moves = init(count * n, length, device), [partial(step, model, rule=rule, draw=draw)] * length
    zeros = torch.zeros((count, n), dtype=torch.float64, device=device)
    return drive(first, zeros, moves, select, resample=resample, threshold=threshold, generator=generator)


sample_joint = single(sample_joints)


def repeat_joint(
    model: LogLinear,
    n: int,
    length: int,
    *,
    repeats: int = 4,
    probes: int = 2,
    rule: Rule = normalized,
    generator: Generator | None = None,
    threshold: float = 0.5,
    device: torch.device | str | None = None,
) -> tuple[list[JointSample], Diagnosis]:
    """Draw from the joint law several times and compare: runs, and probes that draw about one jump per sequence uniformly.

    Args:
        model: as in `sample_joints`, as are n, length, rule, threshold and device.
        n: N.
        length: T.
        repeats: number of runs, 2 at least.
        probes: number of probes; their particles serve the diagnosis alone.
        rule: of the runs.
        generator: of all randomness.
        threshold: of the ESS.
        device: of x.

    Raises:
        ValueError: fewer than two runs; and as `sample_joints`.
    """
    run = partial(sample_joint, model, n, length, generator=generator, threshold=threshold, device=device)
    wider = partial(run, rule=defensive(rule, min(0.5, 1 / length)))
    return repeat(partial(run, rule=rule), [wider] * probes, repeats)


def _check(model: LogLinear, n: int, length: int, rule: Rule, draw: Draw | None, generator: Generator | None) -> Draw:
    combination(model), checks.integer("n", n), checks.integer("length", length), checks.function("rule", rule)
    return checks.function("draw", draw or torch_categorical(generator))


def _at(log_rates: Tensor, log_order: Tensor) -> Jump:
    """Return the jump that draws the position by the order, and its value from w_j(v)/Z_j."""
    return Jump(normalize(log_rates).log_probs + log_order[..., None], log_order)


def _uniform(masked: Tensor) -> Tensor:
    return torch.where(masked, -masked.sum(1, keepdim=True).double().log(), -math.inf)
