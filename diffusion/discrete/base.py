r"""Diffusion of tokens: denoisers, and the log-linear combination of their reverse kernels.

Tokens x_0 in {0 … V−1}^T are noised one by one, to a mask (`masked`) or to a uniform value (`uniform`). A network predicts
log p(x_0,j | x_t) of every position. Every branch makes a reverse kernel k_k(x' | x) from it, and the kernels are guided by
their product and its normalizer:

    Π_k k_k(x' | x)^{w_k} / Z(x),    Z(x) = Σ_{x'} Π_k k_k(x' | x)^{w_k}.

The policy for zeros is that of `arguide.guidance`.

Source: Schiff et al., "Simple guidance mechanisms for discrete diffusion models", arXiv:2412.10193.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from arguide import guidance
from arguide.guidance import Weight
from diffusion.guidance import columns


class TokenDenoiser(Protocol):
    """log p(x_0,j = v | x_t, label), [n, T, V], at tokens x_t [n, T] and one time []; label None is unconditional.

    `diffusion.conditioned` binds a label, and `diffusion.LogLinear` holds denoisers and their weights as it does scores.
    """

    def __call__(self, x: Tensor, time: Tensor, /, label: Any = None) -> Tensor:
        """Return the log-probabilities, [n, T, V]."""
        ...


class State(NamedTuple):
    """n sequences of noised tokens, x [n, T]."""

    x: Tensor


def select(state: State, index: Tensor) -> State:
    """Return the state whose row i is row index[i] of this one."""
    return State(state.x[index])


def combine(log_probs: Sequence[Tensor], weights: Sequence[Weight]) -> Tensor:
    """Return Σ_k w_k log p_k, unnormalised, [n, …], for K tensors [n, …] and K weights, numbers or one per sample, [n].

    Raises:
        ValueError: an improper tilt, or a weight that is not finite.
    """
    rows = log_probs[0][..., 0]  # `guidance.combine` adds the axis of the vocabulary
    return guidance.combine(log_probs, [columns(w, rows) if isinstance(w, Tensor) and w.ndim else w for w in weights])
