r"""Sample learned models at a scale, with every sampler of both wings.

AR sequential, AR joint         tokens or pixels, guided one by one, or together by weighted particles
diffusion ODE, diffusion SDE    the guided score, without and with noise
Feynman–Kac                     the same score with weights, whose law is the joint one
classifier guidance, clean …    the unconditional score and a classifier's gradient, of noised or of clean images

Samples of one population share ancestors, so they show less diversity than independent samples. Every sample of a joint law
therefore comes from its own population. The bias that then remains is of the order of Var(Ẑ)/Z², which is reported.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

import arguide
import diffusion
from analysis.learning.label_models import Causal
from arguide.smc.populations import convergence, one_each, weight_spread
from arguide.text.prompts import Prompt
from diffusion.networks import Classifier, Denoiser

SEQUENTIAL, JOINT = "AR sequential", "AR joint"
ODE, SDE, CORRECTED = "diffusion ODE", "diffusion SDE", "Feynman–Kac"
AWARE, CLEAN = "classifier guidance", "clean classifier"
STEPS = 40
PARTICLES, FEW = 8, 2  # particles per population; few are used when more would not converge in the time given
LARGEST = 1.5  # γ of the weighted particles of tokens; above, none converge on learned pairs in the time of a study
HOPE = 0.9  # nats: ESS / N ≈ exp(−σ²), with σ the standard deviation of Σ log Z
SMOOTHING = 0.002  # of the laws of texts, the same at every scale
LEAST = 0.06  # half of one of 17 grey levels: below, log Z holds only the errors of a learned score


class Drawn(NamedTuple):
    """Samples of one sampler at one scale.

    Attributes:
        rows: images or texts, the same number per label, one label after another.
        labels: the requested labels, [n].
        diagnostics: of the weights, see `arguide.smc.populations`.
    """

    rows: Any
    labels: Tensor
    diagnostics: dict[str, float]


def autoregressive(
    learner: Causal, scale: float, n: int, generator: torch.Generator, beta: float = 1.0
) -> Iterator[tuple[str, Drawn]]:
    """Yield texts or images of the sequential law, and up to γ = 1.5 of the joint one; they are equal at γ = 0 and 1 if β = 1.

    Args:
        learner: the model.
        scale: γ.
        n: samples per label.
        generator: of all random numbers.
        beta: inverse temperature β.
    """
    count, length = len(learner.labels), learner.length
    labels = torch.arange(count).repeat_interleave(n)
    law = continuation(learner, labels, scale, beta)
    plain = arguide.sample(law, len(labels), length, generator=generator)
    log_weights = plain.log_weights.reshape(count, n)
    drawn = Drawn(learner.decode(plain.tokens), labels, weight_spread(log_weights)._asdict())
    yield SEQUENTIAL, drawn
    if scale in (0.0, 1.0) and beta == 1:
        yield JOINT, drawn._replace(diagnostics={})
        return
    if scale > LARGEST:
        return
    size = particles(drawn.diagnostics["log_path_spread"])
    law = continuation(learner, labels.repeat_interleave(size), scale, beta)
    runs = arguide.sample_joints(law, len(labels), size, length, twist=arguide.particles.ahead, generator=generator)
    tokens = one_each(runs, generator)
    yield JOINT, Drawn(learner.decode(tokens), labels, convergence(runs, count)._asdict())


def continuation(
    learner: Causal,
    labels: Tensor,
    scale: float | None,
    beta: float = 1.0,
    *,
    smoothing: float = SMOOTHING,
    negative: Causal | None = None,
    negative_prompts: Tensor | None = None,
    guidance_prior: float | None = None,
    conditions: Sequence[arguide.Condition] = (),
) -> Any:
    """Return the guided law of the sequences of some labels.

    Most tokens never follow most texts, so their predicted probabilities are noise: at γ = 5 a token that never begins a text
    of the data has most of the mass if p(x|y) is 2e-4 and p(x) is 6e-6. The laws of texts are therefore smoothed a little.

    Args:
        learner: the model.
        labels: one per row, [n].
        scale: γ.
        beta: inverse temperature β.
        smoothing: of every branch, for texts.
        negative: the model of the unconditional law; the same model by default.
        negative_prompts: its prompts, [n, 1] or [1, 1]; that of no label by default.
        guidance_prior: π of the labels' own laws, for a mixture as the unconditional law.
        conditions: further laws of the mixture, with their priors.
    """
    reader = negative or learner
    law: Any = partial(
        arguide.continuation,
        learner.model,
        learner.prompt(None),
        guidance_scale=scale,
        temperature=1 / beta,
        negative_model=None if negative is None else negative.model,
        negative_prompt_ids=reader.prompt(None) if negative_prompts is None else negative_prompts,
        guidance_prior=guidance_prior,
        conditions=conditions,
        tokens=learner.drawn,
    )
    prompts = Prompt.of(learner.controls[labels][:, None])  # one per row: particles of one label are resampled together
    if learner.end is None:
        return replace(law(), prompt=prompts)
    ending = law(smoothing=smoothing, eos_token_id=learner.end, max_new_tokens=learner.length)
    return replace(ending, model=replace(ending.model, prompt=prompts))


def denoising(denoiser: Denoiser, scale: float, n: int, generator: torch.Generator) -> Iterator[tuple[str, Drawn]]:
    """Yield images by guided diffusion: the ODE, the SDE, and the SDE with weights.

    Args:
        denoiser: the model.
        scale: γ.
        n: images per label.
        generator: of all random numbers.
    """
    labels = torch.arange(denoiser.labels).repeat_interleave(n)
    sigmas, shape = grid(), (len(labels), *denoiser.shape)
    with torch.no_grad():
        field = guided(denoiser, labels, scale)
        yield ODE, Drawn(image(diffusion.sample(field, shape, sigmas, generator=generator).x), labels, {})
        noisy = diffusion.sample_joint(field, shape, sigmas, noise=1.0, threshold=0.0, generator=generator)
        log_weights = noisy.log_weights + noisy.log_evidence + math.log(len(labels))
        drawn = Drawn(image(noisy.x), labels, weight_spread(log_weights.reshape(-1, n))._asdict())
        yield SDE, drawn
        if scale in (0.0, 1.0):
            yield CORRECTED, drawn._replace(diagnostics={})
            return
        size = particles(drawn.diagnostics["log_path_spread"])
        x, diagnostics = corrected(guided(denoiser, labels.repeat_interleave(size), scale), denoiser, n, size, generator)
        yield CORRECTED, Drawn(x, labels, diagnostics)


def corrected(
    field: diffusion.LogLinear, denoiser: Denoiser, n: int, size: int, generator: torch.Generator, noise: float = 1.0
) -> tuple[Tensor, dict[str, float]]:
    """Return images by weighted diffusion, each from its own population, and the diagnostics of the populations.

    Args:
        field: the guided score, with `size` rows per image.
        denoiser: the model.
        n: images per label.
        size: particles per population.
        generator: of all random numbers.
        noise: stochasticity λ.
    """
    count, shape = denoiser.labels * n, (size, *denoiser.shape)
    runs = diffusion.sample_joints(field, count, shape, grid(), noise=noise, generator=generator)
    return image(one_each(runs, generator)), convergence(runs, denoiser.labels)._asdict()


def classifying(
    denoiser: Denoiser, classifiers: dict[str, Classifier], scale: float, n: int, generator: torch.Generator
) -> Iterator[tuple[str, Drawn]]:
    """Yield images by the unconditional score plus γ times a classifier's gradient.

    Args:
        denoiser: the unconditional model.
        classifiers: sampler ↦ its classifier.
        scale: γ.
        n: images per label.
        generator: of all random numbers.
    """
    labels = torch.arange(denoiser.labels).repeat_interleave(n)
    score = diffusion.conditioned(diffusion.from_denoiser(denoiser))
    for family, classifier in classifiers.items():

        def log_class(x: Tensor, sigma: Tensor, classifier: Classifier = classifier) -> Tensor:
            return classifier(x, sigma).gather(1, labels[:, None])[:, 0]

        field = diffusion.with_classifier(score, log_class, scale)
        with torch.no_grad():
            x = diffusion.sample(field, (len(labels), *denoiser.shape), grid(), generator=generator).x
        yield family, Drawn(image(x), labels, {})


def particles(spread: float) -> int:
    """Return the number of particles per population, given the standard deviation of Σ log Z."""
    return PARTICLES if spread < HOPE else FEW


def guided(denoiser: Denoiser, label: Any, scale: float) -> diffusion.LogLinear:
    """Return the guided score of a denoiser.

    Args:
        denoiser: the model.
        label: one, or one per row, [n].
        scale: γ.
    """
    score = diffusion.from_denoiser(denoiser)
    return diffusion.LogLinear.guidance(diffusion.conditioned(score, label), diffusion.conditioned(score), scale)


def grid() -> Tensor:
    """Return the noise levels of every diffusion sampler."""
    return diffusion.edm(STEPS, sigma_min=LEAST, sigma_max=20.0).float()


def image(x: Tensor) -> Tensor:
    """Return images clamped to [−1, 1]; values that are not numbers become 0."""
    return x.nan_to_num(0.0).clamp(-1, 1)
