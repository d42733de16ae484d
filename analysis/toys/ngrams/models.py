r"""`NgramModels`: n-gram models of labelled texts with back-off, one per label and one of all texts, over shared contexts.

Interpolated back-off of Witten and Bell: with c(h, v) the number of times that v follows the context h, and d(h) the number of
different tokens that follow it,

    p(v | h) = (c(h, v) + d(h) p(v | h′)) / (Σ_v c(h, v) + d(h)),    h′ = h without its oldest token,

and 1/V below the empty context. A label has its own counts. All models use the contexts of all texts, so that one state serves
all of them, and any log-linear combination of their laws is an automaton again: its joint law over whole texts is exact.

p(x) is the model of all texts. It is not the mixture Σ_y p(y) p(x|y), which has no finite state: see `arguide.Mixture`.

Source: Witten and Bell, "The zero-frequency problem" (1991), https://doi.org/10.1109/18.87000, method C.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from analysis import limits
from analysis.toys import checks
from analysis.toys.autoregressive import NgramModel
from analysis.toys.law import PRECISE, Guided, Label, Weights, log_combine
from analysis.toys.ngrams import contexts
from analysis.toys.ngrams.texts import TextLaw

COPIES = 5  # arrays [S, V] that a guided law needs at the same time


class NgramModels(Guided[TextLaw, tuple[TextLaw, Tensor]]):
    """Models p(x | y) and p(x) of texts of at most T tokens, the ending token included.

    Args:
        texts: the codes of each text, integers from 0 to V − 2; V − 1 is the ending token.
        labels: the index of each text's label, integers from 0 to K − 1.
        order: n: the next token depends on the n − 1 tokens before it.
        length: T; one more than the longest text by default.
        alphabet: V − 1 tokens as strings; their number gives V.
        names: K names of labels.
        join: tokens of a text ↦ its string.

    Raises:
        ValueError: no text, codes or labels that do not fit, an order below 1, or more memory than the machine has.

    Example:
        >>> models = analysis.NgramModels([[0, 1, 0], [1, 1], [0, 0]], [0, 1, 0], order=2, alphabet=("a", "b"))
        >>> models.joint_guided(0, 2.0).log_normalizer
        tensor(0.0868, dtype=torch.float64)
    """

    def __init__(
        self,
        texts: Sequence[Sequence[int]],
        labels: Sequence[int],
        order: int,
        *,
        alphabet: Sequence[str],
        length: int | None = None,
        names: Sequence[str] | None = None,
        join: Callable[[list[str]], str] = "".join,
    ) -> None:
        rows, index = [np.asarray(text, dtype=int) for text in texts], np.asarray(labels, dtype=int)
        checks.require(len(rows) and len(rows) == len(index), "labels", "one index per text, and one text at least", len(index))
        self.labels = checks.names(names, int(index.max()) + 1 if names is None else len(names))
        known = index.min() >= 0 and index.max() < len(self.labels)
        checks.require(known, "labels", f"indices from 0 to {len(self.labels) - 1}", [int(index.min()), int(index.max())])
        every, size = np.concatenate(rows), len(alphabet) + 1
        fits = not len(every) or (every.min() >= 0 and every.max() < size - 1)
        checks.require(
            fits, "texts", f"codes from 0 to {size - 2}", sorted({int(every.min()), int(every.max())}) if len(every) else 0
        )
        self.order, self.alphabet, self.join = checks.integer("order", order), tuple(alphabet), join
        self.length = checks.integer("length", max(map(len, rows)) + 1 if length is None else length)
        self.contexts = contexts.find(rows, index, self.order, size)
        numbers = self.states * (COPIES * size + 5 * self.length)
        limits.check_memory(f"order {order} and length {self.length}, with {self.states:,} contexts,", numbers, 8)
        self.prior = torch.from_numpy(np.bincount(index, minlength=len(self.labels)) / len(index))
        self._laws: dict[int | None, Tensor] = {}

    @property
    def states(self) -> int:
        """S, the number of contexts."""
        return len(self.contexts.parent)

    @property
    def size(self) -> int:
        """V."""
        return len(self.alphabet) + 1

    def log_probs(self, label: Label = None) -> Tensor:
        """Return log p(v | s, label) of every context, of all texts for None, [S, V]."""
        index = self.index(label)
        if index not in self._laws:
            self._laws[index] = torch.from_numpy(np.log(self._estimated(index)))
        return self._laws[index]

    def log_joint(self, weights: Weights) -> TextLaw:
        """Return the joint law Π_k p(x|y_k)^{w_k} / Z over whole texts, with its log Z.

        Raises:
            ValueError: weights too large for float64.
        """
        return TextLaw(self.contexts, self._combined(weights), self.length)

    def log_sequential(self, weights: Weights) -> tuple[TextLaw, Tensor]:
        """Return the sequential law of whole texts, and its log normalizers log Z_t(s), [S], the same at every t.

        Its own log normalizer is the log of the probability that a text ends within T tokens.

        Raises:
            ValueError: weights too large for float64.
        """
        combined = self._combined(weights)
        log_z = combined.logsumexp(1)
        return TextLaw(self.contexts, combined - log_z[:, None], self.length), log_z

    def autoregressive(self, label: Label = None) -> NgramModel:
        """Return p(x | label) as an autoregressive model over V tokens; after the ending token only that token follows.

        `arguide.Ending(model, (V − 1,), T, cap="force")` has the law of whole texts.
        """
        return NgramModel(self.log_probs(label), torch.from_numpy(self.contexts.following), self.contexts.start)

    def encode(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """Return the codes of texts, [n, T], filled with the ending token.

        Raises:
            ValueError: a token outside the alphabet, or a text of T tokens or more.
        """
        code = {token: i for i, token in enumerate(self.alphabet)}
        rows = torch.full((len(texts), self.length), self.size - 1)
        for row, text in zip(rows, texts, strict=True):
            unknown = next((token for token in text if token not in code), None)
            checks.require(unknown is None, "texts", "of tokens of the alphabet", unknown)
            checks.require(len(text) < self.length, "texts", f"shorter than {self.length} tokens", len(text))
            row[: len(text)] = torch.tensor([code[token] for token in text])
        return rows

    def decode(self, texts: Tensor) -> list[str]:
        """Return the strings of texts, [n, T], without what follows their end."""
        end = self.size - 1
        return [self.join([self.alphabet[code] for code in row if code != end]) for row in texts.tolist()]

    def _combined(self, weights: Weights) -> Tensor:
        """Return Σ_k w_k log p_k, [S, V]."""
        checks.weights(weights)
        laws, values = [self.log_probs(label) for label in weights], list(weights.values())
        terms = sum(abs(value) * law.abs().amax() for law, value in zip(laws, values, strict=True))
        if not float(terms) * self.length * torch.finfo(torch.float64).eps <= PRECISE:
            raise ValueError(
                f"weights up to {max(map(abs, values)):.3g} must leave six digits of a text's probability; try a smaller "
                "scale, or a temperature nearer to 1"
            )
        return log_combine(laws, values)

    def _estimated(self, index: int | None) -> np.ndarray:
        """Return p(v | s), [S, V], level by level."""
        found, levels = self.contexts.counts, self.contexts.levels
        of = slice(None) if index is None else found.label == index
        counts = np.zeros((self.states, self.size))
        np.add.at(counts, (found.context[of], found.token[of]), found.times[of])
        total, kinds = counts.sum(1, keepdims=True), (counts > 0).sum(1, keepdims=True)
        above = np.full((1, self.size), 1 / self.size)
        for k in range(len(levels) - 1):
            rows = slice(levels[k], levels[k + 1])
            if k:
                above = counts[self.contexts.parent[rows]]
            mass = total[rows] + kinds[rows] if k < self.order else np.zeros_like(total[rows])
            mixed = (counts[rows] + kinds[rows] * above) / np.where(mass > 0, mass, 1)
            counts[rows] = np.where(mass > 0, mixed, above)
        return counts


def codes_of(texts: Sequence[Sequence[str]], least: int, rare: str) -> tuple[list[list[int]], tuple[str, ...]]:
    """Return the codes of texts, and the alphabet: tokens seen `least` times at least, and one for the rest if there is any.

    Args:
        texts: sequences of tokens.
        least: the number of times that a token must be seen.
        rare: the token that stands for the others.
    """
    seen = Counter(chain.from_iterable(texts))
    kept = sorted(token for token, count in seen.items() if count >= least)
    alphabet = (*kept, rare) if len(kept) < len(seen) else tuple(kept)
    code = {token: i for i, token in enumerate(alphabet)}
    return [[code.get(token, len(alphabet) - 1) for token in text] for text in texts], alphabet
