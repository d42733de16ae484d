"""Populations side by side are what each would be alone."""

import math
from functools import partial

import pytest
import torch

from arguide import particles, populations
from arguide.resampling import systematic

STEPS, N = 6, 16


def comb(log_weights, _generator):
    """Resample systematically at a fixed offset, so that nothing is random."""
    levels = (torch.arange(len(log_weights)) + 0.37) / len(log_weights)
    return torch.searchsorted(log_weights.softmax(0).cumsum(0), levels).clamp(max=len(log_weights) - 1)


def moves():
    """Rows [n, 2] of a position and how much its weight varies; the noise of a move is the same in every population."""
    noise = torch.randn(STEPS, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def move(value, t):
        x, spread = value.unbind(1)
        moved = x / 2 + noise[t].repeat(len(value) // N)
        return torch.stack([moved, spread], 1), spread * moved

    return [partial(move, t=t) for t in range(STEPS)]


def select(value, index):
    return value[index]


def ahead(value):
    return value[:, 1] * (value[:, 0] + 1).cos()


def first(spreads):
    x = torch.randn(N * len(spreads), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.stack([x, torch.tensor(spreads, dtype=torch.float64).repeat_interleave(N)], 1)


@pytest.mark.parametrize("twist", [None, ahead])
def test_each_population_is_what_it_would_be_alone(twist):
    """The second resamples at every move, the first never, the third sometimes."""
    value = first([0.01, 3.0, 1.0])
    options = {"resample": comb, "twist": twist}
    steps = populations.drive(populations.populate(value, 3, value[:, 0]), moves(), select, **options)
    found = populations.runs(steps, lambda value: value[:, 0])
    resamplings = []
    for run, own in zip(found, value.split(N), strict=True):
        alone = list(particles.drive(particles.populate(own, torch.zeros(N).double()), moves(), select, **options))
        last = alone[-1]
        torch.testing.assert_close(run.rows, last.value[:, 0])
        torch.testing.assert_close(run.log_weights, last.log_weights.log_softmax(0))
        torch.testing.assert_close(run.log_evidence, last.log_evidence)
        torch.testing.assert_close(run.ess, torch.stack([population.ess for population in alone]))
        assert run.ancestors == last.ancestors
        resamplings.append(last.resamplings)
    assert resamplings[0] == 0 < resamplings[2] < resamplings[1]


def test_one_population_draws_what_the_driver_draws():
    value = first([2.0])
    one, other = (torch.Generator().manual_seed(5) for _ in range(2))
    steps = populations.drive(populations.populate(value, 1, value[:, 0]), moves(), select, generator=one)
    (run,) = populations.runs(steps, lambda value: value[:, 0])
    start = particles.populate(value, torch.zeros(N).double())
    *_, alone = particles.drive(start, moves(), select, resample=systematic, generator=other)
    assert torch.equal(run.rows, alone.value[:, 0])
    torch.testing.assert_close(run.log_evidence, alone.log_evidence)


def test_a_population_that_found_nothing_is_refused():
    value = first([1.0, 1.0])

    def move(value):
        return value, torch.where(torch.arange(len(value)) < N, -math.inf, 0.0)

    with pytest.raises(ValueError, match="weight 0"):
        list(populations.drive(populations.populate(value, 2, value[:, 0]), [move], select))
