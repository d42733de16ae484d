"""Sequences of variable length: exact laws by plain loops, against particles and chains replayed branch by branch."""

import math
from itertools import product

import numpy as np
import pytest
import torch

import arguide
from analysis import Table
from arguide import Ending, LogLinear, Sample, metropolis, particles, sample_joint, sample_metropolis, sampling, stopping

END, T = 0, 3
WEIGHTS = {None: -2.0, 0: 3.0}


def model(joint, cap):
    table = Table(joint)
    return Ending(LogLinear(tuple(table.autoregressive(y) for y in WEIGHTS), tuple(WEIGHTS.values())), (END,), T, cap)


def whole_law(joint, cap):
    """log-free law of complete sequences {tokens padded with END: unnormalised weight}, by plain loops."""
    laws = [((joint.sum(0) if y is None else joint[y] / joint[y].sum()), w) for y, w in WEIGHTS.items()]
    law = {}
    for x in product(*map(range, joint.shape[1:])):
        length = x.index(END) + 1 if END in x else T
        if cap == "force" and END not in x:
            continue
        if any(token != END for token in x[length:]):
            continue
        total = 1.0
        for p, w in laws:
            mass = p[x[:length]].sum()  # of all that go on from here
            total *= mass**w
        law[x] = total
    return law


def in_order(law, shape):
    array = np.zeros(shape)
    for x, value in law.items():
        array[x] = value
    return array


@pytest.fixture(scope="module", params=["truncate", "force"])
def cap(request):
    return request.param


@pytest.fixture(scope="module")
def table(make_joint):
    return make_joint(3, (2, 2, 2, 2))


def estimated(branches, seam, ending, n=2, **options):
    """E[Ẑ Σ_i W_i 1{x_i = x}] over every draw and every ancestor."""
    total = np.zeros((2,) * T)

    def run(choose):
        def resample(log_weights, _generator):
            weights = log_weights.softmax(0).tolist()
            return torch.tensor([choose(weights) for _ in weights])

        return sample_joint(ending, n, T, draw=seam(choose), resample=resample, **options)

    for probability, result in branches(run):
        width = result.tokens.shape[1]
        for x, log_w in zip(result.tokens.tolist(), (result.log_weights + result.log_evidence).tolist(), strict=True):
            total[tuple(x + [END] * (T - width))] += probability * math.exp(log_w)
    return total


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 0.0},
        {"threshold": 0.9999},
        {"threshold": 0.9999, "block": 2},
        {"threshold": 0.9999, "propose": sampling.branch(1)},
        {"threshold": 0.9999, "transform": arguide.temperature(1.4)},
    ],
    ids=["importance", "resampled", "blocks", "conditional", "flatter"],
)
def test_particles_of_variable_length_are_exactly_unbiased(table, cap, branches, seam, options):
    expected = in_order(whole_law(table, cap), (2,) * T)
    np.testing.assert_allclose(estimated(branches, seam, model(table, cap), **options), expected, rtol=0, atol=1e-9)


def test_the_two_caps_are_two_targets(table):
    truncated, forced = (in_order(whole_law(table, cap), (2,) * T) for cap in ("truncate", "force"))
    assert abs(truncated / truncated.sum() - forced / forced.sum()).max() > 0.05


def kernel(branches, seam, ending, **options):
    """One step's transition matrix over sequences, by replaying every draw, acceptance included; {x: {x′: probability}}."""
    starts = [x for x, w in whole_law_of(ending).items() if w > 0]
    rows = {}
    for x in starts:
        rows[x] = {}

        def run(choose, first=x):
            return sample_metropolis(ending, 1, T, 1, draw=seam(choose), first=torch.tensor([first]), **options)

        for probability, chains in branches(run):
            end = tuple(chains.tokens[0].tolist())
            rows[x][end] = rows[x].get(end, 0.0) + probability
    return starts, rows


def whole_law_of(ending):
    return ending.expected


def stationarity(table, cap, branches, seam, **options):
    """Return the largest error of π K = π, and the least probability to move anywhere."""
    ending = model(table, cap)
    object.__setattr__(ending, "expected", whole_law(table, cap))
    starts, rows = kernel(branches, seam, ending, **options)
    law = ending.expected
    z = sum(law.values())
    after = {x: sum(law[start] / z * rows[start].get(x, 0.0) for start in starts) for x in law}
    return max(abs(after[x] - law[x] / z) for x in law), min(sum(row.values()) for row in rows.values())


PROPOSALS = {
    "sequential": {},
    "conditional": {"propose": sampling.branch(1)},
    "flatter": {"transform": arguide.temperature(1.5)},
}


@pytest.mark.parametrize("name", PROPOSALS)
def test_metropolis_leaves_the_joint_law_as_it_is(table, cap, branches, seam, name):
    error, mass = stationarity(table, cap, branches, seam, **PROPOSALS[name])
    assert mass == pytest.approx(1)
    assert error < 1e-9


def test_without_the_ratio_of_cuts_metropolis_is_wrong(table, cap, branches, seam, monkeypatch):
    monkeypatch.setattr(metropolis, "_log_length", lambda sample, ends: torch.zeros(1, dtype=torch.float64))
    assert stationarity(table, cap, branches, seam)[0] > 1e-3


def test_without_the_weights_metropolis_is_wrong(table, cap, branches, seam, monkeypatch):
    monkeypatch.setattr(Sample, "log_weights", property(lambda sample: torch.zeros(1, dtype=torch.float64)))
    assert stationarity(table, cap, branches, seam)[0] > 1e-3


TWO = (2, 1)  # ending tokens; the first pads


@pytest.fixture(scope="module")
def two_ends(make_joint):
    """A model of two tokens at most, of which 1 and 2 end a sequence, and the weights of its sequences by plain loops."""
    joint = make_joint(3, (2, 3, 3))
    laws = [((joint.sum(0) if y is None else joint[y] / joint[y].sum()), w) for y, w in WEIGHTS.items()]
    table = Table(joint)
    model = LogLinear(tuple(table.autoregressive(y) for y in WEIGHTS), tuple(WEIGHTS.values()))
    law = {(0, v): math.prod(p[0, v] ** w for p, w in laws) for v in range(3)}
    return Ending(model, TWO, 2), law | {(v, 2): math.prod(p[v].sum() ** w for p, w in laws) for v in (1, 2)}


def test_any_of_several_tokens_ends_and_the_first_pads(two_ends, branches, seam):
    ending, law = two_ends
    found = {}
    for mass, result in branches(lambda choose: sample_joint(ending, 2, 2, draw=seam(choose), threshold=0.0)):
        for x, log_w in zip(result.tokens.tolist(), (result.log_weights + result.log_evidence).tolist(), strict=True):
            x = (*x, 2)[:2]
            found[x] = found.get(x, 0.0) + mass * math.exp(log_w)
    assert found == pytest.approx(law, abs=1e-9)


def test_chains_start_from_texts_that_end_sooner_with_any_of_the_tokens(two_ends, branches, seam):
    """π K = π where starts are as short as their runs were, or padded with the token that they end with."""
    ending, law = two_ends
    z, after = sum(law.values()), dict.fromkeys(law, 0.0)
    for start, weight in law.items():
        for first in {start[: start.index(2) + 1] if 2 in start else start, (1, 1) if start[0] == 1 else start}:
            rows = dict.fromkeys(law, 0.0)
            for mass, chains in branches(
                lambda choose, first=first: sample_metropolis(ending, 1, 2, 1, draw=seam(choose), first=torch.tensor([first]))
            ):
                rows[tuple(chains.tokens[0].tolist())] += mass
        for x, probability in rows.items():
            after[x] += weight / z * probability
    assert after == pytest.approx({x: weight / z for x, weight in law.items()}, abs=1e-9)


def test_runs_that_end_at_different_lengths_can_be_checked_by_chains(two_ends):
    """Chains start at pooled texts, which are as wide as the longest run."""
    ending, _ = two_ends
    short = sample_joint(ending, 4, 2, draw=lambda law: torch.tensor([1, 2, 1, 2]))
    long = sample_joint(ending, 4, 2, draw=lambda law: torch.where(law[:, 0] > -math.inf, 0, 2))
    first = particles.pooled([short, long]).tokens
    assert first.tolist() == [[1, 1], [2, 2], [1, 1], [2, 2], *[[0, 0]] * 4]
    chains = sample_metropolis(ending, 8, 2, 0, first=first)
    assert chains.tokens.tolist() == [[1, 2], [2, 2], [1, 2], [2, 2], *[[0, 0]] * 4]


def test_chains_tell_the_weight_they_stand_at_and_how_often_they_moved(table):
    ending = model(table, "truncate")
    chains = sample_metropolis(ending, 50, T, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(chains.log_weight[-1], chains.log_normalizer.sum(1))
    free = LogLinear(ending.model.models[:1], (1.0,))  # nothing to weigh, and one length: every proposal is taken
    assert sample_metropolis(free, 5, T, 7, generator=torch.Generator().manual_seed(0)).accepted.tolist() == [1.0] * 5


def test_chains_forget_where_they_started(table, cap):
    """20,000 chains after 40 steps: each of at most 8 cells within 6 standard errors, as no sequential sample is."""
    ending, law = model(table, cap), whole_law(table, cap)
    z, n = sum(law.values()), 20_000
    generator = torch.Generator().manual_seed(0)
    chains = sample_metropolis(ending, n, T, 40, generator=generator)
    drawn = sampling.rollout(ending, n, T, draw=sampling.categorical(generator))

    def worst(tokens):
        counts = np.zeros((2,) * T)
        np.add.at(counts, tuple(tokens.T.numpy()), 1)
        return max(abs(counts[x] / n - w / z) / math.sqrt(w / z * (1 - w / z) / n) for x, w in law.items())

    assert worst(chains.tokens) < 6 < worst(drawn.tokens)
    assert chains.log_weight.shape == (40, n)
    assert 0 < chains.accepted.mean() < 1


def test_what_comes_after_the_end_weighs_nothing(table):
    ending = model(table, "truncate")
    state = ending.append(ending.start(3), torch.tensor([END, 1, END]))
    assert state.finished.tolist() == [True, False, True]
    assert state.log_normalizer[[0, 2]].tolist() == [0.0, 0.0]
    assert state.log_probs[0].tolist() == [0.0, -math.inf]
    assert all(law[2].tolist() == [0.0, -math.inf] for law in state.laws)
    assert ending.select(state, torch.tensor([1, 1, 0])).finished.tolist() == [False, False, True]


def test_sampling_stops_when_every_row_has_ended(table):
    result = sample_joint(model(table, "truncate"), 4, T, draw=lambda law: torch.zeros(len(law), dtype=torch.long))
    assert result.tokens.shape == (4, 1)
    assert result.ess.shape == (1,)


def test_lengths_count_the_end():
    tokens = torch.tensor([[5, 0, 0], [5, 6, 7], [0, 0, 0], [5, 6, 9]])
    assert stopping.lengths(tokens, (0, 9)).tolist() == [2, 3, 1, 3]
    assert stopping.lengths(tokens, ()).tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("message", "wrong"),
    [("cap must be", (None, (0,), 3, "stop")), ("at least one token", (None, (), 3)), ("length must", (None, (0,), 0))],
)
def test_an_ending_that_cannot_be_is_refused(message, wrong):
    with pytest.raises(ValueError, match=message):
        Ending(*wrong)


def test_another_length_than_the_cap_is_refused(table):
    for run in (lambda m: sample_joint(m, 2, 2), lambda m: arguide.sample(m, 2, 4), lambda m: sample_metropolis(m, 2, 2, 1)):
        with pytest.raises(ValueError, match="length must equal the cap 3, got"):
            run(model(table, "truncate"))


def test_a_chain_cannot_start_where_nothing_leads(table):
    with pytest.raises(ValueError, match="probability 0"):
        sample_metropolis(model(table, "force"), 2, T, 1, first=torch.tensor([[1, 1, 1], [1, 1, END]]))
