r"""The joint guided law of a mixture of diffusion models, drawn exactly by acceptance.

    γ ≥ 1        path ~ p(path|y), kept with probability p(y|path)^{γ−1}
    0 ≤ γ < 1    path ~ p(path),   kept with probability p(y|path)^γ

A path runs over the levels above 0 by the reverse kernels of `diffusion.coherent.kernels`, and p(path) = Σ_k π_k p(path|k). So
the target is the law **on paths**, ∝ p(path|y) p(y|path)^{γ−1}. The draws are the denoised ends x_0 of such paths. They follow
p(x_0|y) E[p(y|path)^{γ−1} | x_0, y], which tends to p(x_0|y) p(y|x_0)^{γ−1} where scores are exact and steps small. With a
classifier of clean data the target is p(x_0|y) p(y|x_0)^{γ−1} by that classifier: another law of data, also drawn exactly.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypedDict, Unpack, overload

import torch
from torch import Generator, Tensor

from arguide import checks
from arguide.coherent.mixture import checked_label
from arguide.smc.acceptance import LEAST, Accepted, Proposed, at_scales
from arguide.smc.draws import Draw, normal, wide
from arguide.smc.draws import uniform as uniform_draw
from diffusion import sampling
from diffusion.coherent.kernels import ancestral
from diffusion.coherent.mixture import Label, Mixture
from diffusion.coherent.sampling import trajectory

Classify = Callable[[Tensor], Tensor]


class AcceptedPaths(Accepted):
    """Ends x [n, …] of n exact and independent draws of the joint law on paths; log_posterior is log p(y|path)."""

    __slots__ = ()
    target: ClassVar[str] = "p(path|y) p(y|path)^(γ−1)"


class AcceptedData(Accepted):
    """n exact and independent draws x [n, …] of the joint law of data and a classifier; log_posterior is log p(y|x_0)."""

    __slots__ = ()
    target: ClassVar[str] = "p(x_0|y) p(y|x_0)^(γ−1)"


class Options(TypedDict, total=False):
    """The keywords of `sample_accepted`, for type checkers."""

    generator: Generator | None
    draw: Draw | None
    uniform: Draw | None
    tolerance: float
    least: float
    rows: int | None
    classifier: Classify | None


@overload
def sample_accepted(
    mixture: Mixture, label: int, scale: float, shape: tuple[int, ...], sigmas: Tensor, **options: Unpack[Options]
) -> Accepted: ...
@overload
def sample_accepted(
    mixture: Mixture, label: int, scale: Sequence[float], shape: tuple[int, ...], sigmas: Tensor, **options: Unpack[Options]
) -> list[Accepted]: ...
def sample_accepted(
    mixture: Mixture,
    label: int,
    scale: float | Sequence[float],
    shape: tuple[int, ...],
    sigmas: Tensor,
    *,
    generator: Generator | None = None,
    draw: Draw | None = None,
    uniform: Draw | None = None,
    tolerance: float = 0.02,
    least: float = LEAST,
    rows: int | None = None,
    classifier: Classify | None = None,
) -> Accepted | list[Accepted]:
    """Draw n exact samples of the joint law on paths, p(path|y) p(y|path)^{γ−1}, or of that of data and a classifier.

    Args:
        mixture: the scores of all labels and their prior.
        label: index y of the component.
        scale: γ ≥ 0; several share proposals, and their results depend on each other.
        shape: [n, …], n samples per scale.
        sigmas: a grid of `diffusion.noise`, falling to 0; it gives dtype and device, and the law on paths depends on it.
        generator: of the default draws.
        draw: x ↦ standard normals of its shape; `normal(generator)` by default.
        uniform: [rows] ↦ uniform numbers in [0, 1), of the acceptance, and for γ < 1 of the component of every path.
        tolerance: largest standard error of log Ẑ, for which more proposals are made than n draws need; ∞ for none.
        least: the smallest share of accepted proposals A that is not refused.
        rows: proposals per batch; by default n, between 64 and 4,096, and twice as many per further batch up to 512.
        classifier: of clean data, x_0 [n, …] ↦ log p(k|x_0), [n, K]. With it the target is p(x_0|y) p(y|x_0)^{γ−1}, or
            p(x_0) p(y|x_0)^γ for γ < 1, and a step reads one label instead of K.

    Returns:
        An `AcceptedPaths`, or an `AcceptedData` with a classifier; a list of them for several scales, in their order.

    Raises:
        ValueError: γ below 0, for which no bound exists; a label that the mixture lacks; an A below `least`, with its estimate;
            a grid or shape out of range; a classifier whose probabilities do not sum to 1.

    Example:
        >>> points = analysis.GaussianMixture([[-1.0], [1.0]], [0.5, 0.5], [0.5, 0.5])
        >>> scores = [diffusion.conditioned(points.score, label) for label in (0, 1)]
        >>> mixture = diffusion.Mixture(scores, torch.tensor([0.5, 0.5]).log())
        >>> diffusion.sample_accepted(mixture, 1, 3.0, (16, 1), diffusion.edm(20)).x.shape
        torch.Size([16, 1])
    """
    checks.shape("shape", shape), checks.falling("sigmas", sigmas)
    log_prior = _log_prior(mixture)
    checked_label(log_prior, label)
    draw = checks.function("draw", draw or normal(generator))
    uniform = checks.function("uniform", uniform or uniform_draw(generator))

    def propose(conditional: bool, size: int) -> Proposed:
        chosen = label if conditional else drawn(log_prior, uniform(sigmas.new_empty(size)))
        x, log_posterior = proposals(mixture, chosen, (size, *shape[1:]), sigmas, draw, classifier)
        return Proposed(x, log_posterior[:, label].to(wide(x)))

    limits: dict[str, Any] = {"tolerance": tolerance, "least": least, "rows": rows}
    found = at_scales(propose, scale, shape[0], float(log_prior[label]), uniform=uniform, **limits)
    kind = AcceptedPaths if classifier is None else AcceptedData
    return [kind(*each) for each in found] if isinstance(found, list) else kind(*found)


def proposals(
    mixture: Mixture, label: Label, shape: tuple[int, ...], sigmas: Tensor, draw: Draw, classifier: Classify | None = None
) -> tuple[Tensor, Tensor]:
    """Return samples of a component's own chain, [n, …], and log p(k|path) of all labels, or log p(k|x_0), [n, K].

    Args:
        mixture: as in `sample_accepted`.
        label: the component, or one per row, [n].
        shape: [n, …].
        sigmas: as in `sample_accepted`.
        draw: standard normals.
        classifier: as in `sample_accepted`.
    """
    if classifier is not None:
        x = sampling.sample(mixture.component(label), shape, sigmas, step=ancestral, draw=draw).x
        return x, _classified(classifier, x, len(torch.as_tensor(mixture.log_prior)))
    for state, _ in trajectory(mixture.guidance(label, 1.0), shape, sigmas, draw):
        last = state
    return last.x, last.log_posterior


def _classified(classifier: Classify, x: Tensor, labels: int) -> Tensor:
    found = checks.function("classifier", classifier)(x)
    if not isinstance(found, Tensor) or found.shape != (len(x), labels):
        raise checks.refusal("classifier", f"log p(k|x) of shape {(len(x), labels)}", found)
    total = found.to(wide(found)).exp().sum(1)
    if not torch.allclose(total, torch.ones_like(total), rtol=0, atol=1e-4):
        raise checks.refusal("exp(classifier(x))", "of sum 1 for every x", total[0], "try log_softmax")
    return found


def drawn(log_prior: Tensor, level: Tensor) -> Tensor:
    """Return labels [n] with probabilities π, by inversion of uniform numbers [n]."""
    bounds = log_prior.exp().cumsum(0).to(level)
    return torch.searchsorted(bounds, level * bounds[-1], right=True)


def _log_prior(mixture: Any) -> Tensor:
    if not isinstance(mixture, Mixture):
        raise checks.refusal("mixture", "a diffusion.Mixture", mixture)
    return torch.as_tensor(mixture.log_prior)
