"""The post on tables whose laws are exact: guidance and temperature of the factors against those of the joint law."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from analysis.experiments.base import stream
from analysis.experiments.published.claims import Claim
from analysis.metrics import distances
from analysis.metrics.confidence import mean_of
from analysis.toys import MarkovChain, Table, guidance
from analysis.toys.example_tables import INDEPENDENT, coupled_table, independent_table, special_tables
from arguide import Mixture, sample, sample_accepted

LENGTH, LABEL, SCALE, BETA = 4, 1, 3.0, 2.0
LONG, LENGTHS, MOVES, DRAWS = 64, (4, 16, 64, 256), 0.56, 4000
FREE = "independent x_t"


def claims(seed: int) -> Iterator[Claim]:
    """Yield the claims on factors and joint law, on temperature, and on fidelity and diversity."""
    coupled, free = coupled_table(LENGTH), special_tables(LENGTH)[INDEPENDENT]
    yield from _guidance(coupled, free)
    yield from _tractable(seed)
    yield from _temperature(coupled, independent_table(LENGTH))
    yield from _trade_off(coupled)


def log_factor(table: Table, scale: float) -> Tensor:
    """Return log s_γ of the post, log p(y|x)^γ / E_p(x)[p(y|x)^γ], [V_1, …, V_T]."""
    gains = scale * table.log_class_probability()[LABEL]
    return gains - (table.log_probs() + gains).flatten().logsumexp(0)


def log_sequential_factor(table: Table, scale: float) -> Tensor:
    """Return log s'_γ of the post, Σ_t log p(y|x_≤t)^γ / E_p(x_t|x_<t)[p(y|x_≤t)^γ], [V_1, …, V_T]."""
    total = torch.zeros((), dtype=torch.float64)
    for t, law in enumerate(table.log_conditionals()):
        both = table.log_joint_with_label.reshape(len(table.labels), *table.shape[: t + 1], -1).logsumexp(-1)
        gains = scale * (both[LABEL] - both.logsumexp(0))
        total = total[..., None] + gains - (law + gains).logsumexp(-1, keepdim=True)
    return total


def _guidance(coupled: Table, free: Table) -> Iterator[Claim]:
    """Yield how far guided factors are from the guided joint law, in nats and as factors on p(x)."""
    weights = guidance(LABEL, SCALE)

    def gap(table: Table) -> Tensor:
        return table.log_sequential(weights)[0] - table.log_joint(weights)[0]

    def divergence(table: Table) -> float:
        return float(distances.kl(table.log_sequential(weights)[0], table.log_joint(weights)[0]))

    def spread(log_ratio: Tensor) -> float:
        return float(log_ratio.max() - log_ratio.min())

    def slope(log_law: Tensor) -> float:
        gains, rise = coupled.log_class_probability()[LABEL].flatten(), (log_law - coupled.log_probs()).flatten()
        gains = gains - gains.mean()
        return float(gains @ rise / (gains @ gains))

    note = f"Both laws of a table of three-valued tokens, T = {LENGTH}, multiplied out."
    where = "“not equivalent to applying it to the joint distribution”"
    yield Claim(
        where, f"KL(factors ‖ joint) at γ = {SCALE:g}", "> 0.01", divergence(coupled), divergence(free), FREE, note=note
    )
    where = "s′_γ “is clearly not equivalent to” s_γ"
    yield Claim(where, "spread of log(s′_γ/s_γ) over x", "> 0.1", spread(gap(coupled)), spread(gap(free)), FREE, note=note)
    formula = spread(log_sequential_factor(coupled, SCALE) - log_factor(coupled, SCALE))
    note = (
        "The post’s two formulas, of p(y|x_≤t), against the ratio of the laws that weights (1 − γ, γ) on p(x) and p(x|y) give."
    )
    yield Claim(
        "definitions of s_γ and s′_γ",
        "spread of log(s′_γ/s_γ) over x, by the formulas",
        formula,
        spread(gap(coupled)),
        spread(gap(free)),
        FREE,
        note=note,
    )
    joint, sequential = (law(weights)[0] for law in (coupled.log_joint, coupled.log_sequential))
    note = "Slope of log p_γ(x|y)/p(x) against log p(y|x) over all x, by least squares."
    yield Claim(
        "“γ is an inverse temperature parameter”",
        f"power of p(y|x) at γ = {SCALE:g}",
        SCALE,
        slope(joint),
        slope(sequential),
        "guided factors",
        note=note,
    )


def _tractable(seed: int) -> Iterator[Claim]:
    """Yield how far draws by acceptance are from the joint law of a coherent pair, whose cost does not grow with T."""
    stay, move = ([[other, one], [one, other]] for one, other in ((1 - MOVES, MOVES), (MOVES, 1 - MOVES)))
    chain = MarkovChain([[0.5, 0.5]] * 2, [stay, move], LONG)
    mixture = Mixture((chain.autoregressive(0), chain.autoregressive(1)), [math.log(0.5)] * 2)
    drawn = sample_accepted(mixture, LABEL, SCALE, DRAWS, LONG, generator=stream(seed, 10)).x
    plain = sample(mixture.guidance(LABEL, SCALE), DRAWS, LONG, generator=stream(seed, 11)).x
    law = log_tilt(LONG).softmax(0)
    exact = float(law @ torch.arange(LONG, dtype=torch.float64))
    found, other = (mean_of((x[:, 1:] != x[:, :-1]).sum(1)) for x in (drawn, plain))
    shares = ", ".join(f"{float(log_tilt(length).logsumexp(0).exp()):.2f}" for length in LENGTHS)
    yield Claim(
        "“As of today, diffusion models are the only model class for which this approach is tractable”",
        f"|mean number of moves of autoregressive draws − that of the joint law|, two labels of Markov chains, T = {LONG}",
        "> 0.5",
        abs(found.value - exact),
        abs(other.value - exact),
        "guided factors",
        std_error=found.std_error,
        note=f"{DRAWS:,} draws each; exact {exact:.2f}. p(x) is the mixture of both labels’ laws, so draws of p(x|y) that are "
        f"accepted with probability p(y|x)^(γ−1) are exact. The share that is accepted is {shares} at T = "
        f"{', '.join(map(str, LENGTHS))}. For a p(x) that was learned on its own there is no such bound, and weights of "
        "sequences degenerate with T.",
    )


def log_tilt(length: int) -> Tensor:
    """Return log p(k|y) + (γ − 1) log p(y|k) for k = 0 … T − 1 moves of a chain, [T]; exponentials sum to A.

    A step moves with probability `MOVES` under label 1 and stays with it under label 0, so p(y|x) = p(y|k).
    """
    moves = torch.arange(length, dtype=torch.float64)
    stays = moves.flip(0)
    ways = math.lgamma(length) - (moves + 1).lgamma() - (stays + 1).lgamma()
    log_posterior = functional.logsigmoid((moves - stays) * math.log(MOVES / (1 - MOVES)))
    return ways + moves * math.log(MOVES) + stays * math.log(1 - MOVES) + (SCALE - 1) * log_posterior


def _temperature(coupled: Table, free: Table) -> Iterator[Claim]:
    """Yield the exercise: temperature of the factors against that of the joint law."""

    def divergence(table: Table) -> float:
        return float(distances.kl(table.log_sequential({None: BETA})[0], table.log_joint({None: BETA})[0]))

    at, tied = f"KL(factors ‖ joint) of p^β at β = {BETA:g}", divergence(coupled)
    where = "temperature of the conditionals is “not the same” as of the joint"
    yield Claim(where, at, "> 0.01", tied, divergence(free), FREE, note="The exercise left to the reader, on tables.")
    where = "“equivalent when all x_t are independent”"
    yield Claim(where, at, 0.0, divergence(free), tied, "dependent x_t")


def _trade_off(table: Table) -> Iterator[Claim]:
    """Yield how class probability and entropy of the guided laws change from γ = 1 to γ = 3, means over the labels."""
    log_classes = table.log_class_probability()

    def fidelity(scale: float) -> float:
        laws = [table.log_joint(guidance(label, scale))[0] for label in range(len(table.labels))]
        return float(
            sum(distances.expectation(law, each.exp()) for law, each in zip(laws, log_classes, strict=True)) / len(laws)
        )

    def diversity(scale: float) -> float:
        laws = [table.log_joint(guidance(label, scale))[0] for label in range(len(table.labels))]
        return float(sum(distances.entropy(law) for law in laws) / len(laws))

    where, note = "“dramatically improves adherence”, “at great cost to diversity”", "Joint laws of the same table."
    rise, fall = (of(SCALE) - of(1.0) for of in (fidelity, diversity))
    low_rise, low_fall = (of(0.0) - of(1.0) for of in (fidelity, diversity))
    yield Claim(where, "class probability, γ = 3 − γ = 1", "> 0.05", rise, low_rise, "γ = 0 − γ = 1", note=note)
    yield Claim(where, "entropy in nats, γ = 3 − γ = 1", "< -0.1", fall, low_fall, "γ = 0 − γ = 1", note=note)
