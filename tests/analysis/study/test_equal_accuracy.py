"""Differences at equal accuracy, from curves that are known."""

import pytest

from analysis.frames import tidy
from analysis.metrics.confidence import Difference
from analysis.study.equal_accuracy import Level, curve, decision, levels

SCALES = (1.0, 2.0, 3.0, 5.0)


def frame(curves, seeds=3, jitter=0.0):
    """Return a frame of samplers whose (accuracy, spread) at every scale are given."""
    rows = []
    for family, points in curves.items():
        for seed in range(seeds):
            for scale, (accuracy, spread) in zip(SCALES, points, strict=False):
                case = {"family": family, "scale": scale, "seed": seed}
                rows.append(case | {"quantity": "accuracy", "value": accuracy})
                rows.append(case | {"quantity": "spread", "value": spread + jitter * (seed - 1)})
        rows.append({"family": family, "scale": 0.0, "seed": 0, "quantity": "accuracy", "value": 0.1})
    return tidy(rows)


A = [(0.7, 1.0), (0.8, 0.9), (0.9, 0.6)]
B = [(0.7, 1.0), (0.85, 0.7), (0.9, 0.6), (0.8, 0.2)]  # its accuracy falls again at the last scale


def test_levels_span_the_shared_accuracy_and_interpolate():
    found = levels(frame({"a": A, "b": B}), "a", "b", ("spread", "coverage"))
    assert list(found) == ["spread"]
    assert [each.accuracy for each in found["spread"]] == pytest.approx([0.7, 0.75, 0.8, 0.85, 0.9])
    assert [each.difference.mean for each in found["spread"]] == pytest.approx([0.0, 0.05, 0.1, 0.05, 0.0])


def test_a_curve_ends_at_its_highest_accuracy():
    own = frame({"b": B})
    assert curve(own[own["seed"] == 0], "b").index.tolist() == [0.7, 0.85, 0.9]


def test_a_curve_has_the_mean_of_scales_of_equal_accuracy():
    own = curve(frame({"a": [(0.7, 1.0), (0.7, 0.6), (0.9, 0.5)]}, seeds=1), "a")
    assert own["spread"].to_dict() == pytest.approx({0.7: 0.8, 0.9: 0.5})


def test_intervals_are_simultaneous_over_levels():
    one = levels(frame({"a": [(0.7, 1.0)], "b": [(0.7, 0.9)]}, jitter=0.01), "a", "b", ("spread",))["spread"]
    assert len(one) == 1  # no range of accuracy
    rows = frame({"a": A}, jitter=0.01), frame({"b": B})
    many = levels(tidy(rows[0].to_dict("records") + rows[1].to_dict("records")), "a", "b", ("spread",))["spread"]
    single = 0.01 / 3**0.5 * 4.303  # Student's t of one interval
    assert all(each.difference.half > 2 * single for each in many)


def test_every_seed_has_its_own_levels():
    """Seeds whose models differ in accuracy by more than a curve is long are compared all the same."""
    rows = []
    for seed in range(3):
        moved = {name: [(a + 0.5 * seed, value) for a, value in points] for name, points in (("a", A), ("b", B))}
        rows += frame(moved, seeds=1).assign(seed=seed).to_dict("records")
    found = levels(tidy(rows), "a", "b", ("spread",))["spread"]
    assert [each.accuracy for each in found] == pytest.approx([1.2, 1.25, 1.3, 1.35, 1.4])
    assert [each.difference.mean for each in found] == pytest.approx([0.0, 0.05, 0.1, 0.05, 0.0])


def test_samplers_without_a_shared_accuracy_have_no_levels():
    assert levels(frame({"a": A, "b": [(0.2, 1.0), (0.4, 1.0)]}), "a", "b", ("spread",)) == {}
    assert levels(frame({"a": A}), "a", "b", ("spread",)) == {}


@pytest.mark.parametrize(
    ("measure", "smallest"),
    [
        *((share, 0.05) for share in ("spread", "coverage", "distinct", "memorised", "new rows")),
        ("energy distance", 0.02),
        ("log p(x|y)", 1.0),
    ],
)
def test_a_difference_counts_from_the_smallest_that_would_matter(measure, smallest):
    for part, says in ((0.9, "no difference"), (1.1, "better")):
        more = [(accuracy, value + part * smallest) for accuracy, value in A]
        rows = frame({"a": more, "b": A}).replace({"quantity": {"spread": measure}})
        assert decision(levels(rows, "a", "b", (measure,))[measure]) == says


@pytest.mark.parametrize(
    ("differences", "says"),
    [
        ([(0.2, 0.1), (0.0, 0.3)], "better"),
        ([(-0.2, 0.1), (0.0, 0.3)], "worse"),
        ([(-0.2, 0.1), (0.2, 0.1)], "better and worse"),
        ([(0.01, 0.02), (0.02, 0.01)], "no difference"),
        ([(0.01, 0.02), (0.0, 0.3)], "not decided"),
        ([(0.03, 0.01), (0.0, 0.3)], "not decided"),
    ],
)
def test_levels_decide_together(differences, says):
    found = [Level(0.8, Difference(mean, half, 0.05)) for mean, half in differences]
    assert decision(found) == says
    mirrored = {"better": "worse", "worse": "better"}.get(says, says)
    assert decision(found, lower_is_better=True) == mirrored
