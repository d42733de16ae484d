"""Numbers that fit into float32 and into this machine, and those just beyond."""

import math
import os

import pytest

from analysis import limits


@pytest.mark.parametrize("value", [1e-30, 1.0, 1e30])
def test_a_temperature_may_be_as_large_and_as_small_as_float32_allows(value):
    limits.check_range("--temperature", value)


@pytest.mark.parametrize("value", [0.99e-30, 1.01e30, 0.0, -1.0, math.nan, math.inf])
def test_a_temperature_beyond_is_refused(value):
    with pytest.raises(ValueError, match="--temperature must be positive"):
        limits.check_range("--temperature", value)


@pytest.mark.parametrize("width", [4, 8])
def test_numbers_that_fill_the_memory_fit_and_one_more_does_not(monkeypatch, width):
    monkeypatch.setattr(limits, "_memory", lambda: 4e9)
    limits.check_memory("--samples", 4e9 / width, width)
    with pytest.raises(ValueError, match="--samples must fit into the memory of 4 GB"):
        limits.check_memory("--samples", 4e9 / width + 1, width)


def test_a_network_has_six_matrices_per_layer_in_four_copies(monkeypatch):
    monkeypatch.setattr(limits, "_memory", lambda: 4 * 4 * 6 * 100.0**2 * 3)
    limits.check_network("--width", 100, 3)
    with pytest.raises(ValueError, match="--width"):
        limits.check_network("--width", 100, 4)


def test_memory_that_is_not_reported_has_no_limit(monkeypatch):
    def sysconf(name):
        raise ValueError("unrecognized")

    monkeypatch.setattr(os, "sysconf", sysconf)
    limits.check_memory("--samples", 1e30)


@pytest.mark.parametrize(
    ("given", "says"),
    [(([0.0], [1], [0.5]), "--beta"), (([1.0], [0.5], [0.5]), "--top-k"), (([1.0], [1.5], [0.5]), "--top-k")]
    + [(([1.0], [1], [p]), "--top-p") for p in (0.0, 1.01, math.nan)],
)
def test_settings_of_a_temperature_that_mean_nothing_are_refused(given, says):
    limits.check_temperatures([1e-30, 2.0], [1, 50], [0.1, 1.0])
    with pytest.raises(ValueError, match=says):
        limits.check_temperatures(*given)
