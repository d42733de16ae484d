"""Coverage of the intervals of the chapter on text, on laws whose differences are known."""

import math

import pytest
import torch

import arguide
from analysis import Table
from analysis.experiments import text
from analysis.experiments.base import stream
from analysis.frames import tidy
from analysis.metrics import comparison, text_statistics
from analysis.metrics.confidence import Estimate

RUNS, LEAST = 120, 105  # repetitions, and the number of intervals that must cover the truth: 3.7 standard deviations below 95 %


class Toy:
    """A prompt whose laws are those of a table; the tables of three prompts are similar, as in one model."""

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(7)
        logits = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
        logits = logits + 0.05 * torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.table = Table(logits.flatten().softmax(0).view_as(logits))
        self.log_cond, self.ratio = self.table.log_probs(1), self.table.log_probs(1) - self.table.log_probs()

    def law(self, scale):
        return arguide.LogLinear.guidance(self.table.autoregressive(1), self.table.autoregressive(), scale)

    def texts(self, tokens):
        return [" ".join(map(str, row)) for row in tokens.tolist()]

    def truth(self, scale, family):
        law = self.table.joint_guided(1, scale) if family == "joint" else self.table.sequential_guided(1, scale)
        return float((law.probabilities * self.ratio).sum())


CASES = {f"prompt {seed}": Toy(seed) for seed in range(3)}
BOTH = text.Effort(24, 2, (1.0,), (1.0,), ())


def sequential(case, scale, n, length, generator):
    drawn = [arguide.sample(case.law(scale), n, length, generator=generator).tokens for _ in range(text_statistics.GROUPS)]
    return [text_statistics.Group(tokens, torch.full((n,), 1 / n, dtype=torch.float64), 0.0) for tokens in drawn]


def joint(case, scale, n, length, generator):
    runs = [arguide.sample_joint(case.law(scale), n, length, generator=generator) for _ in range(text_statistics.GROUPS)]
    groups = [text_statistics.Group(run.tokens, run.log_weights.exp(), float(run.log_evidence)) for run in runs]
    return groups, arguide.diagnose(runs)


def measures(case, groups, texts, generator):
    """Measure texts that are tokens of a table as `text_statistics.measures` does."""
    evidence = [group.log_evidence for group in groups]
    for name, values in (("adherence", case.ratio), (comparison.PERPLEXITY, -case.log_cond / 2)):
        means = [float(group.weights @ values[group.tokens[:, 0], group.tokens[:, 1]]) for group in groups]
        mean, error = arguide.over_runs(means, evidence)
        yield (name, mean, error) if name == "adherence" else (name, math.exp(mean), math.exp(mean) * error)


@pytest.fixture
def toys(monkeypatch):
    for function in (sequential, joint, measures):
        monkeypatch.setattr(text_statistics, function.__name__, function)


def held(family, scale):
    """Return the number of runs in which the pooled interval of adherence covers the truth."""
    truth = sum(case.truth(scale, family) for case in CASES.values()) / len(CASES)
    effort = text.Effort(24, 2, **{"joint": (), "sequential": (), "gap": ()} | {family: (scale,)})
    inside = 0
    for seed in range(RUNS):
        frame = tidy(text.measured(CASES, effort, seed, list))
        points = [comparison.points(frame, name, family)[0] for name in CASES]
        low, high = comparison.pooled([point.adherence for point in points]).interval
        inside += low <= truth <= high
    return inside


@pytest.mark.slow
def test_the_pooled_interval_holds_the_truth(toys):
    assert held("sequential", 2.0) >= LEAST


@pytest.mark.slow
def test_shared_seeds_make_the_pooled_interval_too_narrow(toys, monkeypatch):
    """The negative control: correlated errors make the pooled interval √3 times too narrow."""
    monkeypatch.setattr(text, "stream", lambda seed, number: stream(seed, 0))
    assert held("sequential", 2.0) < LEAST


@pytest.mark.slow
def test_at_scale_1_the_difference_of_the_two_laws_holds_0(toys):
    """The two laws are equal at γ = 1. On average 38 of 40 intervals cover 0; 33 is 3.6 standard deviations below."""
    inside = 0
    for seed in range(40):
        frame = tidy(text.measured(CASES, BOTH, seed, list))
        gap = comparison.pooled([comparison.compared(frame, name, 1.0).adherence for name in CASES])
        inside += gap.interval[0] <= 0 <= gap.interval[1]
    assert inside >= 33


def test_no_two_jobs_share_their_random_numbers(toys, monkeypatch):
    used = []
    monkeypatch.setattr(
        text_statistics, "measures", lambda case, groups, texts, generator: used.append(generator.initial_seed()) or []
    )
    for seed in (0, 1):
        list(text.measured(CASES, BOTH, seed, list))
    assert len(set(used)) == len(used) == 2 * 3 * 2
    assert stream(3, 1).initial_seed() == stream(3, 1).initial_seed()


def noisy(scale, adherence, loss, error, generator, correlation):
    """Return a point whose errors of adherence and of log perplexity are fully correlated."""
    noise = torch.randn((), generator=generator, dtype=torch.float64).item()
    at = Estimate(adherence + error * noise, error, 1e9)
    return comparison.Point(scale, at, Estimate(loss + 0.02 * correlation * noise, 0.02, 1e9))


@pytest.mark.parametrize("correlation", [1, -1])
def test_intervals_at_equal_adherence_include_its_errors(correlation):
    """A straight curve L = 2 − 0.1 a, and a joint law 0.3 above it."""
    generator, inside, narrow = torch.Generator().manual_seed(1), 0, 0
    for _ in range(300):
        curve = [noisy(scale, 2 * scale, 2 - 0.2 * scale, 0.4, generator, correlation) for scale in (1.0, 2.0, 3.0, 4.0)]
        point = noisy(2.0, 5.0, 1.8, 0.4, generator, correlation)
        _, found = comparison.at_adherence(point, curve)
        inside += abs(found.value - 0.3) <= found.half
        plain = [each._replace(adherence=each.adherence._replace(std_error=0.0)) for each in (point, *curve)]
        narrow += abs(found.value - 0.3) <= comparison.at_adherence(plain[0], plain[1:])[1].half
    assert inside >= 270
    assert narrow < 270 or correlation == -1  # the control; errors that cancel are covered as well


def test_a_disordered_curve_is_sorted_by_adherence():
    points = [(1.0, 1.0, 2.0), (1.5, 3.0, 1.0), (2.0, 2.0, 1.5), (3.0, 5.0, 0.5)]
    curve = [comparison.Point(scale, Estimate(a, 0.0, 3), Estimate(loss, 0.0, 3)) for scale, a, loss in points]
    joint = comparison.Point(1.5, Estimate(2.5, 0.0, 3), Estimate(1.25, 0.0, 3))
    own, found = comparison.at_adherence(joint, curve)
    assert own == pytest.approx(1.75)
    assert found.value == pytest.approx(0.0)
    assert comparison.at_adherence(joint._replace(adherence=Estimate(4.0, 0.0, 3)), curve)[0] == pytest.approx(2.25)
    beyond = joint._replace(adherence=Estimate(6.0, 0.0, 3))
    assert comparison.at_adherence(beyond, curve)[1] is None


@pytest.mark.parametrize("freedoms", [(3.0, 9.0), (9.0, 3.0)])
def test_an_error_that_is_the_sum_of_two_has_the_smaller_freedom(freedoms):
    adherence, loss = (Estimate(1.0, 0.1, freedom) for freedom in freedoms)
    assert comparison.Point(2.0, adherence, loss).along(-0.5) == Estimate(1.0, pytest.approx(0.15), 3.0)


def test_runs_agree_or_not_at_every_scale():
    rows = [
        {"law": "a", "family": family, "scale": scale, "quantity": quantity, "value": value, "std_error": 0.1, "freedom": 3.0}
        for family in ("joint", "sequential")
        for scale in (1.0, 2.0)
        for quantity, value in (("adherence", scale), (comparison.PERPLEXITY, 3.0), ("consistent", float(scale == 1.0)))
    ]
    assert [comparison.compared(tidy(rows), "a", scale).consistent for scale in (1.0, 2.0)] == [True, False]
