"""The two statements on temperature have every answer."""

import pytest

from analysis.metrics.confidence import Difference, Estimate
from analysis.metrics.temperature.claims import FALSE, MIXED, NEITHER, NOWHERE, OPEN, TRUE, smallest, terrible, useless
from analysis.metrics.temperature.laws import BIGRAMS, DISTINCT, ENTROPY, REPEATED

GAIN, LOSS, NONE, WIDE = ((0.5, 0.1), (-0.5, 0.1), (0.0, 0.01), (0.0, 0.5))


@pytest.mark.parametrize(
    ("entropy", "repeats", "answer"),
    [
        (GAIN, NONE, FALSE),
        (GAIN, WIDE, FALSE),
        (LOSS, NONE, TRUE),
        (GAIN, GAIN, MIXED),
        (NONE, NONE, NEITHER),
        (NONE, WIDE, OPEN),
        (NONE, LOSS, FALSE),
        (NONE, GAIN, TRUE),
    ],
)
def test_the_joint_law_is_useless_where_it_only_loses(entropy, repeats, answer):
    gaps = {ENTROPY: [Difference(*entropy, 0.2)], REPEATED: [Difference(*repeats, 0.05)]}
    assert useless(gaps).answer == answer


def test_a_gain_at_one_setting_and_a_loss_at_another_are_both_named():
    found = useless({DISTINCT: [Difference(*GAIN, 0.05), Difference(*LOSS, 0.05)]})
    assert found.answer == MIXED
    assert found.reason.startswith("distinct texts better and worse: +0.500 ± 0.100 (0.05 would matter)")
    assert useless({DISTINCT: [Difference(0.5, 0.0, 0.05)]}).reason.endswith("+0.500 (0.05 would matter)")


def test_without_a_setting_nothing_is_decided():
    assert useless({}) == (OPEN, NOWHERE)


@pytest.mark.parametrize(
    ("distance", "error", "answer"),
    [(0.9, 0.01, TRUE), (0.1, 0.01, FALSE), (0.51, 0.001, NEITHER), (0.6, 0.1, OPEN), (0.9, 0.0, TRUE)],
)
def test_draws_are_terrible_where_they_are_farther_than_those_of_p(distance, error, answer):
    found = terrible(Estimate(distance, error, 10.0), Estimate(0.5, error, 10.0), 0.02)
    assert found.answer == answer
    assert "(0.02 would matter)" in found.reason


def test_what_would_matter_grows_with_the_length_for_nats():
    assert smallest(ENTROPY, 20.0) == pytest.approx(1.0)
    assert smallest(BIGRAMS, 20.0) == smallest(BIGRAMS, 5.0) == 0.05
