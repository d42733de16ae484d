r"""`Clamped`: sequential guidance by a pair of models whose ratio is clamped, the control that is bounded but incoherent.

By Bayes' rule log p(x|y)/p(x) is at most −log π_y. A pair of models that are learned separately, or by dropping labels,
exceeds that bound. The clamp restores it, token by token, and leaves the pair as it is otherwise.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from analysis.toys.law import log_divide


class Bounded(NamedTuple):
    """State of a `Clamped`: that of the pair, the clamped ratio of every prefix in nats [n], and the guided law."""

    pair: Any
    log_ratio: Tensor
    log_probs: Tensor
    log_normalizer: Tensor

    @property
    def laws(self) -> tuple[Tensor, ...]:
        """Log-probs of the next token of both branches, 2 tensors [n, V]."""
        laws: tuple[Tensor, ...] = self.pair.laws
        return laws


@dataclass(frozen=True)
class Clamped:
    """The sequential law p(x_t|x_<t,y) exp((γ − 1) g_t(x_t)), with g_t the gain log p(x_t|x_<t,y)/p(x_t|x_<t), clamped.

    The gain of a token is at most what the running sum of gains leaves of the bound.

    Attributes:
        pair: a model whose states have the laws (cond, uncond).
        scale: γ.
        bound: of the sum of gains, in nats; ∞ gives plain guidance.
    """

    pair: Any
    scale: float
    bound: float

    def start(self, n: int) -> Bounded:
        """Return the state of n empty prefixes."""
        pair = self.pair.start(n)
        return self._state(pair, torch.zeros_like(pair.laws[0][:, 0]))

    def append(self, state: Bounded, token: Tensor) -> Bounded:
        """Return the state after one more token per row, [n]."""
        gain = self._gains(state.laws, state.log_ratio).gather(1, token[:, None])[:, 0]
        return self._state(self.pair.append(state.pair, token), state.log_ratio + gain)

    def select(self, state: Bounded, index: Tensor) -> Bounded:
        """Return the state whose row i is row index[i] of this one."""
        return Bounded(self.pair.select(state.pair, index), *(rows[index] for rows in state[1:]))

    def _gains(self, laws: tuple[Tensor, ...], log_ratio: Tensor) -> Tensor:
        cond, uncond = laws
        gains = torch.where(cond == -math.inf, 0.0, cond - uncond)  # such a token has no mass, whatever it gains
        return torch.minimum(gains, (self.bound - log_ratio)[:, None])

    def _state(self, pair: Any, log_ratio: Tensor) -> Bounded:
        logits = pair.laws[0] + (self.scale - 1) * self._gains(pair.laws, log_ratio)
        log_normalizer = logits.logsumexp(-1)
        return Bounded(pair, log_ratio, log_divide(logits, log_normalizer[:, None]), log_normalizer)
