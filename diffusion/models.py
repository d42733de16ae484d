r"""What is guided: scores ∇_x log p_σ(x | y), from whatever a network predicts, and their log-linear combinations.

With x = x_0 + σ·ε and D = E[x_0 | x]:    s = (D − x)/σ² = −E[ε | x]/σ    (Tweedie; Karras et al. 2022, eq. 3).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from arguide import checks
from diffusion.guidance import Weight, combine, composition_weights, log_normalizer

Weights = Sequence[Weight] | Callable[[Tensor], Sequence[Weight]]
Field = Callable[[Tensor, Tensor], Tensor]


class Score(Protocol):
    """∇_x log p_σ(x | label), [n, …], at samples x [n, …] and one noise level sigma []; label None is unconditional."""

    def __call__(self, x: Tensor, sigma: Tensor, /, label: Any = None) -> Tensor:
        """Return the score, [n, …]."""
        ...


@dataclass(frozen=True)
class LogLinear:
    """The guided score Σ_k w_k s_k(x, σ): sequential guidance over noise levels.

    Attributes:
        scores: K functions (x, sigma) ↦ score; `conditioned` binds a label.
        weights: K weights, or a function from sigma to K weights (a schedule or an interval of the scale).

    Raises:
        ValueError: no score, what is no function, or weights that are not one finite number per score.
    """

    scores: tuple[Field, ...]
    weights: Weights

    def __post_init__(self) -> None:
        if not callable(self.weights):
            checks.matched("weights", self.weights, self.scores, "score")
            for weight in self.weights:
                checks.finite("weights", weight)
        for score in self.scores:
            checks.function("scores", score)

    @classmethod
    def guidance(
        cls, cond: Field, uncond: Field, scale: Weight | Callable[[Tensor], Weight], *, temperature: float = 1.0
    ) -> Self:
        """Return the score of p_σ(x)^{(1−γ)/τ} p_σ(x|y)^{γ/τ}; γ a number, one a sample, or a function of sigma.

        A worse model of the same law as `uncond` makes it autoguidance (Karras et al., "Guiding a diffusion model with a bad
        version of itself", 2024), a further prompt a negative one.
        """
        scales = (lambda sigma: (scale(sigma),)) if callable(scale) else (scale,)
        return cls.composition(uncond, (cond,), scales, temperature=temperature)

    @classmethod
    def composition(cls, uncond: Field, conds: Sequence[Field], scales: Weights, *, temperature: float = 1.0) -> Self:
        """Return the score (s_u + Σ_i γ_i (s_i − s_u))/τ: weights (γ_1, …, γ_K, 1 − Σ_i γ_i)/τ on (conds, uncond).

        Conditions that are independent given x compose to the law given all of them at γ_i = 1; a negative γ_i steers away
        (Liu et al., "Compositional visual generation with composable diffusion models", 2022: conjunction, negation).

        Args:
            scales: γ_i, K numbers or tensors [n], or a function from sigma to them.
        """
        checks.positive("temperature", temperature)

        def at(scales: Sequence[Weight]) -> tuple[Weight, ...]:
            checks.matched("scales", scales, conds, "condition", 0)
            return tuple(weight / temperature for weight in composition_weights(scales))

        return cls((*conds, uncond), (lambda sigma: at(scales(sigma))) if callable(scales) else at(scales))

    def weights_at(self, sigma: Tensor) -> Sequence[Weight]:
        """Return the K weights at a noise level."""
        return self.weights(sigma) if callable(self.weights) else self.weights

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the combined score Σ_k w_k s_k, [n, …]."""
        return combine(*self._branches(x, sigma))

    def check_proper(
        self, shape: tuple[int, ...], sigma: Tensor, *, radius: float = 1e4, generator: torch.Generator | None = None
    ) -> None:
        """Raise ValueError where the combination has infinite mass, though its samplers return finite variances.

        A law of finite mass pulls far samples back: ⟨s̄(x, σ), x⟩ < 0. This asks at x of norm `radius`·σ, or `radius`, in
        random directions; it is sound for exact scores, while a network need not know what is so far away.

        Args:
            shape: [n, …], n directions of the samples' shape.
            sigma: the noise level of the target, the last of a grid that is above 0; its dtype and device are used.
        """
        checks.shape("shape", shape, 2)
        checks.not_negative("sigma", checks.tensor("sigma", sigma, 0))
        checks.positive("radius", radius)
        x = torch.randn(shape, generator=generator, dtype=sigma.dtype, device=sigma.device).flatten(1)
        x = (radius * max(1.0, float(sigma)) * x / x.norm(dim=1, keepdim=True)).reshape(shape)
        inward = (self(x, sigma) * x).flatten(1).sum(1)
        if inward.isnan().any():
            raise ValueError("scores must be finite far from the data, got NaN")
        if (inward >= 0).any():
            raise ValueError("improper tilt: far samples are pushed outwards, so the combination has infinite mass")

    def guided(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return the combined score [n, …] and log Z of a step, per unit of its variance σ² − σ'², [n]."""
        scores, weights = self._branches(x, sigma)
        return combine(scores, weights), log_normalizer(scores, weights, 1.0)

    def _branches(self, x: Tensor, sigma: Tensor) -> tuple[list[Tensor], list[Weight]]:
        """Return the scores and their weights, without those whose weight is the number 0: guidance that is off is free."""
        pairs = list(zip(self.scores, self.weights_at(sigma), strict=True))
        read = [pair for pair in pairs if isinstance(pair[1], Tensor) or pair[1] != 0] or pairs[:1]
        return [score(x, sigma) for score, _ in read], [weight for _, weight in read]


def conditioned(score: Score, label: Any = None) -> Field:
    """Bind a label: return (x, sigma) ↦ score(x, sigma, label)."""
    checks.function("score", score)
    return lambda x, sigma: score(x, sigma, label)


def from_denoiser(denoiser: Score) -> Score:
    """Return the score (D(x, σ) − x)/σ² of a model that predicts the clean data."""
    checks.function("denoiser", denoiser)
    return lambda x, sigma, label=None: (denoiser(x, sigma, label) - x) / sigma**2


def from_noise(noise: Score) -> Score:
    """Return the score −ε(x, σ)/σ of a model that predicts the noise."""
    checks.function("noise", noise)
    return lambda x, sigma, label=None: -noise(x, sigma, label) / sigma


def from_velocity(velocity: Score) -> Score:
    """Return the score of a v-prediction model, which sees z = α·x and predicts v = α·ε − √(1−α²)·x_0, α = 1/√(1+σ²).

    From it x_0 = α·z − √(1−α²)·v (Salimans & Ho, "Progressive distillation", 2022, appendix D).
    """
    checks.function("velocity", velocity)

    def denoiser(x: Tensor, sigma: Tensor, label: Any = None) -> Tensor:
        alpha = (1 + sigma**2) ** -0.5
        return alpha**2 * x - sigma * alpha * velocity(alpha * x, sigma, label)

    return from_denoiser(denoiser)


def scale_of(scale: Weight | Callable[[Tensor], Weight]) -> Callable[[Tensor], Weight]:
    """Return a scale as a function of the noise level.

    Raises:
        ValueError: a scale that is not finite, from the function too.
    """
    if callable(scale):
        return lambda sigma: checks.finite("scale", scale(sigma))
    checks.finite("scale", scale)
    return lambda _: scale


def with_classifier(score: Field, log_classifier: Field, scale: Weight | Callable[[Tensor], Weight]) -> Field:
    """Return classifier guidance, s(x, σ) + γ ∇_x log p(y | x, σ), the gradient by autograd.

    It equals classifier-free guidance when the classifier is the exact one *of noised data*; one that never saw noise
    gives another field (Dhariwal & Nichol 2021, eq. 10; Dieleman 2022).

    Args:
        log_classifier: (x [n, …], sigma) ↦ log p(y | x, σ), [n].
    """
    checks.function("score", score), checks.function("log_classifier", log_classifier)
    scale_at = scale_of(scale)

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(log_classifier(leaf, sigma).sum(), leaf)
        return combine((score(x, sigma), gradient), (1.0, scale_at(sigma)))

    return guided
