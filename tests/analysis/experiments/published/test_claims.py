import pytest

from analysis.experiments.published.claims import DIFFERS, REPRODUCED, UNDECIDED, Claim


def claim(published, ours, control, **more):
    return Claim("place", "number", published, ours, control, "another rule", **more)


@pytest.mark.parametrize(
    ("published", "ours", "error", "verdict"),
    [
        ("4.98", 4.9849, 0.0, REPRODUCED),  # half of the last printed digit
        ("4.98", 4.9851, 0.0, DIFFERS),
        ("4.98", 5.0, 0.008, REPRODUCED),  # and two standard errors
        ("4.98", 5.0, 0.007, DIFFERS),
        ("2", 2.49, 0.0, REPRODUCED),
        ("2", 2.51, 0.0, DIFFERS),
        (1 / 3, 1 / 3 + 9e-7, 0.0, REPRODUCED),  # a formula has no rounding
        (1 / 3, 1 / 3 + 2e-6, 0.0, DIFFERS),
        ("> 0.1", 0.2, 0.04, REPRODUCED),
        ("> 0.1", 0.2, 0.06, UNDECIDED),
        ("> 0.1", 0.1, 0.0, UNDECIDED),
        ("> 0.1", -0.1, 0.04, DIFFERS),
        ("< 0.1", 0.0, 0.04, REPRODUCED),
        ("< 0.1", 0.2, 0.04, DIFFERS),
    ],
)
def test_a_verdict_is_by_the_rounding_and_two_standard_errors(published, ours, error, verdict):
    assert (
        claim(published, ours, -99.0 if verdict == REPRODUCED and published != "< 0.1" else 99.0, std_error=error).verdict
        == verdict
    )


def test_a_control_that_agrees_too_decides_nothing():
    assert claim("0.50", 0.5, 0.504).verdict == UNDECIDED
    assert not claim("0.50", 0.5, 0.504).turned
    assert claim("0.50", 0.5, 0.51).verdict == REPRODUCED
    assert claim("0.50", 0.5, 0.51).turned
    assert claim("0.50", 0.6, 0.504).verdict == DIFFERS
    assert claim("> 0.01", 0.2, 0.0).turned
    assert not claim("> 0.01", 0.2, 0.3).turned
