r"""Stopping: sequences of variable length, which end with an ending token, and at the latest at a length cap.

After its end a row is padded with the ending token, with probability 1 and normalizer 1, so padding changes no density. The
cap of T tokens is part of the target:

    truncate    the law of the first T tokens: an unfinished sequence has weight Π_{t≤T} Π_k p_k^{w_k}
    force       the law of whole sequences of at most T tokens: token T is an ending token, with its own weight
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from arguide import checks
from arguide.guidance import normalize
from arguide.models import Autoregressive, resumed
from arguide.transforms import one_of

CAPS = ("truncate", "force")


@dataclass(frozen=True)
class Ending:
    """A model whose sequences end with one of `tokens`.

    Attributes:
        model: the model, usually a combination.
        tokens: the ending tokens; padding uses the first.
        length: T, the cap.
        cap: "truncate" or "force".

    Raises:
        ValueError: no ending token, an unknown cap, or a cap below one token; from `start`, an ending token outside the
            vocabulary.

    Example:
        >>> chain = analysis.MarkovChain([[0.5, 0.5]], [[[0.8, 0.2], [0.0, 1.0]]], 9)
        >>> law = arguide.Ending(chain.autoregressive(0), tokens=(1,), length=9)
        >>> arguide.sample(law, 100, 9).tokens.shape[1] <= 9
        True
    """

    model: Autoregressive
    tokens: tuple[int, ...]
    length: int
    cap: str = "truncate"

    def __post_init__(self) -> None:
        if self.cap not in CAPS:
            raise checks.refusal("cap", f"one of {', '.join(CAPS)}", self.cap)
        checks.tokens("tokens", self.tokens)
        checks.integer("length", self.length)
        checks.model("model", self.model)

    def start(self, n: int) -> "Ended":
        """Return the state of n empty prefixes."""
        state = self.model.start(n)
        checks.within("tokens", max(self.tokens), state.log_probs.shape[-1])
        return Ended(self, state, torch.zeros(n, dtype=torch.bool, device=state.log_probs.device), 0)

    def append(self, state: "Ended", token: Tensor) -> "Ended":
        """Return the state after one more token per row, [n]."""
        ends = torch.isin(token, torch.tensor(self.tokens, device=token.device))
        return Ended(self, self.model.append(state.state, token), state.finished | ends, state.position + 1)

    def select(self, state: "Ended", index: Tensor) -> "Ended":
        """Return the state whose row i is row index[i] of this one."""
        return Ended(self, self.model.select(state.state, index), state.finished[index], state.position)

    def resume(self, state: "Ended | None", tokens: Tensor, kept: int) -> "Ended":
        """Return the state after tokens, [n, t]; arguments as in `models.resumed`."""
        inner = resumed(self.model, None if state is None else state.state, tokens, kept)
        ends = torch.isin(tokens, torch.tensor(self.tokens, device=tokens.device))
        return Ended(self, inner, ends.any(1), tokens.shape[1])


@dataclass(frozen=True)
class Ended:
    """n prefixes; `finished`, [n], marks those that have ended."""

    ending: Ending
    state: Any
    finished: Tensor
    position: int

    @property
    def log_probs(self) -> Tensor:
        """Log-probs of the next token, [n, V]; after the end, of the padding token with probability 1."""
        return self._open[0]

    @property
    def log_normalizer(self) -> Tensor:
        """Log Z_t, [n]; 0 after the end; plus the log-probability of an ending token where the cap forces one."""
        return self._open[1]

    @property
    def laws(self) -> tuple[Tensor, ...]:
        """Log-probs of every branch, with the same ends."""
        return tuple(normalize(law).log_probs if self.forces else law for law in self.weighted_laws)

    @property
    def weighted_laws(self) -> tuple[Tensor, ...]:
        """Log-probs of every branch with the same ends; where the cap forces an ending token they are not normalised again."""
        return tuple(map(self.closed, self.state.laws))

    def closed(self, logits: Tensor) -> Tensor:
        """Return logits [n, V], unnormalised, with the cap applied, and with padding of probability 1 after the end."""
        if self.forces:
            logits = logits.masked_fill(~one_of(self.ending.tokens, logits), -torch.inf)
        if self.finished.any():
            padding = torch.full_like(logits[0], -torch.inf)
            padding[self.ending.tokens[0]] = 0.0
            logits = torch.where(self.finished[:, None], padding, logits)
        return logits

    @property
    def forces(self) -> bool:
        """Whether the next token must be an ending token."""
        return self.ending.cap == "force" and self.position == self.ending.length - 1

    @cached_property
    def _open(self) -> tuple[Tensor, Tensor]:
        law: Tensor = self.state.log_probs
        log_normalizer = getattr(self.state, "log_normalizer", None)
        return self._closed(law, torch.zeros_like(law[:, 0]) if log_normalizer is None else log_normalizer)

    def _closed(self, law: Tensor, log_normalizer: Tensor) -> tuple[Tensor, Tensor]:
        """Return a law and its log normalizer, with padding after the end and the cap applied."""
        law = self.closed(law)
        if self.forces:
            law, log_ends = normalize(law)
            log_normalizer = log_normalizer + log_ends
        return law, log_normalizer.masked_fill(self.finished, 0.0)


def lengths(tokens: Tensor, ends: tuple[int, ...]) -> Tensor:
    """Return the lengths of sequences [n, T], [n], each with its ending token; T without an ending token."""
    ended = torch.isin(tokens, torch.tensor(ends, dtype=tokens.dtype, device=tokens.device))
    return torch.where(ended.any(1), ended.int().argmax(1) + 1, tokens.shape[1])


def padded(tokens: Tensor, length: int, ends: tuple[int, ...]) -> Tensor:
    """Replace everything after the end of sequences [n, t] by padding; return [n, length].

    Args:
        tokens: sequences, [n, t ≤ length].
        length: of the result.
        ends: the ending tokens; the first pads.
    """
    pad = ends[0] if ends else 0
    after = torch.arange(length, device=tokens.device) >= lengths(tokens, ends)[:, None]
    return functional.pad(tokens, (0, length - tokens.shape[1])).masked_fill(after, pad)


def ending_tokens(model: Autoregressive) -> tuple[int, ...]:
    """Return the ending tokens of a model; none without an `Ending`."""
    return model.tokens if isinstance(model, Ending) else ()


def check_length(model: Autoregressive, length: int) -> None:
    """Raise ValueError unless the length equals the model's cap, if it has one."""
    if isinstance(model, Ending) and length != model.length:
        raise ValueError(f"length must equal the cap {model.length}, got {length}")
