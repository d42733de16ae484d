r"""Draws at lower temperatures from any autoregressive law, measured in independent groups, and compared at equal likelihood.

Texts of `laws.TRANSFORMS` are independent draws. The joint law p^β is sampled by weighted particles or by ladders. With
particles its means are over all particles of a group, with the weights Ẑ w, and every text that is read or counted is from a
population of its own, because particles that share ancestors would understate its diversity. A group of ladders has LADDERS of
them, each with SIZE / LADDERS texts at equal distances over its sweeps; log-likelihoods are means over all sweeps.

    entropy        −E[log q] of a transformed law; log Ẑ − β E[log p] of the joint law
    equal likelihood: a setting of one family is compared with the mixture of two neighbouring settings of another family whose
    mean log-likelihood is the same. With s the slope of a figure of merit m between the two, u their shares and L = log p,
    difference = E[m − sL] − u E_1[m − sL] − (1 − u) E_2[m − sL], whose error includes that of the likelihoods.

Sources: Li et al., "A diversity-promoting objective function for neural conversation models", arXiv:1510.03055, for distinct
n-grams; Welleck et al., "Neural text generation with unlikelihood training", arXiv:1908.04319, for repeated ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import arguide
from analysis.metrics.confidence import Estimate, combined, mean_of
from analysis.metrics.temperature.laws import (
    BIGRAMS,
    DISTINCT,
    ENTROPY,
    JOINT,
    LENGTH,
    LIKELIHOOD,
    REPEATED,
    SEQUENTIAL,
    SIZE,
    TRANSFORMS,
)
from arguide.repeats import PROBES, probing
from arguide.smc.populations import one_each
from arguide.stopping import ending_tokens, lengths, padded
from arguide.transforms import identity

LADDERS = 4  # of a group
CHEAP = 4  # groups of a transformed law per group of the joint law
SAMPLERS = ("particles", "ladder")
MERITS = (ENTROPY, DISTINCT, BIGRAMS, REPEATED, LENGTH)
Power = Callable[[float], Any]  # β ↦ an autoregressive law whose sequential law has the temperature 1/β, its joint law p^β


@dataclass(frozen=True)
class Plan:
    """Numbers of draws.

    Attributes:
        groups: independent groups of the joint law, each of `laws.SIZE` texts.
        particles: particles of the population of every text.
        sampler: "particles" or "ladder", of the joint law.
        sweeps: of a ladder, after a burn-in of half their number.

    Raises:
        ValueError: fewer than two groups or particles, fewer sweeps than texts, or another sampler.
    """

    groups: int = 8
    particles: int = 32
    sampler: str = "particles"
    sweeps: int = 200

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {self.sampler!r}")
        if self.sweeps < SIZE:
            raise ValueError(f"sweeps must be at least {SIZE}, got {self.sweeps}; try 200")
        for name in ("groups", "particles"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, got {getattr(self, name)}; try 8 or more")


class Point(NamedTuple):
    """One setting of one family, measured.

    family, setting: of the law.
    groups: every figure of merit, [G] each, one value per group.
    tokens: the texts of all groups, [G · SIZE, T].
    diagnosis: of the particles or ladders; None for a transformed law.
    """

    family: str
    setting: float
    groups: dict[str, Tensor]
    tokens: Tensor
    diagnosis: arguide.Diagnosis | arguide.Ladder | None = None

    def estimate(self, quantity: str) -> Estimate:
        """Return the mean of a figure of merit over the groups."""
        return mean_of(self.groups[quantity])

    @property
    def converged(self) -> bool:
        """True if no comparison of the diagnosis exceeds its limit."""
        return self.diagnosis is None or self.diagnosis.consistent


def measure(power: Power, family: str, setting: float, length: int, plan: Plan, generator: torch.Generator) -> Point:
    """Draw texts of one setting of one family, and measure them.

    Args:
        power: β ↦ law, see `Power`.
        family: JOINT or a key of `TRANSFORMS`.
        setting: β, k or p.
        length: T.
        plan: numbers of draws.
        generator: source of randomness.
    """
    if family == JOINT:
        draw = _by_ladders if plan.sampler == "ladder" and setting != 1 else _by_particles
        return draw(power(setting), setting, length, plan, generator)
    cold = family == SEQUENTIAL
    law = power(setting if cold else 1.0)
    transform = identity if cold else TRANSFORMS[family](setting)
    drawn = arguide.sample(law, CHEAP * plan.groups * SIZE, length, generator=generator, transform=transform)
    log_p = drawn.log_target.double().sum(1) / (setting if cold else 1.0)
    ends = ending_tokens(law)
    tokens = padded(drawn.tokens, length, ends)
    per_text = {
        LIKELIHOOD: log_p,
        ENTROPY: -drawn.log_proposal.double().sum(1),
        LENGTH: lengths(tokens, ends).double(),
        REPEATED: repeated(tokens, ends),
    }
    groups = {name: values.cpu().reshape(-1, SIZE).mean(1) for name, values in per_text.items()}
    return Point(family, setting, groups | counted(tokens, ends), tokens.cpu())


def _by_particles(law: Any, beta: float, length: int, plan: Plan, generator: torch.Generator) -> Point:
    """Draw from p^β by weighted particles: SIZE populations per group, and as many particles per probe as per group."""
    ends, rows, texts, pools = ending_tokens(law), [], [], []
    for _ in range(plan.groups):
        runs = arguide.sample_joints(law, SIZE, plan.particles, length, twist=arguide.particles.ahead, generator=generator)
        texts.append(padded(one_each(runs, generator), length, ends))
        pools.append(arguide.pooled(runs))
        rows.append(_means(pools[-1], beta, length, ends))
    size = SIZE * plan.particles
    probes = [
        arguide.sample_joint(law, size, length, generator=generator, **probing(length, i)._asdict()) for i in range(PROBES)
    ]
    groups = {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]}
    tokens = torch.cat(texts)
    return Point(JOINT, beta, groups | counted(tokens, ends), tokens.cpu(), arguide.diagnose(pools, probes=probes))


def _by_ladders(law: Any, beta: float, length: int, plan: Plan, generator: torch.Generator) -> Point:
    """Draw from p^β by ladders, LADDERS per group."""
    ends, n, each = ending_tokens(law), LADDERS * plan.groups, SIZE // LADDERS
    sweeps, burn_in = plan.sweeps, plan.sweeps // 2
    found = arguide.sample_ladder(law, n, length, sweeps=sweeps, burn_in=burn_in, texts=each, generator=generator)
    tokens = found.tokens.view(each, plan.groups, LADDERS, length).transpose(0, 1).reshape(-1, length)
    log_p = found.ratios[:, -1].double().mean(0) / (beta - 1)  # of each ladder: r = (β − 1) log p
    entropy = found.log_evidences.double() - beta * log_p
    groups = {LIKELIHOOD: log_p.view(-1, LADDERS).mean(1), ENTROPY: entropy.view(-1, LADDERS).mean(1)}
    per_text = {LENGTH: lengths(tokens, ends).double(), REPEATED: repeated(tokens, ends)}
    groups |= {name: values.view(-1, SIZE).mean(1) for name, values in per_text.items()}
    groups = {name: values.cpu() for name, values in groups.items()}
    return Point(JOINT, beta, groups | counted(tokens, ends), tokens.cpu(), found)


def _means(pool: arguide.JointSample, beta: float, length: int, ends: tuple[int, ...]) -> dict[str, float]:
    """Return the weighted means of one group of particles."""
    tokens = padded(pool.tokens, length, ends)
    log_p = pool.log_target.double().sum(1) / beta
    per_text = {LIKELIHOOD: log_p, LENGTH: lengths(tokens, ends).double(), REPEATED: repeated(tokens, ends)}
    weights = pool.log_weights.double().exp()
    means = {name: float((weights * values.masked_fill(weights == 0, 0.0)).sum()) for name, values in per_text.items()}
    return means | {ENTROPY: float(pool.log_evidence) - beta * means[LIKELIHOOD]}


def _bigrams(tokens: Tensor, ends: tuple[int, ...]) -> list[list[tuple[int, int]]]:
    """Return the bigrams of every text, the ending token not included."""
    return [list(pairwise(takewhile(lambda token: token not in ends, row))) for row in tokens.tolist()]


def repeated(tokens: Tensor, ends: tuple[int, ...] = ()) -> Tensor:
    """Return the share of bigrams that a text has written before, [n, T] ↦ [n]; 0 for a text without a bigram.

    Args:
        tokens: texts, padded after their end.
        ends: the ending tokens.
    """
    shares = [1 - len(set(row)) / len(row) if row else 0.0 for row in _bigrams(tokens, ends)]
    return torch.tensor(shares, dtype=torch.float64, device=tokens.device)


def counted(tokens: Tensor, ends: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """Return the shares of distinct texts and of distinct bigrams per group of SIZE texts, [G] each."""
    texts, pairs = tokens.tolist(), _bigrams(tokens, ends)
    groups = [slice(start, start + SIZE) for start in range(0, len(texts), SIZE)]
    distinct = [len(set(map(tuple, texts[group]))) / SIZE for group in groups]
    flat = [[pair for row in pairs[group] for pair in row] for group in groups]
    bigrams = [len(set(row)) / len(row) if row else 1.0 for row in flat]
    return {name: torch.tensor(each, dtype=torch.float64) for name, each in ((DISTINCT, distinct), (BIGRAMS, bigrams))}


class Matched(NamedTuple):
    """A setting of one family beside the settings of another at equal mean log-likelihood.

    setting: of the other family, between its two neighbours in the shares of their mixture.
    gaps: every figure of merit, the first family's minus the other's.
    """

    setting: float
    gaps: dict[str, Estimate]


def at_likelihood(point: Point, curve: Sequence[Point], quantities: Sequence[str] = MERITS) -> Matched | None:
    """Return a point minus the mixture of two neighbours on a curve with the same mean log-likelihood; None outside the curve.

    Args:
        point: of one family.
        curve: points of another family, independent of the point.
        quantities: figures of merit to compare.
    """
    aim = float(point.groups[LIKELIHOOD].mean())
    ordered = sorted(curve, key=lambda each: float(each.groups[LIKELIHOOD].mean()))
    values = [float(each.groups[LIKELIHOOD].mean()) for each in ordered]
    if len(ordered) < 2 or not values[0] <= aim <= values[-1]:
        return None
    i = min(max(int(np.searchsorted(values, aim)), 1), len(values) - 1)
    low, high, width = ordered[i - 1], ordered[i], values[i] - values[i - 1]
    share = (aim - values[i - 1]) / width if width > 0 else 0.0
    gaps = {}
    for name in quantities:
        rise = float(high.groups[name].mean() - low.groups[name].mean())
        slope = rise / width if width > 0 else 0.0
        parts = [mean_of(each.groups[name] - slope * each.groups[LIKELIHOOD]) for each in (point, low, high)]
        gaps[name] = combined((1.0, share - 1.0, -share), parts)
    return Matched((1 - share) * low.setting + share * high.setting, gaps)
