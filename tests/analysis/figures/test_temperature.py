"""Panels of temperature draw every way of their law, and their titles are read at β = 2."""

import numpy as np
import pandas as pd
import pytest
from drawn import points, table

from analysis.figures import temperature


def test_every_way_has_its_loss_against_the_power_of_equal_likelihood(ax):
    ways = [("sequential", 0.5, 2.0, 0.25), ("top-k", 3.0, 1.5, 0.75)]
    rows = [
        (way, at, name, value)
        for way, at, *values in ways
        for name, value in zip(("effective_beta", "lost"), values, strict=True)
    ]
    temperature.lost(table("family setting quantity value", *rows, law="coupled"), ax)
    assert points(ax) == {"sequential": [[2, 0.25]], "top-k": [[1.5, 0.75]]}
    assert ax.get_label() == "At equal likelihood others lose up to 0.75 nats of entropy"
    assert ax.get_xscale() == "log"


def test_samplers_that_reach_beta_are_named(ax):
    rows = [(temperature.RULES[2], 1.0, 2.0), (temperature.RULES[2], 2.0, 2.1), (temperature.RULES[3], 2.0, 4.0)]
    rows += [(temperature.RULES[3], 1.0, 2.0)]
    frame = table("family beta value", *rows, law="one Gaussian", quantity="effective_beta")
    temperature.reached("one Gaussian")(pd.concat([frame.assign(quantity="variance", value=2.0), frame]), ax)
    assert ax.get_label() == f"One Gaussian: β = 2 is reached by {temperature.RULES[2]}"


def test_the_sampler_nearest_to_the_power_on_two_modes_is_named(ax):
    first, second = temperature.RULES[2:4]
    frame = table("family beta value", (first, 2.0, 0.1), (second, 2.0, 0.4), law="two modes", quantity="w1")
    temperature.w1(pd.concat([frame, frame.assign(law="one Gaussian", value=[0.4, 0.1])]), ax)
    assert ax.get_label() == f"Nearest to p^β at β = 2: {first}"
    assert points(ax) == {first: [[2, 0.1]], second: [[2, 0.4]]}


@pytest.mark.parametrize(
    ("second", "says"), [(0.4, "Nearest to p²: {first}, total variation 0.10"), (0.11, "Three other rules beside p²")]
)
def test_the_rule_nearest_to_the_power_is_named_where_it_is_clear(ax, second, says):
    first, *others = temperature.RULES[2:]
    away = {"p": 0.5, "p²": 0.0, first: 0.1} | dict.fromkeys(others, second)
    rows = [(name, x, 0.5 + shift * (1 - 2 * x)) for name, shift in away.items() for x in (0.0, 1.0)]
    temperature.density(table("family x value", *rows, quantity="density"), ax)
    assert ax.get_label() == says.format(first=first)
    assert np.asarray(points(ax)[first]) == pytest.approx(np.array([[0, 0.6], [1, 0.4]]))
