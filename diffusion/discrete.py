r"""Discrete data: denoisers of token sequences, and the log-linear combination of their probabilities.

Tokens x_0 in {0 … V−1}^T are noised one by one, to a mask (`diffusion.masked`) or to a uniform value (`diffusion.uniform`); a
network tells log p(x_0,j | x_t) of every position. A reverse kernel k_k(x' | x) of every branch, made from that, is guided
like everything else, by the product and its normalizer:

    Π_k k_k(x' | x)^{w_k} / Z(x),    Z(x) = Σ_{x'} Π_k k_k(x' | x)^{w_k}.

A weight of 0 ignores its branch; probability 0 under a positive weight, or in every branch, is probability 0; probability 0
under a negative weight where the others allow x' is an improper tilt, and an error.

Source: Schiff et al., "Simple guidance mechanisms for discrete diffusion models" (2024).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

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
    """Return Σ_k w_k log p_k, unnormalised, [n, …], by the module's policy for zeros.

    Args:
        log_probs: K tensors [n, …]; weights: K numbers, or one a sample, [n].

    Raises:
        ValueError: an improper tilt, or a weight that is not finite.
    """
    empty = torch.stack(list(log_probs)).amax(0) == -math.inf
    pull = push = torch.zeros_like(log_probs[0])
    for branch, weight in zip(log_probs, weights, strict=True):
        column = torch.as_tensor(weight, dtype=branch.dtype, device=branch.device)
        if not column.isfinite().all():
            raise ValueError(f"weights must be finite, not {weight}")
        column = column.reshape(-1, *(1,) * (branch.ndim - 1))
        pull = pull + torch.where(column > 0, column * branch, 0.0)
        push = push + torch.where(column < 0, column * branch, 0.0)
    total = torch.where(empty | (pull == -math.inf), -math.inf, pull + push)
    if (total == math.inf).any():
        raise ValueError("improper tilt: a branch of negative weight is 0 where the others are not, so the mass is infinite")
    return total


def one_target(model: LogLinear) -> None:
    """Raise ValueError unless the weights are the same for all particles and at all times, which a joint law needs."""
    if callable(model.weights) or any(torch.as_tensor(weight).ndim for weight in model.weights):
        raise ValueError("particles share one target: give the same weights to all of them, at every time")
