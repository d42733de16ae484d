"""Decisions and sentences on temperature, from frames whose differences are known."""

import pytest

from analysis.frames import tidy
from analysis.study.findings import temperature
from analysis.study.samplers import JOINT, SEQUENTIAL
from analysis.typeset import signed


def cooled(sequential, joint, apart=0.1, spread=0.01):
    """Return a frame of temperatures in which precision rises by so much from β = 1 to β = 2."""
    rows = []
    for seed in range(3):
        for family, rise in ((SEQUENTIAL, sequential), (JOINT, joint)):
            for beta in (1.0, 2.0):
                case = {"family": family, "beta": beta, "seed": seed}
                value = 0.5 + (rise + spread * seed) * (beta - 1)
                rows += [case | {"quantity": name, "value": value} for name in ("precision", "accuracy")]
                rows += [case | {"quantity": name, "value": 1 - value} for name in ("coverage", "energy distance")]
        case = {"family": JOINT, "beta": 2.0, "seed": seed}
        rows += [case | {"quantity": "log_z_apart", "value": apart}, case | {"quantity": "left", "value": 0.1}]
    return tidy(rows)


@pytest.mark.parametrize(
    ("sequential", "joint", "says"),
    [
        (0.3, -0.1, ("works", "gains less than 0.05 of precision and of accuracy")),
        (0.3, 0.3, ("works", "works")),
        (-0.1, 0.3, ("gains less than 0.05 of precision and of accuracy", "works")),
        (-0.1, -0.1, ("gains less than 0.05 of precision and of accuracy",) * 2),
    ],
)
def test_temperature_has_either_answer(sequential, joint, says):
    found = temperature.verdict(cooled(sequential, joint))
    for what, gains in zip(("the factors", "the joint law"), says, strict=True):
        assert f"Lowering the temperature of {what} {gains} here." in found.verdict
    assert "converged up to β = 2" in found.verdict
    assert f"{JOINT} − {SEQUENTIAL}: precision {signed(joint - sequential)} ± 0.000" in found.verdict
    assert f"{-sequential - 0.01:+.3f}" in found.number
    unreached = temperature.verdict(cooled(sequential, joint, apart=3.0)).verdict
    assert "converged at no β > 1" in unreached
    assert unreached.startswith(
        f"Lowering the temperature of the factors {says[0]} here.\nThe gain from lowering the temperature of the joint"
    )
    assert "not decided: its sampler converged at no β > 1." in unreached


def test_a_wide_interval_leaves_the_gain_undecided():
    told = temperature.verdict(cooled(0.0, -0.1, spread=0.05)).verdict
    assert told.startswith("The gain from lowering the temperature of the factors is not decided here: the interval")
