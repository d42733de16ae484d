"""What titles may state: directions, zeros, and differences that intervals decide."""

import pytest

from analysis.frames import tidy
from analysis.metrics.confidence import Estimate
from analysis.metrics.trends import above, clearly, clearly_paired, direction, nearest_along, without_gap


def frame(**groups):
    """Return one row per group and x = 0, 1, …"""
    return tidy({"family": name, "x": x, "value": value} for name, values in groups.items() for x, value in enumerate(values))


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        ({"a": (1, 2, 3), "b": (0, 0, 1)}, 1),
        ({"a": (3, 2, 1), "b": (1, 1, 0)}, -1),
        ({"a": (1, 2, 3), "b": (1, 0, 0)}, 0),
        ({"a": (1, 3, 2)}, 0),
        ({"a": (1, 1, 1)}, 0),
    ],
)
def test_a_direction_is_that_of_every_group(groups, says):
    assert direction(frame(**groups).sample(frac=1, random_state=0), "x", "family") == says


def test_without_rows_there_is_no_direction():
    assert direction(frame(a=(1, 2)).iloc[:0], "x", "family") == 0


def test_a_law_without_a_gap_is_zero_throughout():
    rows = frame(a=(0, 0), b=(0, 0.1), c=(1e-12, -1e-12), d=(0, 9e-10), e=(0, 1.1e-9))
    assert without_gap(rows, "family") == ["a", "c", "d"]


def test_estimates_are_clearly_different_or_not():
    near, far, wide = Estimate(1.0, 0.1, 9.0), Estimate(2.0, 0.1, 9.0), Estimate(2.0, 2.0, 9.0)
    assert [clearly(far, near), clearly(near, far), clearly(wide, near), clearly(near, near)] == [1, -1, 0, 0]
    exact = Estimate(1.0, 0.0, 9.0)
    assert clearly(exact, exact) == 0


def test_pairs_share_their_noise():
    """Values that differ by 1 with noise of 10 that both share, and the same in another order."""
    first = [10.0, -10.0, 0.0, 5.0, -5.0]
    second = [value - 1 + 0.01 * i for i, value in enumerate(first)]
    assert clearly_paired(first, second) == 1
    assert clearly_paired(second, first) == -1
    assert clearly_paired(first, second[::-1]) == 0


def test_a_floor_is_passed_where_all_pass_it_clearly_and_by_enough():
    rows = frame(a=(0.0, 0.5, 0.5, 0.05), b=(0.0, 0.5, 0.01, 0.05), exact=(0.0, 0.0, 0.0, 0.0))
    assert above(rows.assign(std_error=0.001), "x", ("a", "b"), "exact", 0.1) == [1.0]
    assert above(rows.assign(std_error=0.001), "x", ("a", "b"), "exact", 0.02) == [1.0, 3.0]
    assert above(rows.assign(std_error=1.0), "x", ("a", "b"), "exact", 0.02) == []


def test_the_nearest_law_along_x():
    names = {"a": "first", "b": "second"}
    assert nearest_along(frame(a=(0, 1, 1, 3), b=(0, 2, 2, 2)), "x", "T", names) == "Nearest: first up to T = 2, then second"
    assert nearest_along(frame(a=(3, 1, 3), b=(2, 2, 2)), "x", "T", names) == "Distance to the joint law"
    assert nearest_along(frame(a=(3, 3), b=(2, 2)), "x", "T", names) == "Nearest to the joint law: second"
