r"""A mixture of diffusion models: K scores s_k with a prior π, whose unconditional score is Σ_k ρ_k s_k.

    ρ_k = p(k | x_σ)     makes Σ_k ρ_k s_k the score of Σ_k π_k p_σ(x | k)
    ρ_k = p(k | path)    is Bayes' rule for the chain of the step kernels: log ρ_k gains log k_k(x' | x) at every step

The first comes from a classifier of noised data or from a toy; with it the mixture is a score for every sampler. The second
needs no classifier, but steps with a density: `diffusion.coherent.sample`. With exact scores and small steps the two agree.
With learned scores the second has an exact joint law, on paths.

Sources: Koulischer et al., "Dynamic negative guidance of diffusion models", arXiv:2410.14398, and "Feedback guidance of
diffusion models", arXiv:2506.06085, for a posterior of one condition along the path, with clamps and offsets that are absent
here; Skreta et al., "The superposition of diffusion models using the Itô density estimator", arXiv:2412.17762, for mixtures by
densities along the path.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from arguide import checks
from arguide.coherent.mixture import checked_label, checked_prior
from diffusion.guidance import Weight
from diffusion.models import Field, LogLinear, Score

Label = int | Tensor


@dataclass(frozen=True)
class Labelled:
    """The scores of K labels by one model, which reads all of them in one pass.

    Attributes:
        score: (x, sigma, label [n]) ↦ score.
        labels: the model's label of every component, [K].
    """

    score: Score
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def all(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the scores of all labels, [n, K, …]."""
        labels = self.labels.to(x.device)
        rows = self.score(x.repeat_interleave(len(labels), 0), sigma, labels.repeat(len(x)))
        return rows.reshape(len(x), len(labels), *x.shape[1:])

    def of(self, x: Tensor, sigma: Tensor, label: Label) -> Tensor:
        """Return the score of one component, [n, …].

        Args:
            x: samples, [n, …].
            sigma: σ, [].
            label: index of the component, or one per row, [n].
        """
        return self.score(x, sigma, self.labels.to(x.device)[label].expand(len(x)))


@dataclass(frozen=True)
class Separate:
    """The scores of K labels by K functions (x, sigma) ↦ score; methods as in `Labelled`."""

    models: tuple[Field, ...]

    def __len__(self) -> int:
        return len(self.models)

    def all(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the scores of all labels, [n, K, …]."""
        return torch.stack([model(x, sigma) for model in self.models], 1)

    def of(self, x: Tensor, sigma: Tensor, label: Label) -> Tensor:
        """Return the score of one component; arguments as in `Labelled.of`."""
        if not isinstance(label, Tensor):
            return self.models[label](x, sigma)
        found = torch.empty_like(x)
        for k in set(label.tolist()):
            found[label == k] = self.models[k](x[label == k], sigma)
        return found


@dataclass(frozen=True, eq=False)
class Mixture:
    """The scores of K labels and their prior.

    Attributes:
        models: K functions (x, sigma) ↦ score; `conditioned` binds a label. See `of` for one network with labels.
        log_prior: log π, K numbers or a tensor [K]; the probabilities must sum to 1.
        classifier: (x [n, …], sigma) ↦ log p(k | x_σ), [n, K], of noised data and with this prior. With it the mixture is a
            score, for samplers without a path posterior.

    Raises:
        ValueError: parts that are no functions, or a prior that is not one probability per model with sum 1.

    Example:
        >>> points = analysis.GaussianMixture([[-1.0], [1.0]], [0.5, 0.5], [0.5, 0.5])
        >>> scores = [diffusion.conditioned(points.score, label) for label in (0, 1)]
        >>> mixture = diffusion.Mixture(scores, torch.tensor([0.5, 0.5]).log())
        >>> diffusion.coherent.sample(mixture.guidance(1, 3.0), (4, 1), diffusion.edm(50)).x.shape
        torch.Size([4, 1])
    """

    models: Sequence[Field] | Labelled | Separate
    log_prior: Sequence[float] | Tensor
    classifier: Callable[[Tensor, Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        checks.matched("log_prior", self.log_prior, self.models, "model")
        object.__setattr__(self, "log_prior", checked_prior(self.log_prior))
        if self.classifier is not None:
            checks.function("classifier", self.classifier)
        if not isinstance(self.models, Labelled | Separate):
            object.__setattr__(self, "models", Separate(tuple(checks.function("models", each) for each in self.models)))

    @classmethod
    def of(
        cls,
        score: Score,
        labels: Sequence[int] | Tensor,
        log_prior: Sequence[float] | Tensor,
        classifier: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Self:
        """Return the mixture of K labels of one model, which is read once per step, with K rows per sample.

        Args:
            score: (x, sigma, label [n]) ↦ score, of a network with labels.
            labels: the K labels.
            log_prior: log π, [K].
            classifier: as in `Mixture`.

        Raises:
            ValueError: as `Mixture`.
        """
        return cls(Labelled(checks.function("score", score), torch.as_tensor(labels)), log_prior, classifier)

    def scores(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the scores of all labels, [n, K, …], of samples x [n, …] at sigma []."""
        return self.models.all(x, sigma)  # type: ignore[union-attr]

    def component(self, label: Label) -> "Component":
        """Return the score of one label, or of one label per row [n].

        Raises:
            ValueError: a label that the mixture lacks, or of prior 0.
        """
        for each in set(label.tolist()) if isinstance(label, Tensor) else [label]:
            checked_label(self.log_prior, each)
        return Component(self, label)

    def guidance(self, label: Label, scale: Weight | Callable[[Any], Weight]) -> LogLinear:
        """Return the score γ s_y + (1 − γ) Σ_k ρ_k s_k of the coherent pair.

        `diffusion.coherent.sample` draws by it with the posterior of the path, all other samplers with the classifier.

        Args:
            label: index y of the conditional model, or one per row, [n].
            scale: γ, a number, one per row [n], or a function of sigma.

        Raises:
            ValueError: a label that the mixture lacks, or of prior 0; a scale that is not finite.
        """
        return LogLinear.guidance(self.component(label), self, scale)

    def mixed(self, scores: Tensor, log_posterior: Tensor) -> Tensor:
        """Return Σ_k ρ_k s_k, [n, …], of scores [n, K, …] and log ρ, [n, K]."""
        return torch.einsum("nk,nk...->n...", log_posterior.exp().to(scores), scores)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return Σ_k p(k | x, σ) s_k(x, σ), [n, …], by the classifier.

        Raises:
            ValueError: a mixture without a classifier.
        """
        if self.classifier is None:
            hint = "an ODE has no path posterior; try diffusion.coherent.sample"
            raise checks.refusal("classifier", "log p(k | x, sigma) of noised data for this sampler", None, hint)
        return self.mixed(self.scores(x, sigma), self.classifier(x, sigma))


@dataclass(frozen=True, eq=False)
class Component:
    """The score s_y(x, σ) of one label y of a mixture, or of one label per row [n]."""

    mixture: Mixture
    label: Label

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the score, [n, …]."""
        return self.mixture.models.of(x, sigma, self.label)  # type: ignore[union-attr]

    def among(self, scores: Tensor) -> Tensor:
        """Return the same, [n, …], from the scores of all labels, [n, K, …]."""
        label = torch.as_tensor(self.label, device=scores.device).expand(len(scores))
        return scores[torch.arange(len(scores), device=scores.device), label]
