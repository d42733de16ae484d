r"""Rules: how a conditional and an unconditional prediction become one, where it is not linear.

A rule acts on one quantity, and another quantity gives another field: say which of `predictions` with `guided_by`. With
Δ = c − u, plain guidance is c + (γ−1)·Δ; each rule below is that at the off-values of its options, and c at γ = 1. None of
them is a log-linear combination of laws, so none has a joint law to be corrected to.

Sources: Lin et al., "Common diffusion noise schedules and sample steps are flawed" (2023), eqs. 14–16, who rescale what the
network predicts (v); Sadat et al., "Eliminating oversaturation and artifacts of high guidance scales in diffusion models"
(APG, 2024), section 4, who project the denoised estimate.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from arguide import checks
from diffusion.guidance import Weight, expand, guide
from diffusion.models import Field, scale_of
from diffusion.predictions import Prediction

Scale = Weight | Callable[[Tensor], Weight]
Rule = Callable[[Tensor, Tensor, Tensor], Tensor]  # (cond [n, …], uncond [n, …], sigma []) ↦ guided [n, …]


def guided_by(cond: Field, uncond: Field, rule: Rule, prediction: Prediction) -> Field:
    """Return the score of rule(c, u, σ), where c and u are the two models' predictions of one quantity."""
    for name, part in (("cond", cond), ("uncond", uncond), ("rule", rule)):
        checks.function(name, part)
    if not isinstance(prediction, Prediction):
        raise checks.refusal("prediction", "one of diffusion.predictions", prediction)

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        c, u = (prediction.of(score(x, sigma), x, sigma) for score in (cond, uncond))
        return prediction.score(rule(c, u, sigma), x, sigma)

    return guided


def linear(scale: Scale) -> Rule:
    """Return plain guidance, γ·c + (1−γ)·u; γ a number, one a sample, or a function of σ."""
    scale_at = scale_of(scale)
    return lambda cond, uncond, sigma: guide(cond, uncond, scale_at(sigma))


def rescaled(scale: Scale, mix: float = 0.7) -> Rule:
    """Return φ·g·std(c)/std(g) + (1−φ)·g with g plain guidance and φ = `mix`; std over a sample's own dimensions.

    A sample without spread, as any of one number, is left as it is.
    """
    checks.share("mix", mix)
    scale_at = scale_of(scale)

    def rule(cond: Tensor, uncond: Tensor, sigma: Tensor) -> Tensor:
        guided = guide(cond, uncond, scale_at(sigma))
        spread, wanted = _std(guided), _std(cond)
        ratio = torch.where(spread > 0, wanted / spread, 1.0)
        return expand(1 + mix * (ratio - 1), guided) * guided

    return rule


def projected(scale: Scale, *, parallel: float = 0.0, threshold: float = math.inf) -> Rule:
    """Return c + (γ−1)·(Δ⊥ + η·Δ∥), Δ∥ = ⟨Δ, c⟩/⟨c, c⟩·c, after Δ ← Δ·min(1, r/‖Δ‖), for every sample by itself.

    Args:
        parallel: η; 1 does not project.
        threshold: r, the largest norm of Δ; none by default.
    """
    checks.number("parallel", parallel), checks.number("threshold", threshold, "positive", lambda found: found > 0)
    scale_at = scale_of(scale)

    def rule(cond: Tensor, uncond: Tensor, sigma: Tensor) -> Tensor:
        c, delta = cond.flatten(1), (cond - uncond).flatten(1)
        delta = delta * (threshold / delta.norm(dim=1, keepdim=True)).clamp(max=1)
        direction = torch.nn.functional.normalize(c, dim=1)
        along = (delta * direction).sum(1, keepdim=True) * direction
        update = (delta - (1 - parallel) * along).reshape(cond.shape)
        return cond + expand(scale_at(sigma) - 1, cond) * update

    return rule


class Momentum:
    """A rule on the running difference Δ̄ ← Δ + β·Δ̄: what APG applies, with β < 0, before it projects.

    It keeps Δ̄ from one evaluation to the next of one run, so it belongs to that run: make one for every run. One that is
    asked for the noise level it began with, or a higher one, or for other shapes, refuses. A solver that evaluates twice
    a step updates twice a step; the paper's evaluates once (`euler`).
    """

    def __init__(self, rule: Rule, beta: float = -0.5) -> None:
        checks.function("rule", rule)
        checks.number("beta", beta, "in (-1, 1)", lambda found: -1 < found < 1)
        self.rule, self.beta = rule, beta
        self._first, self._running = math.inf, None  # type: float, Tensor | None

    def __call__(self, cond: Tensor, uncond: Tensor, sigma: Tensor) -> Tensor:
        """Return rule(c, c − Δ̄, σ)."""
        delta = cond - uncond
        if self._running is None:
            self._first, self._running = float(sigma), delta
            return self.rule(cond, uncond, sigma)
        if float(sigma) >= self._first or delta.shape != self._running.shape:
            raise ValueError("momentum belongs to one run: make a new Momentum for every run")
        self._running = delta + self.beta * self._running
        return self.rule(cond, cond - self._running, sigma)


def _std(x: Tensor) -> Tensor:
    return x.flatten(1).std(1, correction=0)
