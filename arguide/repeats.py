r"""Repeat a sample of the joint law of tokens and diagnose it: runs, probes with wider proposals, and chains.

A token that the sequential law almost never draws may lead to sequences of large weight. A probe therefore draws a share of its
tokens uniformly, which its weights correct: one token per sequence, or a tenth of all tokens. It resamples with the normalizer
of the next token. Some probes resample only after blocks of two to four tokens, so that such a token survives until its weight
is known.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch

from arguide import sampling
from arguide.metropolis import sample_metropolis
from arguide.models import Autoregressive
from arguide.particles import ahead, sample_joint
from arguide.sampling import Propose
from arguide.smc.diagnostics import Diagnosis
from arguide.smc.driver import Twist
from arguide.smc.repeats import repeat
from arguide.smc.resampling import Resample, systematic
from arguide.smc.samples import Chains, JointSample, pooled
from arguide.transforms import Transform, compose, defensive, identity

BLOCKS = (1, 1, 2, 2, 3, 4)  # tokens between two decisions of a probe to resample
PROBES = len(BLOCKS)
SHARE, MOST = 0.1, 0.5  # of uniform draws: that of half of the probes, and the largest of the others


class Probing(NamedTuple):
    """Options of `sample_joint` for a probe."""

    transform: Transform
    twist: Twist
    block: int


def probing(length: int, number: int, transform: Transform = identity) -> Probing:
    """Return the options of a probe of sequences of `length` tokens.

    Args:
        length: T.
        number: of the probe, 0, 1, …; it selects the share of uniform draws and the block.
        transform: of the runs; the probe applies it first.
    """
    share = SHARE if number % 2 else min(MOST, 1 / max(length, 1))
    return Probing(compose(transform, defensive(share)), ahead, BLOCKS[number % PROBES])


def repeat_joint(
    model: Autoregressive,
    n: int,
    length: int,
    *,
    repeats: int = 4,
    probes: int = PROBES,
    chains: int = 32,
    steps: int = 8,
    generator: torch.Generator | None = None,
    transform: Transform = identity,
    propose: Propose = sampling.sequential,
    resample: Resample = systematic,
    threshold: float = 0.5,
    block: int | None = None,
    twist: Twist | None = None,
) -> tuple[list[JointSample], Diagnosis]:
    """Draw from the joint law several times and compare: `repeats` runs of `sample_joint`, probes, and chains from their texts.

    Chains that start at particles of the joint law keep that law.

    Args:
        model: as in `sample_joints`, as are n, length, generator, transform, propose, resample and threshold.
        n: N.
        length: T.
        repeats: number of runs, 2 at least.
        probes: number of runs with wider proposals, see `probing`; their particles serve the diagnosis alone.
        chains: number of chains, n at most.
        steps: number of steps per chain.
        generator: of all randomness.
        transform: of the proposal.
        propose: the proposal before the transform.
        resample: the scheme of resampling.
        threshold: of the ESS.
        block: of runs and probes; by default 1 in runs and 1 to 4 in probes.
        twist: of runs and probes; by default none in runs and `ahead` in probes.

    Raises:
        ValueError: fewer than two runs; and as `sample_joints`.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> law = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 3.0)
        >>> runs, diagnosis = arguide.repeat_joint(law, 256, 2)
        >>> arguide.pooled(runs).draw(8).shape
        torch.Size([8, 2])
        >>> diagnosis.consistent
        True
    """
    sample = partial(
        sample_joint, model, n, length, generator=generator, propose=propose, resample=resample, threshold=threshold
    )

    def probe(number: int) -> JointSample:
        options = probing(length, number, transform)
        return sample(transform=options.transform, twist=twist or options.twist, block=block or options.block)

    def chained(drawn: Sequence[JointSample]) -> Chains:
        first = pooled(drawn).draw(min(chains, n), generator)
        return sample_metropolis(model, len(first), length, steps, first=first, transform=transform, generator=generator)

    run = partial(sample, transform=transform, twist=twist, block=block or 1)
    return repeat(run, [partial(probe, number) for number in range(probes)], repeats, chains=chained)
