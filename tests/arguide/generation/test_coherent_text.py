"""A slice of benchmarks/coherent_text.py: the gain over plain guidance is 0 on its own curve, and the table has every cell."""

import math

import pytest
import torch

from benchmarks.coherent_text import Measured, gain, measure, table


def point(ratio, likelihood, distinct, error=0.1):
    return Measured(torch.tensor([ratio, likelihood, distinct]).double(), torch.full((3,), error).double())


CURVE = [point(10.0, -50.0, 1.0), point(20.0, -60.0, 0.9), point(40.0, -100.0, 0.5)]


def test_a_point_between_two_scales_is_held_against_their_line():
    found = gain(point(30.0, -75.0, 0.8), CURVE)
    assert found.mean.tolist() == pytest.approx([5.0, 0.1])
    assert found.error.tolist() == pytest.approx([(2 * 0.01 + 4 * 0.01) ** 0.5, (2 * 0.01 + 0.0004 * 0.01) ** 0.5])
    assert gain(CURVE[1], CURVE).mean.tolist() == [0.0, 0.0]
    assert gain(point(41.0, -100.0, 0.5), CURVE).mean.isnan().all()


def test_every_cell_is_measured(data):
    cells = measure(data / "stories260K", 24, 6, scales=(3.0,), bounds=(0.0, 5.0, 400.0), plain=(1.0, 3.0))
    model, plain, none, _, all_of_it = cells
    assert [cell.bound for cell in cells] == [math.inf, math.inf, 0.0, 5.0, 400.0]
    assert abs(none.found.mean[0] - model.found.mean[0]) < 6 * none.found.error[0] * 2**0.5  # π = 1 does not guide
    assert abs(all_of_it.found.mean[0] - plain.found.mean[0]) < 6 * plain.found.error[0] * 2**0.5  # π → 0 is plain guidance
    assert plain.found.mean[0] > model.found.mean[0] + 6 * model.found.error[0]
    assert len(table(cells).splitlines()) == 7
