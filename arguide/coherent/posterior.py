r"""The posterior of a mixture's components along texts that are read in passes, several tokens at a time.

    ρ_k(x_≤t) ∝ ρ_k(x_<t) p_k(x_t | x_<t),    ρ_k = π_k before the first token

A pass may read drafts, whose rejected tokens are removed again; beams and particles reorder the rows. Two tokens leave ρ as it
is: one that no component can produce, and one after the end of its text.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from arguide.coherent.mixture import of_token


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
        states = [(self.log_posterior[:, -1], self.ended[:, -1])]
        for position, token in enumerate(tokens.unbind(1), 0 if begins else -1):
            before = laws if position >= 0 else self.laws
            states.append(self._after(*states[-1], of_token([law[:, position] for law in before], token), token))
        columns = zip(*states[not begins :], strict=True)
        self.log_posterior, self.ended = (torch.stack(column, 1) for column in columns)
        self.laws = laws
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
        self.log_posterior = self.log_prior.to(like).expand(len(like), 1, -1)
        self.ended = torch.zeros(len(like), 1, dtype=torch.bool, device=like.device)
        self.ends = self.ends.to(like.device)

    def _after(self, log_posterior: Tensor, ended: Tensor, gained: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """Return log ρ after one more token by Bayes' rule, [n, K], and whether the text has ended, [n].

        Args:
            log_posterior: log ρ before it, [n, K].
            ended: whether the text has ended before it, [n].
            gained: log p_k of the token, [n, K].
            token: [n].
        """
        after = (log_posterior + gained).log_softmax(-1)  # NaN if no component can produce the token
        stays = after.isnan()
        if len(self.ends):
            stays = stays | ended[:, None]
            ended = ended | (token[:, None] == self.ends).any(-1)
        return torch.where(stays, log_posterior, after), ended
