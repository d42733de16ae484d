"""The driver: when it resamples, what it banks, and populations side by side that are what each would be alone."""

import math
from functools import partial
from typing import NamedTuple

import pytest
import torch

from arguide.smc import driver
from arguide.smc.samples import Info

STEPS, N = 6, 16


class State(NamedTuple):
    x: torch.Tensor


def info(increment):
    """Return the densities of a move that weighs by these increments."""
    return Info(increment, torch.zeros_like(increment), 2 * increment)


def comb(log_weights, _generator):
    """Resample systematically at a fixed offset, so that nothing is random."""
    levels = (torch.arange(len(log_weights)) + 0.37) / len(log_weights)
    return torch.searchsorted(log_weights.softmax(0).cumsum(0), levels).clamp(max=len(log_weights) - 1)


def moves():
    """Rows [n, 2] of a position and how much its weight varies; the noise of a move is the same in every population."""
    noise = torch.randn(STEPS, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def move(state, t):
        x, spread = state.x.unbind(1)
        moved = x / 2 + noise[t].repeat(len(x) // N)
        return State(torch.stack([moved, spread], 1)), info(spread * moved)

    return [partial(move, t=t) for t in range(STEPS)]


def select(state, index):
    return State(state.x[index])


def ahead(state):
    return state.x[:, 1] * (state.x[:, 0] + 1).cos()


def first(spreads):
    x = torch.randn(N * len(spreads), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return State(torch.stack([x, torch.tensor(spreads, dtype=torch.float64).repeat_interleave(N)], 1))


def zeros(*shape):
    return torch.zeros(shape, dtype=torch.float64)


@pytest.mark.parametrize("twist", [None, ahead])
def test_each_population_is_what_it_would_be_alone(twist):
    """The second resamples at every move, the first never, the third sometimes."""
    state, asked = first([0.01, 3.0, 1.0]), []
    options = {"twist": twist, "resample": lambda *weights: asked.append(1) or comb(*weights)}
    together, counts = driver.drive(state, zeros(3, N), moves(), select, **options), []
    for rows, run in zip(state.x.split(N), together, strict=True):
        asked.clear()
        (alone,) = driver.drive(State(rows), zeros(1, N), moves(), select, **options)
        counts.append(len(asked))
        for name in alone._fields:
            torch.testing.assert_close(getattr(run, name), getattr(alone, name))
    assert counts[0] == 0 < counts[2] < counts[1]


def test_a_population_that_found_nothing_is_refused():
    def move(state):
        return state, info(torch.where(torch.arange(len(state.x)) < N, -math.inf, 0.0))

    with pytest.raises(ValueError, match="weight 0"):
        driver.drive(first([1.0, 1.0]), zeros(2, N), [move], select)


@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_a_weight_without_a_value_is_refused(spoilt, threshold):
    def move(state):
        return state, info(torch.where(torch.arange(len(state.x)) == 1, spoilt, 0.0))

    with pytest.raises(ValueError, match="NaN or"):
        driver.drive(first([1.0]), zeros(1, N), [move], select, threshold=threshold)


def test_statistics_of_known_weights():
    population = driver.populate(None, torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64).log() + 900)
    assert population.ess.item() == pytest.approx(36 / 14)
    assert population.log_evidence.item() == pytest.approx(math.log(2.0) + 900)
    assert population.ancestors.item() == 3


def test_the_error_of_importance_sampling_is_that_of_a_mean():
    weights = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    error = driver.populate(None, weights.log()[None]).std_error.item()
    assert error == pytest.approx(weights.numpy().std(ddof=1) / math.sqrt(4) / weights.mean().item())


def test_resampling_keeps_the_evidence_and_traces_the_first_ancestors():
    population = driver.populate(State(torch.arange(4)), torch.tensor([[0.3, -1.0, 2.0, 0.1]], dtype=torch.float64))
    rest = torch.zeros(1, 4).double(), torch.tensor([True])
    once, _ = driver.resampled(population, select, torch.tensor([[2, 2, 0, 3]]), *rest)
    twice, _ = driver.resampled(once, select, torch.tensor([[0, 1, 1, 2]]), *rest)
    assert once.log_evidence.item() == pytest.approx(population.log_evidence.item())
    assert once.log_weights.tolist() == [[0.0] * 4]
    assert twice.state.x.tolist() == twice.origin[0].tolist() == [2, 2, 2, 0]
    assert (once.ancestors.item(), twice.ancestors.item()) == (3, 2)


@pytest.mark.parametrize(("threshold", "resamplings"), [(0.0, 0), (0.3, 1), (0.9, 3), (1.0, 3)])
def test_it_resamples_when_the_effective_size_falls_below_the_threshold(threshold, resamplings):
    # One particle in four weighs 1, the others e^−1.5: an effective size of 2.33 of 4 after one move, 1.2 after two.
    calls, increment = [], torch.tensor([0.0, -1.5, -1.5, -1.5], dtype=torch.float64)

    def keep(log_weights, _generator):
        calls.append(len(log_weights))
        return torch.arange(4)

    moves = [lambda state: (state, info(increment))] * 4
    (run,) = driver.drive(State(torch.arange(4)), zeros(1, 4), moves, select, resample=keep, threshold=threshold)
    assert len(run.ess) == len(run.evidences) == 4
    assert len(calls) == resamplings


@pytest.mark.parametrize(("look", "resamplings"), [(0.0, 1), (3.0, 0), (-3.0, 2)])
def test_when_to_resample_follows_the_twisted_weights(look, resamplings):
    """A twist that evens the uneven weight puts resampling off, one that makes it worse brings it on."""
    increment, calls = torch.tensor([3.0, 0.0, 0.0, 0.0], dtype=torch.float64), []
    driver.drive(
        State(torch.arange(4)),
        zeros(1, 4),
        [lambda state: (state, info(increment)), lambda state: (state, info(0 * increment))],
        select,
        resample=lambda log_weights, _: calls.append(1) or torch.arange(4),
        twist=lambda state: torch.tensor([-look, 0.0, 0.0, 0.0], dtype=torch.float64),
    )
    assert len(calls) == resamplings


def test_it_stops_when_no_move_is_needed():
    (run,) = driver.drive(first([1.0]), zeros(1, N), moves(), select, stop=lambda state: bool(state.x[0, 1] == 1.0))
    assert run.ess.shape == run.log_target.shape[1:] == (0,)
