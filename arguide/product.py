r"""Products of experts Π_k p_k^{w_k}: models with weights, and the weights of guidance, composition and temperature.

Source: Hinton, "Training products of experts by minimizing contrastive divergence" (2002), doi:10.1162/089976602760128018.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import torch

from arguide import checks
from arguide.guidance import Weight, composition_weights

Weights = Sequence[Weight] | Callable[[Any], Sequence[Weight]]
Model = TypeVar("Model")


@dataclass(frozen=True)
class Product(Generic[Model]):
    """A product of experts Π_k p_k^{w_k}: the common base of the `LogLinear` of both wings.

    Attributes:
        models: K models.
        weights: K weights, or a function from the step (a position, a noise level) to K weights: a schedule.

    Raises:
        ValueError: no model, an object that is no model, or weights that are not one finite number per model.
    """

    models: tuple[Model, ...]
    weights: Weights
    _check_model = staticmethod(checks.function)

    def __post_init__(self) -> None:
        if not callable(self.weights):
            checks.matched("weights", self.weights, self.models, "model")
            for weight in self.weights:
                checks.finite("weights", weight)
        for model in self.models:
            self._check_model("models", model)

    @classmethod
    def guidance(cls, cond: Model, uncond: Model, scale: Weight | Callable[[Any], Weight], *, temperature: float = 1.0) -> Self:
        """Return p(x)^{(1−γ)/τ} p(x|y)^{γ/τ} at every step.

        A weaker model of the conditional law as `uncond` makes it autoguidance (Karras et al., "Guiding a diffusion model with
        a bad version of itself", arXiv:2406.02507), another prompt a negative one.

        Args:
            cond: p(x|y).
            uncond: p(x).
            scale: γ, a number, one per row [n], or a function of the step.
            temperature: τ.

        Raises:
            ValueError: a scale that is not finite, or a temperature that is not positive and finite.
        """
        scales = (lambda step: (scale(step),)) if callable(scale) else (scale,)
        return cls.composition(uncond, (cond,), scales, temperature=temperature)

    @classmethod
    def composition(cls, uncond: Model, conds: Sequence[Model], scales: Weights, *, temperature: float = 1.0) -> Self:
        """Return p(x)^{(1 − Σ_i γ_i)/τ} Π_i p(x|y_i)^{γ_i/τ} at every step; a negative γ_i steers away from y_i.

        Conditions that are independent given x compose to the law given all of them at γ_i = 1 (Liu et al., "Compositional
        visual generation with composable diffusion models", arXiv:2206.01714: conjunction and negation).

        Args:
            uncond: p(x).
            conds: p(x|y_i), K models.
            scales: γ_i, K numbers or tensors with one value per row [n], or a function of the step to them.
            temperature: τ.

        Raises:
            ValueError: as `guidance`, and scales that are not one per condition.
        """
        checks.positive("temperature", temperature)

        def at(scales: Sequence[Weight]) -> tuple[Weight, ...]:
            checks.matched("scales", scales, conds, "condition", 0)
            return tuple(weight / temperature for weight in composition_weights(scales))

        return cls((*conds, uncond), (lambda step: at(scales(step))) if callable(scales) else at(scales))

    @classmethod
    def temperature(cls, model: Model, temperature: float) -> Self:
        """Return p(x)^{1/τ} at every step; power sampling draws from its joint law.

        Raises:
            ValueError: a temperature that is not positive and finite.
        """
        checks.positive("temperature", temperature)
        return cls((model,), (1 / temperature,))

    def weights_at(self, step: Any) -> Sequence[Weight]:
        """Return the K weights at a step."""
        return self.weights(step) if callable(self.weights) else self.weights

    def total_weight(self) -> float:
        """Return Σ_k w_k of the one target that particles share.

        Raises:
            ValueError: weights that depend on the step or differ between rows.
        """
        if callable(self.weights):
            raise ValueError("weights must be the same at every step, got a schedule, which has no joint law; try one scale")
        if any(torch.as_tensor(weight).ndim for weight in self.weights):
            raise ValueError("weights must be the same for all particles, which share one target; try one scale")
        return sum(float(weight) for weight in self.weights)
