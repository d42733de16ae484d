r"""Words under labels that share their letters: a table of all words, two fits of its mixture, and two numbers of a word.

p(x|y) is a chain of order 1 over the letters and token 0, which ends a word. The mixture of the labels is no chain. A model of
order 1 learns the chain of the pooled transition counts.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.toys.chain import MarkovChain
from analysis.toys.table import Table


@dataclass(frozen=True)
class Words:
    """Words of up to T letters.

    Attributes:
        table: p(y, x), [K, V, …, V].
        chains: p(x|y), and as p(x) the chain of order 1 that is fitted to their mixture.
    """

    table: Table
    chains: MarkovChain

    @property
    def codes(self) -> Tensor:
        """All sequences of tokens, [V^T, T]."""
        return _codes(self.table.shape)

    def pooled(self) -> Tensor:
        """Return log p(x) of the chain of order 1 that is fitted to the mixture, [V, …, V]."""
        return self.chains.log_law().log_prob(self.codes).reshape(self.table.shape)

    def blurred(self, size: float, generator: torch.Generator) -> Tensor:
        """Return log p(x) of the mixture with noise on the log-probability of every token after every prefix, [V, …, V].

        Args:
            size: ε, the standard deviation of the noise.
            generator: of the noise.
        """
        log_p = torch.zeros((), dtype=torch.float64)
        for law in self.table.log_conditionals():
            noise = torch.randn(law.shape, generator=generator, dtype=torch.float64)
            reached = (law > -math.inf).any(-1, keepdim=True)
            log_p = log_p[..., None] + torch.where(reached, (law + size * noise).log_softmax(-1), -math.inf)
        return log_p

    def letters(self) -> Tensor:
        """Return the number of letters of every word, [V, …, V]."""
        return (self.codes > 0).sum(1).reshape(self.table.shape).double()

    def repeats(self) -> Tensor:
        """Return how many of a word's steps from letter to letter repeat an earlier one, [V, …, V]."""
        before, after = self.codes[:, :-1], self.codes[:, 1:]
        steps = torch.where((before > 0) & (after > 0), before * self.table.shape[0] + after, -1)
        repeated = [(steps[:, t : t + 1] == steps[:, :t]).any(1) & (steps[:, t] >= 0) for t in range(steps.shape[1])]
        return torch.stack(repeated).sum(0).reshape(self.table.shape).double()


def words(length: int = 7, labels: int = 4, letters: int = 4, seed: int = 5) -> Words:
    """Return words under K equally likely labels.

    Args:
        length: T, 2 at least; longer words are cut.
        labels: K.
        letters: V − 1.
        seed: seed of the chains' logits.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = 1.2 * torch.randn((labels, letters + 1, letters + 1), generator=generator, dtype=torch.float64)
    logits[:, 0, 1:] = -math.inf  # nothing follows the end
    first = 0.6 * torch.randn((labels, letters + 1), generator=generator, dtype=torch.float64)
    first[:, 0] = -math.inf
    chains, shape = MarkovChain(first.softmax(-1), logits.softmax(-1), length), (letters + 1,) * length
    rows = [chains.log_law(label).log_prob(_codes(shape)).reshape(shape) for label in range(labels)]
    return Words(Table.from_log(torch.stack(rows)), chains)


def _codes(shape: tuple[int, ...]) -> Tensor:
    return torch.cartesian_prod(*map(torch.arange, shape)).reshape(-1, len(shape))
