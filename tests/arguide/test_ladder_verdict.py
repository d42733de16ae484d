"""The verdict of a ladder: slow texts of the target are noticed, on a law whose heavy texts enter slowly."""

import math

import pytest
import torch

import arguide
from analysis import Table
from arguide.ladder import diagnosis
from arguide.ladder.diagnosis import correlation_time


@pytest.fixture(scope="module")
def slow():
    """Return p^8 of four rare texts that outweigh 300 common ones, and its log Z."""
    joint = torch.zeros(1, 5, 300, dtype=torch.float64)
    for i, mass in enumerate((0.0076, 0.0071, 0.0064, 0.0059)):
        joint[0, i, i] = mass
    joint[0, 4] = (1 - joint.sum()) / 300 * (1 + torch.linspace(-0.1, 0.1, 300, dtype=torch.float64))
    table = Table(joint)
    return arguide.LogLinear.temperature(table.autoregressive(), 1 / 8), float(joint.pow(8).sum().log())


def run(law):
    return arguide.sample_ladder(law, 16, 2, sweeps=60, burn_in=30, generator=torch.Generator().manual_seed(4))


def test_heavy_texts_that_enter_slowly_are_noticed(slow):
    law, log_z = slow
    found = run(law)
    assert abs(float(found.log_evidence) - log_z) > 0.5
    assert not found.consistent
    assert "the mean of r at the target differs by 0.66 nats between the halves of the run" in found.verdict
    assert "the texts of the target change so slowly that a ladder has 2.8 independent ones" in found.verdict


def test_without_these_doubts_the_verdict_is_false(slow, monkeypatch):
    monkeypatch.setattr(diagnosis, "APART", math.inf)
    monkeypatch.setattr(diagnosis, "LEAST", 0.0)
    assert run(slow[0]).consistent


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_time_of_an_autoregressive_series_has_a_closed_form(rho):
    noise = torch.randn(4000, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = [noise[0] / math.sqrt(1 - rho**2)]
    for row in noise[1:]:
        rows.append(rho * rows[-1] + row)
    assert correlation_time(torch.stack(rows)) == pytest.approx((1 + rho) / (1 - rho), rel=0.15)


def test_ladders_that_stay_apart_count_as_slow():
    noise = torch.randn(100, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert correlation_time(noise) < 1.5
    assert correlation_time(noise + 3 * torch.arange(8)) > 50
    assert correlation_time(torch.ones(100, 8)) == 1
