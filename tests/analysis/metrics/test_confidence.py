"""Intervals and their decisions: by hand, and by their coverage."""

import math

import pandas as pd
import pytest
import torch
from scipy import stats

from analysis.metrics import confidence
from analysis.metrics.confidence import Difference, Estimate


@pytest.mark.parametrize(
    ("mean", "half", "answer"),
    [
        (0.2, 0.1, "a difference"),
        (-0.03, 0.01, "a difference, though a smaller one than would matter"),
        (0.01, 0.03, "no difference that would matter"),
        (0.0, 0.08, "not decided"),
        (0.03, 0.04, "not decided"),
        (float("nan"), float("nan"), "not decided"),
        (0.0, float("nan"), "not decided"),
    ],
)
def test_an_interval_decides_by_the_smallest_difference_of_interest(mean, half, answer):
    assert Difference(mean, half, 0.05).answer == answer


def test_a_difference_is_printed_with_its_interval():
    assert str(Difference(0.012, 0.08, 0.05)) == "+0.012 ± 0.080 (0.05 would matter)"


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(-0.0004, 0.0, math.inf), "0.00"),
        (Estimate(2.0, 0.0, 3.0), "2.00 ± 0.00"),  # four seeds that agree
        (Estimate(2.0, 0.1, math.inf), "2.00 ± 0.20"),
        (Estimate(2.0, math.nan, 0.0), "2.00 ± nan"),
    ],
)
def test_only_a_drawn_number_has_an_interval(estimate, text):
    assert f"{estimate:.2f}" == text


@pytest.mark.parametrize(("given", "freedom"), [({"freedom": 3.0}, 3.0), ({"freedom": math.nan}, math.inf), ({}, math.inf)])
def test_a_row_without_freedom_has_a_normal_error(given, freedom):
    assert confidence.of_row({"value": 1, "std_error": 0.5} | given) == Estimate(1.0, 0.5, freedom)


def test_a_combination_has_the_variance_and_the_freedom_of_its_parts():
    one, two = Estimate(10.0, 3.0, 3), Estimate(4.0, 4.0, 10)
    found = confidence.combined((0.5, -2.0), (one, two))
    assert (found.value, found.std_error) == (pytest.approx(-3.0), pytest.approx(math.hypot(1.5, 8.0)))
    assert 3 < found.freedom < 13
    alike = confidence.mean([Estimate(1.0, 2.0, 3)] * 3)
    assert (alike.std_error, alike.freedom) == (pytest.approx(2 / math.sqrt(3)), pytest.approx(9))


def test_an_exact_number_adds_no_error():
    exact = confidence.of_row(pd.Series({"value": 2.0, "std_error": 0.0, "freedom": float("nan")}))
    gap = Estimate(3.0, 0.5, 4).minus(exact)
    assert (gap.value, gap.std_error, gap.freedom) == (1.0, 0.5, 4)
    assert exact.minus(exact).interval == (0.0, 0.0)


def test_simultaneous_intervals_hold_as_often_as_they_say():
    """Three means of four draws each, 2,000 times. All three cover 0 in 95 %; fewer than one run in 10⁵ fails by chance."""
    generator = torch.Generator().manual_seed(3)
    draws = torch.randn(2000, 3, 4, generator=generator, dtype=torch.float64)
    mean, error = draws.mean(-1), draws.std(-1) / 2
    half = Estimate(0.0, 1.0, 3).half_of(3)
    assert float((mean.abs() <= half * error).all(1).double().mean()) > 0.93
    alone = Estimate(0.0, 1.0, 3).half
    assert float((mean.abs() <= alone * error).all(1).double().mean()) < 0.91  # the control: not simultaneous


def test_the_nearest_is_named_only_if_the_next_is_clearly_further():
    near, far = Estimate(0.10, 0.01, 3), Estimate(0.12, 0.01, 3)
    assert confidence.nearest({"b": far, "a": near}).startswith("the nearest is not decided (b − a: +0.020 ± ")
    assert confidence.nearest({"b": far._replace(value=0.2), "a": near}) == "the nearest is a"


def test_paired_differences_have_student_intervals():
    mean, half = confidence.paired_difference([1.0, 2.0, 4.0], [0.5, 1.0, 2.0])
    assert mean == pytest.approx(3.5 / 3)
    assert half == pytest.approx(4.302653 * torch.tensor([0.5, 1.0, 2.0]).std().item() / 3**0.5, rel=1e-5)
    _, wider = confidence.paired_difference([1.0, 2.0, 4.0], [0.5, 1.0, 2.0], 3)
    assert wider / half == pytest.approx(7.648920 / 4.302653, rel=1e-4)
    assert math.isnan(confidence.paired_difference([1.0], [0.5])[1])


def test_a_difference_has_welchs_interval():
    """By hand: errors 3 and 4 with 3 and 10 degrees of freedom; Student's .975 quantile is 2.179 at 12 degrees, 2.160 at 13."""
    one, two = Estimate(10.0, 3.0, 3), Estimate(4.0, 4.0, 10)
    both = one.minus(two)
    assert both[:2] == (6.0, 5.0)
    assert both.freedom == pytest.approx(25**2 / (81 / 3 + 256 / 10))
    assert both.freedom == pytest.approx(11.88, abs=0.01)
    assert both.interval == pytest.approx((6 - 5 * 2.181, 6 + 5 * 2.181), abs=0.01)
    assert Estimate(0.0, 1.0, 3).half == pytest.approx(3.1824, abs=1e-4)
    exact = Estimate(1.0, 0.0, 3)
    assert exact.minus(exact).interval == (0.0, 0.0)


def test_a_mean_has_the_standard_error_of_scipy():
    values = [0.3, -1.2, 2.5, 0.7]
    found = confidence.mean_of(values)
    assert found == pytest.approx((sum(values) / 4, stats.sem(values), 3.0))
    assert confidence.mean_of(torch.tensor(values, dtype=torch.float64)) == found
    assert math.isnan(confidence.mean_of([1.0]).std_error)


def test_a_mean_has_students_interval():
    values = [1.0, 2.0, 4.0, 4.5]
    assert confidence.mean_of(values).interval == pytest.approx(stats.ttest_1samp(values, 0.0).confidence_interval(0.95))
