r"""Repeat a sample of the joint law and diagnose it: runs, probes with wider proposals, and chains from their texts.

A token that the sequential law hardly ever draws may lead to texts of great weight. A probe therefore draws a share of its
tokens evenly, which its weights correct: one token per text or a tenth of all tokens. It resamples with the normalizer of the
next token, and some probes resample only after blocks of two to four tokens, so that such a token survives until its weight is
known.
"""

from functools import partial
from typing import Any

import torch

from arguide.metropolis import sample_metropolis
from arguide.models import Autoregressive
from arguide.particles import JointSample, ahead, pooled, sample_joint
from arguide.smc.diagnostics import Diagnosis, diagnose
from arguide.transforms import Transform, compose, defensive, identity

BLOCKS = (1, 1, 2, 2, 3, 4)  # tokens between two decisions of a probe to resample
PROBES = len(BLOCKS)
SHARE, MOST = 0.1, 0.5  # of even draws: that of half of the probes, and the largest of the others


def probing(length: int, number: int, transform: Transform = identity) -> dict[str, Any]:
    """Return the options of `sample_joint` for the probe of that number, 0, 1, …: its transform, its twist and its block."""
    share = SHARE if number % 2 else min(MOST, 1 / max(length, 1))
    return {"transform": compose(transform, defensive(share)), "twist": ahead, "block": BLOCKS[number % PROBES]}


def repeat_joint(
    model: Autoregressive,
    n: int,
    length: int,
    *,
    repeats: int = 4,
    chains: int = 32,
    steps: int = 8,
    probes: int = PROBES,
    generator: torch.Generator | None = None,
    transform: Transform = identity,
    **options: Any,
) -> tuple[list[JointSample], Diagnosis]:
    """Draw from the joint law several times and compare: `repeats` runs of `sample_joint`, probes, and chains from their texts.

    Chains that start at particles of the joint law leave that law as it is.

    Args:
        model, n, length, transform, options: as in `sample_joint`.
        chains: number of chains, n at most.
        steps: of every chain.
        probes: number of runs with wider proposals, see `probing`; their particles serve the diagnosis alone.

    Raises:
        ValueError: fewer than two runs; and as `sample_joint`.
    """
    sample = partial(sample_joint, model, n, length, generator=generator)
    runs = [sample(transform=transform, **options) for _ in range(repeats)]
    wider = [sample(**(probing(length, number, transform) | options)) for number in range(probes)]
    first = pooled([*runs, *wider]).draw(min(chains, n), generator)
    kept = sample_metropolis(model, len(first), length, steps, first=first, transform=transform, generator=generator)
    return runs, diagnose(runs, kept, wider)
