r"""Scores ∇_x log p_σ(x | y), from the prediction of a network, and their log-linear combinations.

With x = x_0 + σ·ε and D = E[x_0 | x]:    s = (D − x)/σ² = −E[ε | x]/σ    (Tweedie; Karras et al., eq. 3).

Sources: Karras et al., "Elucidating the design space of diffusion-based generative models", arXiv:2206.00364; Salimans & Ho,
"Progressive distillation for fast sampling of diffusion models", arXiv:2202.00512; Dhariwal & Nichol, "Diffusion models beat
GANs on image synthesis", arXiv:2105.05233.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from arguide import checks
from arguide.product import Product
from diffusion.guidance import Weight, combine, potential

Field = Callable[[Tensor, Tensor], Tensor]
Guided = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
Target = Callable[[Tensor], tuple[Tensor, Tensor]]


class Score(Protocol):
    """∇_x log p_σ(x | label), [n, …], at samples x [n, …] and one noise level sigma []; label None is unconditional.

    Example:
        >>> pair = analysis.GaussianPair.scalar(1.0, 1.0, 4.0)
        >>> score: diffusion.Score = pair.score
        >>> score(torch.zeros(2, 1).double(), torch.tensor(1.0), 0)
        tensor([[0.5000],
                [0.5000]], dtype=torch.float64)
    """

    def __call__(self, x: Tensor, sigma: Tensor, /, label: Any = None) -> Tensor:
        """Return the score, [n, …]."""
        ...


@dataclass(frozen=True)
class LogLinear(Product[Field]):
    """The guided score Σ_k w_k s_k(x, σ): sequential guidance over noise levels; of denoisers of tokens, see `discrete`.

    Attributes:
        models: K functions (x, sigma) ↦ score; `conditioned` binds a label.
        weights: K weights, or a function from sigma to K weights (a schedule or an interval of the scale).

    Raises:
        ValueError: no score, an object that is no function, or weights that are not one finite number per score.

    Example:
        >>> pair = analysis.GaussianPair.scalar(1.0, 1.0, 4.0)
        >>> cond, uncond = diffusion.conditioned(pair.score, 0), diffusion.conditioned(pair.score)
        >>> score = diffusion.LogLinear.guidance(cond, uncond, 3.0)
        >>> score(torch.zeros(1, 1).double(), torch.tensor(1.0))
        tensor([[1.5000]], dtype=torch.float64)
    """

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the combined score Σ_k w_k s_k, [n, …]."""
        return combine(*self._branches(x, sigma))

    def guided(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return the combined score [n, …] and r, log Z of a step per unit of its variance σ² − σ'², [n]."""
        scores, weights = self._branches(x, sigma)
        return combine(scores, weights), potential(scores, weights)

    def check_proper(
        self, shape: tuple[int, ...], sigma: Tensor, *, radius: float = 1e4, generator: torch.Generator | None = None
    ) -> None:
        """Raise ValueError where the combination has infinite mass, though its samplers return finite variances.

        A law of finite mass pulls far samples back: ⟨s̄(x, σ), x⟩ < 0. This is tested at x of norm `radius`·σ, or `radius`, in
        random directions. It is reliable for exact scores; a network need not be accurate so far away.

        Args:
            shape: [n, …], n directions of the samples' shape.
            sigma: the noise level of the target, the last of a grid that is above 0; its dtype and device are used.
            radius: distance from the origin, in units of max(1, σ).
            generator: of the directions.

        Raises:
            ValueError: a direction that pushes outwards, or a score with NaN.
        """
        checks.shape("shape", shape, 2)
        checks.not_negative("sigma", checks.tensor("sigma", sigma, 0))
        checks.positive("radius", radius)
        x = torch.randn(shape, generator=generator, dtype=sigma.dtype, device=sigma.device).flatten(1)
        x = (radius * max(1.0, float(sigma)) * x / x.norm(dim=1, keepdim=True)).reshape(shape)
        inward = (self(x, sigma) * x).flatten(1).sum(1)
        if inward.isnan().any():
            raise ValueError("scores must be finite far from the data, got NaN; try a smaller radius")
        if (inward >= 0).any():
            raise ValueError("improper tilt: far samples are pushed outwards, so the combination has infinite mass")

    def _branches(self, x: Tensor, sigma: Tensor) -> tuple[list[Tensor], list[Weight]]:
        """Return the scores and their weights; scores whose weight is the number 0 are not evaluated."""
        pairs = list(zip(self.models, self.weights_at(sigma), strict=True))
        read = [pair for pair in pairs if isinstance(pair[1], Tensor) or pair[1] != 0] or pairs[:1]
        return [score(x, sigma) for score, _ in read], [weight for _, weight in read]


def combination(model: Any) -> LogLinear:
    """Return the model if it is a `LogLinear`.

    Raises:
        ValueError: another object.
    """
    if not isinstance(model, LogLinear):
        raise checks.refusal("model", "a diffusion.LogLinear", model, "try diffusion.LogLinear.guidance(cond, uncond, scale)")
    return model


def with_potential(score: Field) -> Guided:
    """Return (x, σ) ↦ (score, r): r of a `LogLinear`, None of any other score."""
    return score.guided if isinstance(score, LogLinear) else lambda x, sigma: (score(x, sigma), None)


def conditioned(score: Score, label: Any = None) -> Field:
    """Bind a label: return (x, sigma) ↦ score(x, sigma, label).

    Example:
        >>> pair = analysis.GaussianPair.scalar(1.0, 1.0, 4.0)
        >>> diffusion.conditioned(pair.score, 0)(torch.zeros(1, 1).double(), torch.tensor(1.0))
        tensor([[0.5000]], dtype=torch.float64)
    """
    checks.function("score", score)
    return lambda x, sigma: score(x, sigma, label)


def from_denoiser(denoiser: Score) -> Score:
    """Return the score (D(x, σ) − x)/σ² of a model that predicts the clean data.

    Example:
        >>> score = diffusion.from_denoiser(lambda x, sigma, label=None: x / (1 + sigma**2))
        >>> score(torch.ones(1, 1), torch.tensor(1.0))
        tensor([[-0.5000]])
    """
    checks.function("denoiser", denoiser)
    return lambda x, sigma, label=None: (denoiser(x, sigma, label) - x) / sigma**2


def from_noise(noise: Score) -> Score:
    """Return the score −ε(x, σ)/σ of a model that predicts the noise.

    Example:
        >>> score = diffusion.from_noise(lambda x, sigma, label=None: sigma * x / (1 + sigma**2))
        >>> score(torch.ones(1, 1), torch.tensor(1.0))
        tensor([[-0.5000]])
    """
    checks.function("noise", noise)
    return lambda x, sigma, label=None: -noise(x, sigma, label) / sigma


def from_velocity(velocity: Score) -> Score:
    """Return the score of a v-prediction model, which reads z = α·x and predicts v = α·ε − √(1−α²)·x_0, α = 1/√(1+σ²).

    From it x_0 = α·z − √(1−α²)·v (Salimans & Ho, appendix D).

    Example:
        >>> score = diffusion.from_velocity(lambda z, sigma, label=None: 0 * z)
        >>> score(torch.ones(1, 1), torch.tensor(1.0))
        tensor([[-0.5000]])
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


def with_autograd(log_density: Callable[[Tensor], Tensor]) -> Target:
    """Return x ↦ (log π(x), ∇ log π(x)) by autograd, from a log-density [n, …] ↦ [n]."""
    checks.function("log_density", log_density)

    def target(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = log_density(leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient

    return target


def with_classifier(score: Field, log_classifier: Field, scale: Weight | Callable[[Tensor], Weight]) -> Field:
    """Return classifier guidance, s(x, σ) + γ ∇_x log p(y | x, σ), the gradient by autograd.

    It equals classifier-free guidance when the classifier is the exact one *of noised data*; a classifier of clean data
    gives another field (Dhariwal & Nichol, eq. 10).

    Args:
        score: the unconditional score.
        log_classifier: (x [n, …], sigma) ↦ log p(y | x, σ), [n].
        scale: γ, a number, one per sample [n], or a function of sigma.

    Raises:
        ValueError: a scale that is not finite, or parts that are no functions.

    Example:
        >>> uncond = lambda x, sigma: -x / (1 + sigma**2)
        >>> score = diffusion.with_classifier(uncond, lambda x, sigma: torch.nn.functional.logsigmoid(x[:, 0]), 2.0)
        >>> score(torch.zeros(1, 1), torch.tensor(1.0))
        tensor([[1.]])
    """
    checks.functions(score=score, log_classifier=log_classifier)
    scale_at = scale_of(scale)

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        _, gradient = with_autograd(lambda noised: log_classifier(noised, sigma))(x)
        return combine((score(x, sigma), gradient), (1.0, scale_at(sigma)))

    return guided


def check_score(score: Score, x: Tensor, sigma: Tensor, *, labels: Sequence[Any] = (None,), tolerance: float = 1e-4) -> None:
    """Raise ValueError unless a score satisfies, at given samples, what samplers assume.

    For every label, the score has the shape, dtype and device of x, is finite, has the same value when evaluated again, and
    does not change x. The scores of a batch are those of its rows.

    Args:
        score: the score to check.
        x: at least 2 samples [n, …], such as data plus σ·ε.
        sigma: a noise level, [], of the dtype and device of x.
        labels: to check; None is unconditional.
        tolerance: largest difference, relative to the largest entry of the score.

    Raises:
        ValueError: the first of these that fails, named in the message with the label.

    Example:
        >>> pair = analysis.GaussianPair.scalar(1.0, 1.0, 4.0)
        >>> diffusion.check_score(pair.score, torch.randn(4, 1).double(), torch.tensor(1.0).double(), labels=[None, 0])
    """
    checks.function("score", score), checks.tensor("x", x, 2), checks.positive("sigma", sigma)
    checks.integer("the number of samples", len(x), 2)
    with torch.no_grad():
        for label in labels:
            _check_one(score, x, sigma, label, tolerance)


def _check_one(score: Score, x: Tensor, sigma: Tensor, label: Any, tolerance: float) -> None:
    given, at = x.clone(), f"with label {checks.shown(label)}"
    found = score(given, sigma, label)
    if not isinstance(found, Tensor) or found.shape != x.shape:
        raise checks.refusal(f"the score {at}", f"a tensor of the shape of x, {tuple(x.shape)}", found)
    if (found.dtype, found.device) != (x.dtype, x.device):
        raise ValueError(f"the score {at} must be {x.dtype} on {x.device}, as x is, got {found.dtype} on {found.device}")
    if not found.isfinite().all():
        raise ValueError(f"the score {at} must be finite, got NaN or inf at sigma {float(sigma):g}")
    if not given.equal(x):
        raise ValueError(f"the score {at} must not change x, got a score that does; try x.clone()")
    limit = tolerance * max(float(found.abs().max()), 1e-30)
    if (score(x, sigma, label) - found).abs().max() > limit:
        raise ValueError(f"the score {at} must be the same when evaluated again, got another value; try model.eval()")
    alone = torch.cat([score(row[None], sigma, label) for row in x])
    if (distance := float((alone - found).abs().max())) > limit:
        raise ValueError(f"the score {at} of a batch must be that of its rows, got a difference of {distance:.2g}")
