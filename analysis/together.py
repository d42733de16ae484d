r"""Samples of all labels in one batch, and of all runs of particles of all labels: the same laws, drawn many times as fast.

A row keeps its label, since particles are resampled within their own population only, see `arguide.populations`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

import arguide
from analysis.causal import Causal
from arguide import populations, sampling
from arguide.text.prompts import Prompt


class Pixels(NamedTuple):
    """Prefixes of images, and the infos of their last pixel, for `arguide.particles.ahead`."""

    state: sampling.State
    info: Any = None


def law(single: Any, learner: Causal, labels: Tensor) -> Any:
    """Return the law of a row of every label, [n], made of the law of one label; of models whose sequences do not end."""
    return replace(single, prompt=Prompt.of(learner.controls[labels][:, None]))


def joint(law: Any, count: int, rows: int, length: int, transform: Any, generator: torch.Generator) -> list[populations.Run]:
    """Return `count` populations of the joint law, of rows/count sequences each, as `arguide.sample_joint` draws one."""
    draw = sampling.categorical(generator)

    def move(path: Pixels, last: bool) -> tuple[Pixels, Tensor]:
        state, info = sampling.step(law, path.state, draw, transform, last=last)
        return Pixels(state, info), info.log_target - info.log_proposal

    def select(path: Pixels, index: Tensor) -> Pixels:
        return Pixels(sampling.State(law.select(path.state.model, index), path.state.tokens[index]))

    first = sampling.init(law, rows)
    moves = (partial(move, last=t == length - 1) for t in range(length))
    start = populations.populate(Pixels(first), count, first.model.log_normalizer)
    steps = populations.drive(start, moves, select, twist=arguide.particles.ahead, generator=generator)
    return populations.runs(steps, lambda path: path.state.tokens)


def by_label(runs: Sequence[Any], each: int) -> Iterator[Sequence[Any]]:
    """Yield the runs of every label, `each` a label."""
    return (runs[start : start + each] for start in range(0, len(runs), each))
