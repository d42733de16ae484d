r"""Losses of denoisers and of classifiers of noised data; `arguide.training.fit` minimises them.

    denoiser      E λ(σ) ‖D(x_0 + σε, σ, y) − x_0‖²/d,    λ = (σ² + σ_d²)/(σ σ_d)²,    log σ ~ N(m, s²)
    classifier    −E log p(y | x_0 + σε, σ),    log σ ~ N(0, 1.6²); or σ = 0, which gives a classifier of clean data

d is the number of coordinates of x.

Sources: Karras et al., "Elucidating the design space of diffusion-based generative models", arXiv:2206.00364, eqs. 2 and 8 and
table 1; Dhariwal & Nichol, "Diffusion models beat GANs on image synthesis", arXiv:2105.05233, section 4.
"""

import torch
from torch import Tensor
from torch.nn import functional

from diffusion.guidance import columns
from diffusion.networks import Classifier, Denoiser

LOG_MEAN, LOG_SPREAD = -0.8, 1.3


def levels(n: int, generator: torch.Generator, *, mean: float = LOG_MEAN, spread: float = LOG_SPREAD) -> Tensor:
    """Draw noise levels for training, [n]: log σ ~ N(mean, spread²).

    Args:
        n: number of levels.
        generator: source of randomness, on the CPU.
        mean: mean of log σ.
        spread: standard deviation of log σ.
    """
    return (mean + spread * torch.randn(n, generator=generator)).exp()


def noised(x: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
    """Return x + σ·ε, [n, …], with ε ~ N(0, I).

    Args:
        x: clean data, [n, …].
        sigma: σ, [n].
        generator: source of randomness, on the CPU.
    """
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    return x + columns(sigma, x) * noise


def denoising_losses(model: Denoiser, x: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return λ(σ) ‖D(x + σε, σ, y) − x‖²/d of every x, with σ and ε drawn, [n].

    Args:
        model: the denoiser D.
        x: clean data, [n, …] with d coordinates per sample.
        labels: y, [n]; `model.labels` is the null label.
        generator: source of randomness, on the CPU.
    """
    sigma = levels(len(x), generator).to(x)
    found = model(noised(x, sigma, generator), sigma, labels)
    weight = (sigma**2 + model.sigma_data**2) / (sigma * model.sigma_data) ** 2
    return weight * (found - x).square().flatten(1).mean(1)


def denoising_loss(model: Denoiser, x: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return the mean of `denoising_losses`, [].

    Args:
        model: the denoiser.
        x: clean data, [n, …].
        labels: [n].
        generator: source of randomness, on the CPU.
    """
    return denoising_losses(model, x, labels, generator).mean()


def classifying_losses(model: Classifier, x: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return −log p(y | x + σε, σ) of every x, with σ and ε drawn, [n]; σ = 0 for a classifier of clean data.

    Args:
        model: the classifier.
        x: clean data, [n, …].
        labels: y, [n].
        generator: source of randomness, on the CPU.
    """
    if not model.noised:
        return functional.nll_loss(model(x, x.new_zeros(len(x))), labels, reduction="none")
    sigma = levels(len(x), generator, mean=0.0, spread=1.6).to(x)
    return functional.nll_loss(model(noised(x, sigma, generator), sigma), labels, reduction="none")


def classifying_loss(model: Classifier, x: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return the mean of `classifying_losses`, [].

    Args:
        model: the classifier.
        x: clean data, [n, …].
        labels: [n].
        generator: source of randomness, on the CPU.
    """
    return classifying_losses(model, x, labels, generator).mean()
