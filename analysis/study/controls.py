r"""Controls of coherent guidance: other unconditional laws, each of which changes one thing.

AR clamped         the plain pair, its ratio p(x_≤t|y)/p(x_≤t) never above Bayes' bound 1/π_y: bounded, but incoherent
AR weaker model    a model of the same condition after a tenth of the training: autoguidance
AR other model     the unconditional law of a model that was trained with another seed
AR unsmoothed      the plain pair without the study's smoothing; texts alone

"diffusion clamped" guides a path only while its ratio of kernels is below the bound; "diffusion weaker model" and "diffusion
other model" are as above. All use the reverse kernels of coherent guidance.

Source: Karras et al., "Guiding a diffusion model with a bad version of itself", arXiv:2406.02507.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

import arguide
import diffusion
from analysis.learning.label_models import Causal
from analysis.study import samplers
from analysis.study.coherent import images
from analysis.study.samplers import Drawn, continuation
from analysis.toys.clamped import Clamped
from arguide.smc.draws import normal
from diffusion.coherent import Kernel, ancestral
from diffusion.models import Field
from diffusion.networks import Denoiser

CLAMPED, WEAKER, OTHER, UNSMOOTHED = "AR clamped", "AR weaker model", "AR other model", "AR unsmoothed"
CLAMPED_PATHS, WEAKER_SCORE, OTHER_SCORE = "diffusion clamped", "diffusion weaker model", "diffusion other model"


def autoregressive(
    learner: Causal, weaker: Causal, other: Causal, scale: float, n: int, generator: torch.Generator
) -> Iterator[tuple[str, Drawn]]:
    """Yield texts or images of every control at one scale.

    Args:
        learner: the model.
        weaker: a model with less training.
        other: a model that was trained with another seed.
        scale: γ.
        n: samples per label.
        generator: of all random numbers.
    """
    labels = torch.arange(len(learner.labels)).repeat_interleave(n)
    laws = {
        CLAMPED: clamped(learner, labels, scale),
        WEAKER: continuation(learner, labels, scale, negative=weaker, negative_prompts=weaker.controls[labels][:, None]),
        OTHER: continuation(learner, labels, scale, negative=other),
    }
    if learner.end is not None:
        laws[UNSMOOTHED] = continuation(learner, labels, scale, smoothing=0.0)
    for family, law in laws.items():
        x = arguide.sample(law, len(labels), learner.length, generator=generator).x
        yield family, Drawn(learner.decode(x), labels, {})


def denoising(
    denoiser: Denoiser, weaker: Denoiser, other: Denoiser, scale: float, n: int, generator: torch.Generator
) -> Iterator[tuple[str, Drawn]]:
    """Yield images of every control at one scale.

    Args:
        denoiser: the model.
        weaker: a model with less training.
        other: a model that was trained with another seed.
        scale: γ.
        n: images per label.
        generator: of all random numbers.
    """
    labels = torch.arange(denoiser.labels).repeat_interleave(n)
    shape, sigmas = (len(labels), *denoiser.shape), samplers.grid()
    own, weak, strange = (diffusion.from_denoiser(each) for each in (denoiser, weaker, other))
    cond = diffusion.conditioned(own, labels)
    pairs = {WEAKER_SCORE: diffusion.conditioned(weak, labels), OTHER_SCORE: diffusion.conditioned(strange)}
    with torch.no_grad():
        x = clamped_paths(cond, diffusion.conditioned(own), scale, math.log(denoiser.labels), shape, sigmas, generator)
        yield CLAMPED_PATHS, images(x, labels)
        for family, uncond in pairs.items():
            field = diffusion.LogLinear.guidance(cond, uncond, scale)
            x = diffusion.sample(field, shape, sigmas, step=ancestral, generator=generator).x
            yield family, images(x, labels)


def clamped_paths(
    cond: Field,
    uncond: Field,
    scale: float,
    bound: float,
    shape: tuple[int, ...],
    sigmas: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return samples [n, …] of paths that are guided while log p(path|y)/p(path) is below a bound, and follow p(x|y) above it.

    Args:
        cond: the conditional score.
        uncond: the unconditional score.
        scale: γ.
        bound: of the sum of log ratios of kernels, in nats, at which the sum is clamped.
        shape: [n, …].
        sigmas: a grid that falls to 0.
        generator: of all random numbers.
    """
    draw = normal(generator)
    x = diffusion.sampling.init(sigmas.new_empty(shape), sigmas[0], draw).x
    log_ratio = torch.zeros(len(x), dtype=torch.float64)
    for sigma, sigma_next in pairwise(sigmas):
        kernel, scores = Kernel(x, sigma, sigma_next), (cond(x, sigma), uncond(x, sigma))
        x = kernel.sample(diffusion.guide(*scores, torch.where(log_ratio < bound, scale, 1.0)), draw)
        if sigma_next > 0:
            gained, lost = (kernel.log_density(x, score) for score in scores)
            log_ratio = (log_ratio + gained - lost).clamp(max=bound)
    return x


def clamped(learner: Causal, labels: Tensor, scale: float) -> Any:
    """Return the clamped law of the sequences of some labels, with a uniform prior.

    Args:
        learner: the model.
        labels: one per row, [n].
        scale: γ.
    """
    bound = math.log(len(learner.labels))
    law = continuation(learner, labels, 2.0)  # a scale at which both branches are read
    if isinstance(law, arguide.Ending):
        return arguide.Ending(Clamped(law.model, scale, bound), law.tokens, law.length, law.cap)
    return Clamped(law, scale, bound)
