r"""Discrete data: denoisers of token sequences, and the log-linear combination of their probabilities.

Tokens x_0 in {0 … V−1}^T are noised one by one, to a mask (`masked`) or to a uniform value (`uniform`); a
network tells log p(x_0,j | x_t) of every position. A reverse kernel k_k(x' | x) of every branch, made from that, is guided
like everything else, by the product and its normalizer:

    Π_k k_k(x' | x)^{w_k} / Z(x),    Z(x) = Σ_{x'} Π_k k_k(x' | x)^{w_k}.

A weight of 0 ignores its branch; probability 0 under a positive weight, or in every branch, is probability 0; probability 0
under a negative weight where the others allow x' is an improper tilt, and an error.

Source: Schiff et al., "Simple guidance mechanisms for discrete diffusion models" (2024).
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from arguide import checks, guidance
from diffusion.guidance import Weight
from diffusion.models import LogLinear

Choose = Callable[[Tensor], Tensor]


class Denoiser(Protocol):
    """log p(x_0,j = v | x_t, label), [n, T, V], at tokens x_t [n, T] and one time []; label None is unconditional.

    `diffusion.conditioned` binds a label, and `diffusion.LogLinear` holds denoisers and their weights as it does scores.
    """

    def __call__(self, x: Tensor, time: Tensor, /, label: Any = None) -> Tensor:
        """Return the log-probabilities, [n, T, V]."""
        ...


def categorical(generator: torch.Generator | None = None) -> Choose:
    """Return the draw of one index a row, log-probs [n, K] ↦ [n]."""
    return lambda log_probs: torch.multinomial(log_probs.exp(), 1, generator=generator).squeeze(-1)


def combine(log_probs: Sequence[Tensor], weights: Sequence[Weight]) -> Tensor:
    """Return Σ_k w_k log p_k, unnormalised, by the policy for zeros of `arguide.guidance`, which this only calls.

    Args:
        log_probs: K tensors [n, …]; weights: K numbers, or one a sample, [n].

    Raises:
        ValueError: an improper tilt, or a weight that is not finite.
    """
    rows = (1,) * (log_probs[0].ndim - 2)
    wide = [w.reshape(-1, *rows) if isinstance(w, Tensor) and w.ndim else w for w in weights]
    return guidance.combine(log_probs, wide)


def check_model(model: LogLinear) -> None:
    """Raise ValueError unless the model is a combination of denoisers."""
    if not isinstance(model, LogLinear):
        raise checks.refusal("model", "a diffusion.LogLinear of denoisers", model)


def one_target(model: LogLinear) -> None:
    """Raise ValueError unless the weights are the same for all particles and at all times, which a joint law needs."""
    check_model(model)
    if callable(model.weights) or any(torch.as_tensor(weight).ndim for weight in model.weights):
        raise ValueError("particles share one target: give the same weights to all of them, at every time")
