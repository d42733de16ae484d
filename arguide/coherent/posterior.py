r"""The posterior of a mixture's components along texts that are read in passes, several tokens at a time.

    ρ_k(x_≤t) ∝ ρ_k(x_<t) p_k(x_t | x_<t),    ρ_k = π_k before the first token

A pass may read drafts, whose rejected tokens are removed again; beams and particles reorder the rows. Two tokens leave ρ as it
is: one that no component can produce, and one after the end of its text.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class Posterior:
    """Log ρ of n texts at the t positions of the last pass.

    Attributes:
        log_prior: log π, [K].
        ends: the tokens that end a text.
        log_posterior: log ρ of the text up to each position, [n, t, K]; empty before the first pass.
        ended: whether the text has ended there, [n, t].
        laws: log p_k of the token after each position, K tensors [n, t, V].
    """

    def __init__(self, log_prior: Tensor, ends: Sequence[int] = ()) -> None:
        self.log_prior, self.ends = log_prior, torch.tensor(tuple(ends), dtype=torch.long)
        self.log_posterior, self.ended = torch.empty(0), torch.empty(0)
        self.laws: Sequence[Tensor] = ()

    def advance(self, laws: Sequence[Tensor], tokens: Tensor) -> Tensor:
        """Follow one pass; return log ρ of the text up to each of its positions, [n, t, K].

        Args:
            laws: log p_k of the token after each position, K tensors [n, t, V].
            tokens: the tokens that were read, [n, t]; in the first pass those after the prompts, [n, t − 1].
        """
        begins = not self.laws
        if begins:
            self._begin(laws[0])
        states, over = [self.log_posterior[:, -1]], [self.ended[:, -1]]
        gains = [] if begins else [_gains(self.laws, tokens[:, :1], -1)]
        if tokens.shape[1] > len(gains):
            gains.append(_gains(laws, tokens[:, len(gains) :], 0))
        for gained, token in zip(torch.cat(gains, 1).unbind(1) if gains else (), tokens.unbind(1), strict=True):
            states.append(_followed(states[-1], gained, over[-1] if len(self.ends) else None))
            over.append(over[-1] | (token[:, None] == self.ends).any(-1) if len(self.ends) else over[-1])
        kept = slice(None if begins else 1, None)
        self.log_posterior, self.ended, self.laws = torch.stack(states[kept], 1), torch.stack(over[kept], 1), laws
        return self.log_posterior

    def select(self, rows: Tensor) -> None:
        """Replace the state of row i by that of row rows[i], [n]."""
        self.log_posterior, self.ended = self.log_posterior[rows], self.ended[rows]
        self.laws = [law[rows] for law in self.laws]

    def crop(self, tokens: int) -> None:
        """Remove the last tokens, fewer than the last pass has read."""
        if tokens:
            self.log_posterior, self.ended = self.log_posterior[:, :-tokens], self.ended[:, :-tokens]
            self.laws = [law[:, :-tokens] for law in self.laws]

    def _begin(self, like: Tensor) -> None:
        """Start n empty texts at one position, given a law [n, t, V]."""
        n = len(like)
        self.log_posterior = self.log_prior.to(like).expand(n, 1, -1)
        self.ended = torch.zeros(n, 1, dtype=torch.bool, device=like.device)
        self.ends = self.ends.to(like.device)


def _gains(laws: Sequence[Tensor], tokens: Tensor, first: int) -> Tensor:
    """Return log p_k of tokens [n, t] under the laws from position `first` on, [n, t, K]."""
    end = None if first < 0 else tokens.shape[1]
    return torch.stack([law[:, first:end].gather(-1, tokens[..., None]) for law in laws], -1).squeeze(2)


def _followed(log_posterior: Tensor, gained: Tensor, ended: Tensor | None) -> Tensor:
    """Return log ρ after one more token by Bayes' rule, [n, K].

    Args:
        log_posterior: log ρ before it, [n, K].
        gained: log p_k of the token, [n, K].
        ended: whether the text has ended before it, [n].
    """
    joint = log_posterior + gained
    stays = (joint == -torch.inf).all(-1, keepdim=True)
    if ended is not None:
        stays = stays | ended[:, None]
    return torch.where(stays, log_posterior, joint.log_softmax(-1))
