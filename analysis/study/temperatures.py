r"""Sample learned models at γ = 1 and an inverse temperature β, by every way to lower the temperature in both wings.

AR sequential, AR joint     p(x_t | x_<t)^β at every token, or p(x)^β by weighted particles
score × β, ODE, and SDE     the naive rule, without and with noise
noise scale                 the SDE's noise times β^{−1/2}, right for Gaussians
score × β, weights          the same at λ = 2 with the weights that make it p(x)^β (Feynman–Kac)

Exact on toys, with the β that each reaches, in `analysis.experiments.temperature`.
"""

from collections.abc import Iterator

import torch

import diffusion
from analysis.study import samplers
from analysis.study.samplers import Drawn
from diffusion.models import Field
from diffusion.networks import Denoiser
from diffusion.sampling import Step, heun

BETAS = (1.0, 1.25, 1.5, 2.0)
ODE, SDE, NOISE, WEIGHTS = "score × β, ODE", "score × β, SDE", "noise scale", "score × β, weights"
LAMBDA = 2.0


def denoising(denoiser: Denoiser, beta: float, n: int, generator: torch.Generator) -> Iterator[tuple[str, Drawn]]:
    """Yield images by every way to lower the temperature; at β = 1 scores, noise and weights are unchanged.

    Args:
        denoiser: the model.
        beta: inverse temperature β.
        n: images per label.
        generator: of all random numbers.
    """
    labels = torch.arange(denoiser.labels).repeat_interleave(n)
    score = diffusion.from_denoiser(denoiser)
    own = diffusion.conditioned(score, labels)

    def drawn(field: Field, step: Step, weight: float = beta) -> Drawn:
        shape = (len(labels), *denoiser.shape)
        x = diffusion.sample(field, shape, samplers.grid(), step=step, generator=generator, total_weight=weight).x
        return Drawn(samplers.image(x), labels, {})

    with torch.no_grad():
        yield ODE, drawn(diffusion.scaled(own, beta), heun, 1.0)
        yield SDE, drawn(diffusion.scaled(own, beta), diffusion.sde())
        yield NOISE, drawn(own, diffusion.sde(noise_scale=beta**-0.5))
        if beta == 1:
            yield WEIGHTS, drawn(own, diffusion.sde(LAMBDA))
        else:
            size = samplers.FEW  # eight particles do not converge even at β = 1.25
            many = diffusion.conditioned(score, labels.repeat_interleave(size))
            law = diffusion.LogLinear.temperature(many, 1 / beta)
            x, diagnostics = samplers.corrected(law, denoiser, n, size, generator, LAMBDA)
            yield WEIGHTS, Drawn(x, labels, diagnostics)
