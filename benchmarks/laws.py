"""Random laws with an exact log Z, easy ones and hard ones, to measure how often a verdict about their particles is false.

A law is drawn from its number: kind, scale γ, vocabulary V and length T first, then the two models. The kinds:

    chain      rows of both models are softmax of Gaussian logits; the unconditional chain pools two to four labels
    pair       both models perturb one chain, each by itself: no joint law has both, as with learned models
    learned    both models count tokens of a few sequences of sharp chains, with smoothing from 1e-3 to 1
    excluded   a pair of which some tokens are less probable by 10² to 10⁸ in one model or in both
    rare       a chain with words of 1e-2 to 1e-8 in both models, after which the models differ by many nats; up to two further
               words may come between
    table      a random joint table of up to 30,000 sequences
"""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from analysis import MarkovChain, Table
from arguide import LogLinear

KINDS = ("chain", "pair", "learned", "excluded", "rare", "table")
SCALES = (1.25, 1.5, 2.0, 3.0, 5.0)
PARTICLES = (64, 96, 128, 256)
CELLS = 30_000
Rng = np.random.Generator


class Law(NamedTuple):
    """A guided law.

    model: what `arguide.sample_joint` draws from.
    length: T.
    particles: N that a verdict is asked with.
    log_z: exact.
    kind, scale, size: how it was drawn; size is V.
    """

    model: LogLinear
    length: int
    particles: int
    log_z: float
    kind: str
    scale: float
    size: int


def law(number: int) -> Law:
    """Return the law of a number; the kinds take turns."""
    kind, rng = KINDS[number % len(KINDS)], np.random.default_rng(number)
    scale, particles = float(rng.choice(SCALES)), int(rng.choice(PARTICLES))
    size, length = int(rng.integers(3, 31)), int(rng.integers(3, 21))
    if kind == "table":
        length = int(rng.integers(3, int(math.log(CELLS) / math.log(size)) + 1)) if size**3 <= CELLS else 3
    toy = _table(rng, size, length) if kind == "table" else _MAKERS[kind](rng, size, length)
    model = LogLinear.guidance(toy.autoregressive(0), toy.autoregressive(), scale)
    log_z = float(toy.joint_guided(0, scale).log_normalizer)
    return Law(model, length, particles, log_z, kind, scale, size)


def _rows(logits: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(logits).log_softmax(-1).exp()


def _toy(cond: Tensor, uncond: Tensor, length: int) -> MarkovChain:
    """Return chains of [V + 1, V] rows, the first of which is the law of the first token."""
    return MarkovChain(cond[None, 0], cond[None, 1:], length, unconditional=(uncond[0], uncond[1:]))


def _chain(rng: Rng, size: int, length: int) -> MarkovChain:
    labels, sharp = int(rng.integers(2, 5)), rng.uniform(0.5, 3)
    rows = _rows(sharp * rng.standard_normal((labels, size + 1, size)))
    return MarkovChain(rows[:, 0], rows[:, 1:], length)


def _logits(rng: Rng, size: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    base = rng.uniform(0.5, 3) * rng.standard_normal((size + 1, size))
    apart = rng.uniform(0.1, 1.2)
    cond, uncond = base + apart * rng.standard_normal((2, size + 1, size))
    return cond, uncond


def _pair(rng: Rng, size: int, length: int) -> MarkovChain:
    cond, uncond = map(_rows, _logits(rng, size))
    return _toy(cond, uncond, length)


def _learned(rng: Rng, size: int, length: int) -> MarkovChain:
    labels, smoothing, texts = int(rng.integers(2, 5)), 10 ** rng.uniform(-3, 0), int(rng.integers(20, 300))
    counts = torch.zeros(labels, size + 1, size, dtype=torch.float64)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    sharp = rng.uniform(1, 3)
    for label in range(labels):
        rows = _rows(sharp * rng.standard_normal((size + 1, size)))
        drawn = MarkovChain(rows[None, 0], rows[None, 1:], length).log_law(0).sample(texts, generator)
        before = torch.cat([torch.zeros(texts, 1, dtype=torch.long), drawn[:, :-1] + 1], 1)
        ones = torch.ones(drawn.numel(), dtype=torch.float64)
        counts[label].index_put_((before.flatten(), drawn.flatten()), ones, accumulate=True)
    cond, uncond = ((each + smoothing) / (each + smoothing).sum(-1, keepdim=True) for each in (counts[0], counts.sum(0)))
    return _toy(cond, uncond, length)


def _excluded(rng: Rng, size: int, length: int) -> MarkovChain:
    cond, uncond = _logits(rng, size)
    share = rng.uniform(0.02, 0.3)
    for each in (cond, uncond):
        each -= math.log(10) * rng.uniform(2, 8) * (rng.random(each.shape) < share)
    return _toy(_rows(cond), _rows(uncond), length)


def _rare(rng: Rng, size: int, length: int) -> MarkovChain:
    cond, uncond = _logits(rng, size)
    between = int(rng.integers(0, min(3, size - 1)))
    words = list(rng.choice(size, between + 2, replace=False)) if between + 2 <= size else [0, 1]
    for each in (cond, uncond):
        each -= torch.from_numpy(each).logsumexp(-1, keepdim=True).numpy()
        each[:, words[0]] = -math.log(10) * rng.uniform(2, 8)
        for word, after in itertools.pairwise(words[:-1]):
            each[word + 1, after] = 5.0
    few = -math.log(10) * rng.uniform(1, 5)
    for each, value in ((cond, 0.0), (uncond, few)):
        row = each[words[-2] + 1]
        row[:] = math.log(-math.expm1(few) if value else math.exp(few)) - math.log(size - 1)
        row[words[-1]] = value if value else math.log(-math.expm1(few))
    return _toy(_rows(cond), _rows(uncond), length)


def _table(rng: Rng, size: int, length: int) -> Table:
    return Table.from_log(torch.from_numpy(rng.uniform(0.5, 3) * rng.standard_normal((2, *(size,) * length))))


_MAKERS = {"chain": _chain, "pair": _pair, "learned": _learned, "excluded": _excluded, "rare": _rare}
