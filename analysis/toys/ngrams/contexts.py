r"""Contexts: the states of an n-gram automaton, with the counts of the tokens that follow them.

The contexts of a text are the last k tokens before each of its tokens, k = 0 … n − 1, where one token for the beginning
precedes the text. A state is the longest suffix of what was read that is a context. So back-off is no arc of the automaton:
every text has exactly one path, and

    next(h, v) = (h, v) if it is a context and has fewer than n tokens, else next(parent(h), v),

with parent(h), the context h without its oldest token.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Counts(NamedTuple):
    """The number of times that a token follows a context under a label, in four arrays with one entry per such combination."""

    context: np.ndarray
    token: np.ndarray
    label: np.ndarray
    times: np.ndarray


class Contexts(NamedTuple):
    """S contexts of V tokens, sorted by their number of tokens; the last token, V − 1, ends a text.

    Attributes:
        parent: the context without its oldest token, [S]; 0, the empty context, is its own parent.
        last: its last token, [S]; that of the beginning and of the empty context is the ending token.
        following: the context after a token, [S, V]; 0 after the ending token.
        start: the context of the first token.
        levels: contexts of k tokens are levels[k] … levels[k + 1] − 1.
        counts: of the tokens that follow.
    """

    parent: np.ndarray
    last: np.ndarray
    following: np.ndarray
    start: int
    levels: tuple[int, ...]
    counts: Counts


def find(texts: Sequence[np.ndarray], labels: np.ndarray, order: int, size: int) -> Contexts:
    """Return the contexts of labelled texts.

    Args:
        texts: codes of each text, integers from 0 to V − 2.
        labels: the index of each text's label, [n].
        order: n; contexts have at most n − 1 tokens, or one for n = 1, so that a context determines the previous token.
        size: V.
    """
    order = max(order, 2)
    lengths = np.array([len(text) for text in texts]) + 1
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    token = np.full(lengths.sum(), size - 1)
    place = np.arange(len(token)) - starts
    token[place < np.repeat(lengths - 1, lengths)] = np.concatenate([np.empty(0, int), *texts])
    ids, parent, last, levels = _numbered(token, place, order, size)
    following = _following(ids, token, parent, levels, size)
    every, at = [column[column >= 0] for column in ids], [np.flatnonzero(column >= 0) for column in ids]
    pairs = np.concatenate(every) * size + token[np.concatenate(at)]
    label = np.repeat(labels, lengths)[np.concatenate(at)]
    keys, count = np.unique(pairs * (labels.max() + 1) + label, return_counts=True)
    pairs, label = np.divmod(keys, labels.max() + 1)
    counts = Counts(*np.divmod(pairs, size), label, count)
    return Contexts(parent, last, following, int(ids[1][0]), levels, counts)


def _numbered(
    token: np.ndarray, place: np.ndarray, order: int, size: int
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, tuple[int, ...]]:
    """Return, per level, the context before every token (−1 for none); then the parents, the last tokens, and the levels.

    A context of k tokens is its parent and its oldest token. The token before a text is the ending token of the text before
    it, of the last text for the first one, and stands for the beginning.
    """
    ids, parents, lasts, levels = [np.zeros(len(token), int)], [np.zeros(1, int)], [np.array([size - 1])], [0, 1]
    for k in range(1, order):
        has = np.flatnonzero(place >= k - 1)
        keys, first, inverse = np.unique(ids[-1][has] * size + token[has - k], return_index=True, return_inverse=True)
        parents.append(keys // size)
        lasts.append(token[has[first] - 1])
        ids.append(np.full(len(token), -1))
        ids[-1][has] = inverse + levels[-1]
        levels.append(levels[-1] + len(keys))
    return ids, np.concatenate(parents), np.concatenate(lasts), tuple(levels)


def _following(ids: list[np.ndarray], token: np.ndarray, parent: np.ndarray, levels: Sequence[int], size: int) -> np.ndarray:
    following = np.zeros((levels[-1], size), np.int32)
    for k in range(len(ids)):
        rows = slice(levels[k], levels[k + 1])
        following[rows] = following[parent[rows]]
        if k + 1 < len(ids):
            has = np.flatnonzero((ids[k] >= 0) & (token < size - 1))
            following[ids[k][has], token[has]] = ids[k + 1][has + 1]
    return following
