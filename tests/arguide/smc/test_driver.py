"""Populations side by side are what each would be alone."""

import math
from functools import partial

import pytest
import torch

from arguide.smc import driver

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


def zeros(*shape):
    return torch.zeros(shape, dtype=torch.float64)


@pytest.mark.parametrize("twist", [None, ahead])
def test_each_population_is_what_it_would_be_alone(twist):
    """The second resamples at every move, the first never, the third sometimes."""
    value = first([0.01, 3.0, 1.0])
    options = {"resample": comb, "twist": twist}
    *_, last = driver.drive(driver.populate(value, zeros(3, N)), moves(), select, **options)
    for own, run, rows in zip(value.split(N), last.apart(), last.value.split(N), strict=True):
        *_, alone = driver.drive(driver.populate(own, zeros(N)), moves(), select, **options)
        torch.testing.assert_close(rows, alone.value)
        for name in ("log_weights", "log_evidence", "ess", "origin", "resamplings", "std_error"):
            torch.testing.assert_close(getattr(run, name), getattr(alone, name))
        assert run.ancestors == alone.ancestors
    counts = last.resamplings.tolist()
    assert counts[0] == 0 < counts[2] < counts[1]


def test_one_population_side_by_side_with_none_draws_what_it_draws_alone():
    value = first([2.0])
    one, other = (torch.Generator().manual_seed(5) for _ in range(2))
    *_, run = driver.drive(driver.populate(value, zeros(1, N)), moves(), select, generator=one)
    *_, alone = driver.drive(driver.populate(value, zeros(N)), moves(), select, generator=other)
    assert torch.equal(run.value, alone.value)
    assert torch.equal(run.log_evidence[0], alone.log_evidence)


def test_a_population_that_found_nothing_is_refused():
    value = first([1.0, 1.0])

    def move(value):
        return value, torch.where(torch.arange(len(value)) < N, -math.inf, 0.0)

    with pytest.raises(ValueError, match="weight 0"):
        list(driver.drive(driver.populate(value, zeros(2, N)), [move], select))


@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_a_particle_whose_weight_has_no_value_is_refused(spoilt, threshold):
    def move(value):
        return value, torch.where(torch.arange(len(value)) == 1, spoilt, 0.0)

    with pytest.raises(ValueError, match="NaN or"):
        list(driver.drive(driver.populate(first([1.0]), zeros(1, N)), [move], select, threshold=threshold))
