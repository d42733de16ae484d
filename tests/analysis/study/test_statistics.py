"""Differences at equal accuracy and the convergence of joint samplers, from frames with known answers."""

import itertools

import pytest

from analysis.frames import tidy
from analysis.study import statistics
from analysis.study.samplers import JOINT, SEQUENTIAL


def test_equal_accuracy_interpolates_between_scales():
    rows = []
    for seed in range(2):
        for family, points in ((SEQUENTIAL, [(1.0, 0.5, 1.0), (2.0, 0.9, 0.6)]), (JOINT, [(1.5, 0.7, 0.7), (2.0, 0.95, 0.1)])):
            for scale, accuracy, coverage in points:
                case = {"family": family, "scale": scale, "seed": seed}
                rows += [case | {"quantity": "accuracy", "value": accuracy}, case | {"quantity": "coverage", "value": coverage}]
        case = {"family": SEQUENTIAL, "scale": 5.0, "seed": seed}  # beyond its best scale, where accuracy has fallen again
        rows += [case | {"quantity": "accuracy", "value": 0.7}, case | {"quantity": "coverage", "value": 0.0}]
    mean, _, count = statistics.at_accuracy(tidy(rows), "coverage", JOINT, SEQUENTIAL, [1.5, 2.0])
    assert count == 2  # one scale a seed: .95 is an accuracy that the other never has
    assert mean == pytest.approx(0.7 - 0.8)


def test_means_over_seeds_decide_convergence():
    found = {
        "log_z_apart": {1.25: (0.1, 0.7), 1.5: (0.1, 0.2), 2.0: (0.1, 1.2)},
        "left": {1.25: (0.4, 0.55), 1.5: (0.1, 1.0), 2.0: (0.1, 0.1)},
    }
    rows = [{"family": JOINT, "quantity": name, "seed": seed, "scale": scale, "value": value}
            for name, by in found.items() for scale, values in by.items() for seed, value in enumerate(values)]  # fmt: skip
    assert statistics.converged(tidy(rows), JOINT) == [1.25]


def test_a_joint_sampler_is_compared_at_the_largest_scale_where_it_converged():
    rows = []
    for seed, scale in itertools.product(range(2), (1.5, 2.0, 3.0)):
        for family, gap in ((SEQUENTIAL, 0.0), (JOINT, scale / 10)):
            values = dict.fromkeys(statistics.MEASURES, 0.5 + gap)
            if family == JOINT:
                values |= {"log_z_apart": 0.1, "left": scale / 5}
            rows += [{"family": family, "quantity": name, "seed": seed, "scale": scale, "value": value}
                     for name, value in values.items()]  # fmt: skip
    found = statistics.compare(tidy(rows), JOINT, SEQUENTIAL)
    assert (found.scale, found.remaining) == (2.0, 0.4)
    assert [found.at_scale[name].mean for name in statistics.MEASURES] == pytest.approx([0.2] * 3)


def test_the_table_of_means_has_a_dash_where_a_sampler_has_no_number():
    values = {(SEQUENTIAL, 1.0): 0.5, (SEQUENTIAL, 2.0): 0.7, (JOINT, 1.0): 0.6}
    rows = [{"family": family, "quantity": "accuracy", "scale": scale, "seed": seed, "value": value + 0.02 * seed - 0.01}
            for (family, scale), value in values.items() for seed in range(2)]  # fmt: skip
    columns, cells = statistics.by_value(tidy(rows), (SEQUENTIAL, "another", JOINT), "accuracy")
    assert columns == ("γ", SEQUENTIAL, JOINT)
    assert cells == [["1", "0.50 ± 0.13", "0.60 ± 0.13"], ["2", "0.70 ± 0.13", "–"]]
