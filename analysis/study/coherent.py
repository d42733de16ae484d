r"""Sample learned models by coherent guidance: the unconditional law is the mixture of the labels' laws, with a uniform prior.

AR coherent                    every token guided by the posterior of the label, `Guidance.guidance_prior`
AR joint, coherent             the joint law of the same pair, exactly, by acceptance
diffusion DDPM                 plain guidance with the reverse kernels that the next two use
diffusion coherent             the mixture's score, by the posterior of the path
diffusion joint, coherent      the joint law on paths, exactly, by acceptance

All scales share the proposals of a joint law, so its samples at different scales depend on each other.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

import arguide
import diffusion
from analysis.learning.label_models import Causal
from analysis.metrics.incoherence import Incoherence, Scored, incoherence
from analysis.study import samplers
from analysis.study.samplers import Drawn, continuation
from arguide.smc.acceptance import Accepted
from arguide.smc.draws import normal
from arguide.smc.populations import weight_spread
from arguide.stopping import lengths
from diffusion import coherent
from diffusion.networks import Denoiser

LEAST = 0.005  # share of accepted proposals; at a lower one the time of a study does not suffice
COHERENT, ACCEPTED = "AR coherent", "AR joint, coherent"
DDPM, SCORES, PATHS = "diffusion DDPM", "diffusion coherent", "diffusion joint, coherent"


def autoregressive(learner: Causal, scale: float, n: int, generator: torch.Generator) -> Iterator[tuple[str, Drawn]]:
    """Yield texts or images of the sequential law of a coherent pair.

    Args:
        learner: the model.
        scale: γ.
        n: samples per label.
        generator: of all random numbers.
    """
    labels = torch.arange(len(learner.labels)).repeat_interleave(n)
    drawn = arguide.sample(law(learner, labels, scale), len(labels), learner.length, generator=generator)
    diagnostics = weight_spread(drawn.log_weights.reshape(-1, n))._asdict()
    yield COHERENT, Drawn(learner.decode(drawn.x), labels, diagnostics)


def law(learner: Causal, labels: Tensor, scale: float | None = None) -> Any:
    """Return the sequential law of some labels, guided by the mixture of all; component 0 is a row's own label.

    Args:
        learner: the model.
        labels: one per row, [n].
        scale: γ; None means 1.
    """
    count = len(learner.labels)
    first, *others = [learner.controls[(labels + k) % count][:, None] for k in range(1, count)]
    conditions = [arguide.Condition(prior=1 / count, input_ids=each) for each in others]
    return continuation(learner, labels, scale, negative_prompts=first, guidance_prior=1 / count, conditions=conditions)


def accepted(
    learner: Causal, scales: Sequence[float], n: int, generator: torch.Generator
) -> Iterator[tuple[float, str, Drawn]]:
    """Yield texts or images of the joint law of a coherent pair, at every scale where acceptance is practical.

    Args:
        learner: the model.
        scales: γ.
        n: samples per label and scale.
        generator: of all random numbers.
    """
    count = len(learner.labels)

    def draw(label: int, some: list[float]) -> list[Accepted]:
        own = law(learner, torch.tensor([label]))
        options: dict[str, Any] = {"generator": generator, "tolerance": math.inf, "least": LEAST}
        return arguide.sample_accepted(own, 0, some, n, learner.length, **options)

    for scale, each, x in _per_scale(scales, count, draw):
        yield scale, ACCEPTED, Drawn(learner.decode(x), torch.arange(count).repeat_interleave(n), each)


def denoising(denoiser: Denoiser, scale: float, n: int, generator: torch.Generator) -> Iterator[tuple[str, Drawn]]:
    """Yield images by plain and by coherent guidance, both with the reverse kernels.

    Args:
        denoiser: the model.
        scale: γ.
        n: images per label.
        generator: of all random numbers.
    """
    labels = torch.arange(denoiser.labels).repeat_interleave(n)
    shape, sigmas = (len(labels), *denoiser.shape), samplers.grid()
    with torch.no_grad():
        plain = samplers.guided(denoiser, labels, scale)
        x = diffusion.sample(plain, shape, sigmas, step=coherent.ancestral, generator=generator).x
        yield DDPM, images(x, labels)
        found = coherent.sample(mixture(denoiser).guidance(labels, scale), shape, sigmas, generator=generator)
        diagnostics = weight_spread(found.log_weights.reshape(-1, n))._asdict()
        yield SCORES, images(found.x, labels, **diagnostics, posterior=_own(found.log_posterior, labels))


def accepted_images(
    denoiser: Denoiser, scales: Sequence[float], n: int, generator: torch.Generator
) -> Iterator[tuple[float, str, Drawn]]:
    """Yield images of the joint law on paths, at every scale where acceptance is practical.

    Args:
        denoiser: the model.
        scales: γ.
        n: images per label and scale.
        generator: of all random numbers.
    """
    pair, shape = mixture(denoiser), (n, *denoiser.shape)

    def draw(label: int, some: list[float]) -> list[Accepted]:
        options: dict[str, Any] = {"generator": generator, "tolerance": math.inf, "least": LEAST}
        with torch.no_grad():
            return diffusion.sample_accepted(pair, label, some, shape, samplers.grid(), **options)

    for scale, each, x in _per_scale(scales, denoiser.labels, draw):
        yield scale, PATHS, images(x, torch.arange(denoiser.labels).repeat_interleave(n), **each)


def incoherent_texts(learner: Causal, n: int, generator: torch.Generator) -> Incoherence:
    """Return the incoherence of an autoregressive model's pair, from n draws per label and as many of no label.

    Args:
        learner: the model.
        n: draws per label.
        generator: of all random numbers.
    """
    count = len(learner.labels)

    def scored(labels: Tensor) -> Scored:
        own = continuation(learner, labels, 1.0)
        x = arguide.sample(own, len(labels), learner.length, generator=generator).x
        logs = torch.stack([log_likelihood(learner, x, torch.full_like(labels, k)) for k in range(count + 1)], 1)
        return Scored(labels, logs[:, :count], logs[:, count])

    labels = torch.arange(count).repeat_interleave(n)
    return incoherence(_uniform(count), scored(labels), scored(torch.full_like(labels, count)))


def incoherent_images(denoiser: Denoiser, n: int, generator: torch.Generator) -> Incoherence:
    """Return the incoherence of a denoiser's pair on paths, from n paths per label and as many of no label.

    Args:
        denoiser: the model.
        n: paths per label.
        generator: of all random numbers.
    """
    count = denoiser.labels
    every = diffusion.Mixture.of(diffusion.from_denoiser(denoiser), range(count + 1), _uniform(count + 1))

    def scored(labels: Tensor) -> Scored:
        shape = (len(labels), *denoiser.shape)
        _, logs = coherent.acceptance.proposals(every, labels, shape, samplers.grid(), normal(generator))
        return Scored(labels, logs[:, :count], logs[:, count])  # log-densities up to a constant per path

    labels = torch.arange(count).repeat_interleave(n)
    with torch.no_grad():
        return incoherence(_uniform(count), scored(labels), scored(torch.full_like(labels, count)))


def log_likelihood(learner: Causal, tokens: Tensor, labels: Tensor) -> Tensor:
    """Return log p(x|y) of tokens [n, T], with padding or `IGNORED` after the end, under one label per row, [n].

    Args:
        learner: the model.
        tokens: x.
        labels: y; K for no label.
    """
    ends = () if learner.end is None else (learner.end,)
    mask = torch.arange(tokens.shape[1]) < lengths(tokens, ends)[:, None]
    text = tokens.where(tokens >= 0, learner.end or 0)
    prompts, smoothing = learner.controls[labels][:, None], samplers.SMOOTHING if ends else 0.0
    settings: dict[str, Any] = {"tokens": learner.drawn, "smoothing": smoothing}
    return arguide.score(learner.model, prompts, text, text_mask=mask.long(), **settings).sequential


def mixture(denoiser: Denoiser) -> diffusion.Mixture:
    """Return the mixture of a denoiser's labels, with a uniform prior."""
    return diffusion.Mixture.of(diffusion.from_denoiser(denoiser), range(denoiser.labels), _uniform(denoiser.labels))


def _uniform(count: int) -> Tensor:
    return torch.full((count,), -math.log(count), dtype=torch.float64)


def _per_scale(
    scales: Sequence[float], count: int, draw: Callable[[int, list[float]], list[Accepted]]
) -> Iterator[tuple[float, dict[str, float], Tensor]]:
    """Yield every practical scale with the means over labels of its numbers, and the samples of all labels.

    Draws at γ = 1 estimate A; scales where it is too low for some label are left out. The largest scale is left out too, and
    the rest drawn anew, while acceptance turns out too low all the same.

    Args:
        scales: γ.
        count: number of labels.
        draw: (label, scales) ↦ one result per scale.
    """
    pilots = torch.stack([draw(label, [1.0])[0].log_posterior for label in range(count)])
    some = [scale for scale in sorted(scales) if ((max(scale, 1) - 1) * pilots).exp().mean(1).min() >= LEAST]
    while some:
        try:
            found = [draw(label, some) for label in range(count)]
            break
        except arguide.LowAcceptanceError:
            some.pop()
    for scale, each in zip(some, zip(*found, strict=True) if some else (), strict=True):
        shares = [float(one.log_acceptance.exp()) for one in each]
        diagnostics = {
            "acceptance": fmean(shares),
            "kl bound": fmean(float(one.most_kl) for one in each),
            "log_z": fmean(float(one.log_evidence) for one in each),
            "posterior": fmean(float(one.log_posterior.exp().mean()) for one in each),
        }
        yield scale, diagnostics, torch.cat([one.x for one in each])


def _own(log_posterior: Tensor, labels: Tensor) -> float:
    """Return the mean posterior of the requested labels."""
    return float(log_posterior.gather(1, labels[:, None]).exp().mean())


def images(x: Tensor, labels: Tensor, **diagnostics: float) -> Drawn:
    """Return images clamped to [−1, 1], with the share of pixels that were outside by a twentieth of the range."""
    return Drawn(samplers.image(x), labels, {**diagnostics, "outside": float((x.abs() > 1.1).double().mean())})
