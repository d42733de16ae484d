r"""Non-linear guidance: rules that combine a conditional and an unconditional prediction.

A rule acts on one quantity, and another quantity gives another field: `guided_by` takes one of `predictions`. With Δ = c − u,
plain guidance is c + (γ−1)·Δ. Each rule below reduces to it when its options are off, and to c at γ = 1. No rule is a
log-linear combination of laws, so none has a joint law that weights could correct it to.

Sources: Lin et al., "Common diffusion noise schedules and sample steps are flawed", arXiv:2305.08891, eqs. 14–16, who rescale
the network's v-prediction; Sadat et al., "Eliminating oversaturation and artifacts of high guidance scales in diffusion models"
(APG), arXiv:2410.02416, section 4, who project the denoised estimate.
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
    """Return the score of rule(c, u, σ), where c and u are the two models' predictions of one quantity.

    Args:
        cond: (x, σ) ↦ the conditional score.
        uncond: (x, σ) ↦ the unconditional score.
        rule: (c, u, σ) ↦ the guided prediction.
        prediction: the quantity, one of `diffusion.predictions`.

    Raises:
        ValueError: arguments that are no functions, or another quantity.

    Example:
        >>> pair = analysis.GaussianPair.scalar(1.0, 1.0, 4.0)
        >>> cond, uncond = diffusion.conditioned(pair.score, 0), diffusion.conditioned(pair.score)
        >>> rule = diffusion.projected(7.5, threshold=15.0)
        >>> score = diffusion.guided_by(cond, uncond, rule, diffusion.predictions.denoised)
        >>> diffusion.sample(score, (4, 1), diffusion.edm(50)).x.shape
        torch.Size([4, 1])
    """
    checks.functions(cond=cond, uncond=uncond, rule=rule)
    if not isinstance(prediction, Prediction):
        raise checks.refusal("prediction", "one of diffusion.predictions", prediction)

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        c, u = (prediction.of(score(x, sigma), x, sigma) for score in (cond, uncond))
        return prediction.score(rule(c, u, sigma), x, sigma)

    return guided


def rescaled(scale: Scale, mix: float = 0.7) -> Rule:
    """Return φ·g·std(c)/std(g) + (1−φ)·g with g plain guidance and φ = `mix`; std over a sample's own dimensions.

    A sample of standard deviation 0 is not changed.

    Raises:
        ValueError: a mix outside [0, 1].

    Example:
        >>> cond, uncond = torch.tensor([[1.0, -1.0]]), torch.tensor([[0.5, -0.5]])
        >>> diffusion.rescaled(3.0, mix=1.0)(cond, uncond, torch.tensor(1.0))
        tensor([[ 1., -1.]])
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
        scale: γ, a number, one per sample, or a function of σ.
        parallel: η; 1 does not project.
        threshold: r, the largest norm of Δ; none by default.

    Raises:
        ValueError: parallel that is not finite, or a threshold that is not positive.

    Example:
        >>> cond, uncond = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, -1.0]])
        >>> diffusion.projected(3.0)(cond, uncond, torch.tensor(1.0))
        tensor([[1., 2.]])
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
    """A rule on the running difference Δ̄ ← Δ + β·Δ̄; APG applies it, with β < 0, before the projection.

    It keeps Δ̄ between the evaluations of one run, so every run needs a `Momentum` of its own. A call at or above the first
    noise level, or with another shape, raises. A solver that evaluates twice per step updates twice per step; the paper's
    solver evaluates once (`euler`).

    Example:
        >>> rule = diffusion.Momentum(diffusion.projected(7.5), beta=-0.5)
        >>> rule(torch.ones(1, 2), torch.zeros(1, 2), torch.tensor(1.0))
        tensor([[1.0000, 1.0000]])
    """

    def __init__(self, rule: Rule, beta: float = -0.5) -> None:
        checks.function("rule", rule)
        checks.number("beta", beta, "in (-1, 1)", lambda found: -1 < found < 1)
        self.rule, self.beta = rule, beta
        self._first, self._running = math.inf, None  # type: float, Tensor | None

    def __call__(self, cond: Tensor, uncond: Tensor, sigma: Tensor) -> Tensor:
        """Return rule(c, c − Δ̄, σ).

        Args:
            cond: c, [n, …].
            uncond: u, [n, …].
            sigma: σ, [].

        Raises:
            ValueError: a call of another run.
        """
        delta = cond - uncond
        if self._running is None:
            self._first, self._running = float(sigma), delta
            return self.rule(cond, uncond, sigma)
        if float(sigma) >= self._first or delta.shape != self._running.shape:
            raise ValueError("momentum must be that of one run, got a call of another; try a new Momentum for every run")
        self._running = delta + self.beta * self._running
        return self.rule(cond, cond - self._running, sigma)


def _std(x: Tensor) -> Tensor:
    return x.flatten(1).std(1, correction=0)
