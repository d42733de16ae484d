"""Decisions and sentences on temperature, from frames whose differences are known."""

import pandas as pd
import pytest

from analysis.frames import tidy
from analysis.study.findings import temperature
from analysis.study.samplers import JOINT, SEQUENTIAL
from analysis.study.temperatures import NOISE, ODE, WEIGHTS
from analysis.typeset import signed


def cooled(sequential, joint, apart=0.1, spread=0.01, beyond=()):
    """Return a frame of temperatures in which precision rises by so much from β = 1 to β = 2, and on at the β beyond."""
    rows = []
    for seed in range(3):
        for family, rise in ((SEQUENTIAL, sequential), (JOINT, joint)):
            for beta in (1.0, 2.0, *beyond):
                case = {"family": family, "beta": beta, "seed": seed}
                value = 0.5 + (rise + spread * seed) * (beta - 1)
                rows += [case | {"quantity": name, "value": value} for name in ("precision", "accuracy")]
                rows += [case | {"quantity": name, "value": 1 - value} for name in ("coverage", "energy distance")]
        for beta, halves in ((2.0, apart), *((beta, 3.0) for beta in beyond)):
            case = {"family": JOINT, "beta": beta, "seed": seed}
            rows += [case | {"quantity": "log_z_apart", "value": halves}, case | {"quantity": "left", "value": 0.1}]
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


def test_the_best_temperature_of_the_joint_law_is_one_where_it_converged():
    """The distance falls up to the last β."""
    factors, joint = temperature.verdict(cooled(0.1, 0.1, beyond=(3.0,))).number.split(", ")
    assert factors.startswith(f"{SEQUENTIAL} -0.220 ± ")
    assert factors.endswith(" at β = 3")
    assert joint.startswith(f"{JOINT} -0.110 ± ")
    assert joint.endswith(" at β = 2")


def scores(spread=0.0):
    """Return energy distances of three ways to lower a score's temperature, which rank differently at each β."""
    distances = {ODE: (0.1, 0.3, 0.5), NOISE: (0.1, 0.2, 0.1), WEIGHTS: (0.1, 0.1, 0.2)}
    return tidy(
        {
            "family": family,
            "quantity": "energy distance",
            "beta": beta,
            "seed": seed,
            "value": value + spread * (seed - 1) * (family == NOISE),
        }
        for family, values in distances.items()
        for beta, value in zip((1.0, 2.0, 3.0), values, strict=True)
        for seed in range(3)
    )


def test_the_nearest_way_to_the_data_is_that_of_the_last_temperature():
    told = temperature.verdict(pd.concat([cooled(0.1, 0.1), scores()])).verdict
    assert f"In diffusion, by energy distance at β = 3, the nearest to the data is “{NOISE}”." in told
    told = temperature.verdict(pd.concat([cooled(0.1, 0.1), scores(spread=0.1)])).verdict
    assert f"is not decided (“{WEIGHTS}” − “{NOISE}”: +0.100 ± 0.248)." in told
