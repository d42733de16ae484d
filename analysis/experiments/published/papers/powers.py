"""Sources on p^α of language models: Karan and Du (2025), Ji et al. (2026) and Power-SMC (2026), on small tables."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

import arguide
from analysis.experiments.base import stream
from analysis.experiments.published.claims import Claim, arxiv
from analysis.metrics.confidence import mean_of
from analysis.toys import Table
from analysis.toys.example_tables import coupled_table
from arguide.sampling import State
from arguide.schedules import Schedule, ramp
from arguide.smc.driver import Twist
from arguide.transforms import temperature

WHERE = "example 1, α = 2"
PRINTED = {"aa": 0.00, "ab": 0.40, "ba": 0.25, "bb": 0.25}
REPAIRS = "If the missing 0.10 belongs to ab or to aa, low temperature is indifferent; if to ba or bb, p^α prefers b as well."
TOKENS = ("PLAN", "GUESS", "CALC", "ANSWER4", "ANSWER5", "EOS")
PATHS = {  # p(x), and π(x) ∝ p(x)^4 as it is in print; ≈ 0 as a bound
    ("PLAN", "CALC", "ANSWER4", "EOS"): (0.38, "0.55"),
    ("PLAN", "CALC", "ANSWER5", "EOS"): (0.02, "< 0.005"),
    ("GUESS", "ANSWER4", "EOS", "EOS"): (0.33, "0.31"),
    ("GUESS", "ANSWER5", "EOS", "EOS"): (0.27, "0.14"),
}
FIRST = {"PLAN": "0.165", "GUESS": "0.835"}
ALPHA = 4.0
RUNS, PARTICLES = 2000, 100


def karan_and_du(_seed: int) -> Iterator[Claim]:
    """Yield the odds of the first letter under both laws, and the sum of the printed probabilities."""
    total = sum(PRINTED.values())
    note = f"The four printed probabilities sum to {total:.2f}; the odds below do not depend on their scale. {REPAIRS}"
    yield Claim(WHERE, "sum of the four probabilities", "1.00", total, total + 0.1, "0.10 more for one of them", note=note)
    table = Table(torch.tensor([[[PRINTED["aa"], PRINTED["ab"]], [PRINTED["ba"], PRINTED["bb"]]]], dtype=torch.float64) / total)
    joint, sequential = (law({None: 2.0})[0].exp().sum(1) for law in (table.log_joint, table.log_sequential))
    power, tempered = (float(law[0] / law[1]) for law in (joint, sequential))
    note = "Both laws of the normalised table, summed over the second letter."
    yield Claim(
        WHERE, "odds of a : b under p^α, from 0.160 : 0.125", 0.160 / 0.125, power, tempered, "low temperature", note=note
    )
    yield Claim(WHERE, "odds of a : b at low temperature, from 0.160 : 0.250", 0.160 / 0.250, tempered, power, "p^α", note=note)


def ji(_seed: int) -> Iterator[Claim]:
    """Yield the toy of section 4.1, and theorem 3.1 on every prefix of another table."""
    codes = {path: tuple(map(TOKENS.index, path)) for path in PATHS}
    joint = torch.zeros(1, *(len(TOKENS),) * 4, dtype=torch.float64)
    for path, (probability, _) in PATHS.items():
        joint[(0, *codes[path])] = probability
    table = Table(joint)
    power, tempered = (law({None: ALPHA})[0].exp() for law in (table.log_joint, table.log_sequential))
    where, note = "section 4.1, PLAN or GUESS, α = 4", "Both laws of the table of four sequences."
    for token, text in FIRST.items():
        low, right = (float(law[TOKENS.index(token)].sum()) for law in (tempered, power))
        yield Claim(where, f"{token} first, at temperature ¼", text, low, right, "p^α", note=note)
    for path, (probability, text) in PATHS.items():
        claim = f"{' '.join(path[:3])}, under p^α"
        yield Claim(where, claim, text, float(power[codes[path]]), probability, "α = 1", note=note)
    other = coupled_table(4)
    note = "The largest difference over all prefixes and tokens, T = 4, to the conditionals of the joint law p^α / Z."
    yield Claim(
        "theorem 3.1, p(x_t|·)^α ζ_t(x_t) up to a constant",
        "largest difference to the conditionals of p^α",
        0.0,
        _largest_difference(other, ahead=True),
        _largest_difference(other, ahead=False),
        "ζ = 1",
        note=note,
    )


def _largest_difference(table: Table, *, ahead: bool) -> float:
    """Return the largest difference of p(x_t|·)^α ζ_t, normalised, to p^α's conditionals; without looking ahead ζ_t = 1."""
    exact = Table.from_log(table.log_joint({None: ALPHA})[0][None]).log_conditionals()
    laws, log_zeta, gaps = table.log_conditionals(), torch.zeros(table.shape, dtype=torch.float64), []
    for law, right in zip(laws[::-1], exact[::-1], strict=True):
        weights = ALPHA * law + log_zeta
        gaps.append(float((weights.log_softmax(-1).exp() - right.exp()).abs().max()))
        log_zeta = weights.logsumexp(-1) if ahead else torch.zeros_like(weights[..., 0])
    return max(gaps)


def power_smc(seed: int) -> Iterator[Claim]:
    """Yield the variance of the first token's weights by proposal, and the mean Ẑ of particles under a ramped exponent."""
    table = coupled_table(4)
    target = arguide.LogLinear.temperature(table.autoregressive(), 1 / ALPHA)
    variances = {}
    for factor in (1.0, ALPHA):  # the temperature 1/α of the proposal is multiplied by it
        transform = temperature(factor)
        drawn = arguide.sample_joint(target, 5000, 1, transform=transform, threshold=0, generator=stream(seed, 60))
        weights = drawn.log_weights.softmax(0) * len(drawn.x)
        variances[factor] = float(weights.var())
    yield Claim(
        "corollary 1: temperature 1/α minimises the variance of incremental weights",
        "variance of the first token’s weights, in units of their mean squared, α = 4",
        0.0,
        variances[1.0],
        variances[ALPHA],
        "temperature 1",
        note="5,000 draws of `arguide.sample_joint`.",
    )
    exponent = ramp(1.0, ALPHA, table.length)
    exact = float(table.log_joint({None: ALPHA})[1])
    sample = partial(arguide.sample_joints, count=RUNS, n=PARTICLES, length=table.length, threshold=1.0)
    bridged = sample(target, twist=_bridge(table, exponent), generator=stream(seed, 61))
    ramped = arguide.LogLinear((table.autoregressive(),), lambda position: (exponent(position),))
    wrong = sample(ramped, generator=stream(seed, 62))
    ours, control = (mean_of([float((run.log_evidence - exact).exp()) for run in runs]) for runs in (bridged, wrong))
    yield Claim(
        "section 5.3, exact bridging of a ramped exponent",
        "mean of Ẑ/Z of p^α, exponent from 1 to 4 over the tokens",
        1.0,
        ours.value,
        control.value,
        "a ramp without reweighting",
        std_error=ours.std_error,
        freedom=ours.freedom,
        note=f"{RUNS} runs of {PARTICLES} particles, resampled at every token by p(x_≤t)^α_t; Z by summation.",
    )


def _bridge(table: Table, exponent: Schedule) -> Twist:
    """Return the look-ahead that makes p(x_≤t)^α_t the target of prefixes in place of p(x_≤t)^α."""
    logs: list[Tensor] = [torch.zeros((), dtype=torch.float64)]
    for law in table.log_conditionals():
        logs.append(logs[-1][..., None] + law)

    def twist(state: State) -> Tensor:
        t = state.x.shape[1]
        log_p = logs[t][tuple(state.x.unbind(1))] if t else logs[0].expand(len(state.x))
        return (exponent(t) - ALPHA) * log_p

    return twist


KARAN_AND_DU = arxiv(
    "2510.14901", "Karan and Du, Reasoning with sampling: your base model is smarter than you think (2025)", karan_and_du
)
JI = arxiv("2601.21590", "Ji et al., Scalable power sampling (2026)", ji)
POWER_SMC = arxiv("2602.10273", "Azizi et al., Power-SMC (2026)", power_smc, "its abstract, its code and readers’ notes")
SOURCES = (KARAN_AND_DU, JI, POWER_SMC)
