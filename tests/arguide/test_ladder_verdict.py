"""The verdict on a run of a ladder doubts what exceeds a limit, slow texts of the target too, and states what it measured."""

import math

import pytest
import torch

import arguide
from analysis import MarkovChain, Table
from arguide import LogLinear
from arguide.ladder import diagnosis
from arguide.ladder.diagnosis import correlation_time


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def trapped(length=12):
    """A law whose mode, 1 repeated, has probability 1e-8 at level 0: no text finds it, and exchanges cannot help."""
    stay = torch.tensor([[0.98, 0.02], [0.8, 0.2]]).double()
    other = torch.tensor([[0.98, 0.02], [0.999, 0.001]]).double()
    toy = MarkovChain(stay[None, 0], stay[None], length, unconditional=(stay[0], other))
    return LogLinear.guidance(toy.autoregressive(0), toy.autoregressive(), 4.0), float(toy.joint_guided(0, 4.0).log_normalizer)


def test_a_ladder_whose_texts_do_not_travel_is_reported():
    law, log_z = trapped()
    ladder = arguide.sample_ladder(law, 8, 12, levels=2, sweeps=20, burn_in=0, generator=seeded())
    assert abs(float(ladder.log_evidence) - log_z) > 0.5
    assert not ladder.consistent
    assert ladder.verdict.startswith("not converged: ")
    assert "use more sweeps" in ladder.verdict


def good(**changes):
    """Return a run without doubts, with some fields changed."""
    law = LogLinear((Table([[0.3, 0.7]]).autoregressive(0),), (2.0,))
    run = arguide.sample_ladder(law, 8, 1, levels=2, sweeps=40, burn_in=8, generator=seeded())
    assert list(diagnosis._doubts(run)) == []
    return run._replace(**changes)


def doubt(**changes):
    return list(diagnosis._doubts(good(**changes)))


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("only 5.0% of the exchanges", {"exchanged": torch.tensor([0.5, 0.05])}),
        ("only 7 round trips in 8 ladders", {"round_trips": 7}),
        ("only 1 round trip in 8", {"round_trips": 1}),
        ("standard error of 0.16", {"std_error": torch.tensor(0.16)}),
        ("standard error of nan", {"std_error": torch.tensor(math.nan)}),
        ("differs by 0.26 nats between the halves", {"halves": (-0.26, 1.0)}),
        ("differs by 0.1 nats between the halves", {"halves": (0.1, 0.02)}),
        ("two estimates of log Z differ by", {"integrated": torch.tensor(9.0)}),
    ],
)
def test_every_doubt_has_its_sentence(message, changes):
    (found,) = doubt(**changes)
    assert message in found


def test_a_tenth_of_the_exchanges_is_enough():
    assert doubt(exchanged=torch.tensor([0.5, 0.11])) == []


def test_texts_are_slow_if_those_of_the_target_are():
    """By so little that the halves of the run hardly differ."""
    run = good()
    ratios = run.ratios + 0.0
    ratios[:, -1] = 0.1 * torch.linspace(0, 2 * math.pi, len(ratios)).double()[:, None].sin()
    (found,) = doubt(ratios=ratios)
    assert "the texts of the target change so slowly" in found
    ratios[:, [0, -1]] = ratios[:, [-1, 0]]
    assert doubt(ratios=ratios) == []


def test_halves_that_differ_by_less_than_a_fiftieth_of_a_nat_raise_no_doubt():
    assert doubt(halves=(0.019, 0.0)) == [] != doubt(halves=(0.021, 0.0))


def test_a_verdict_without_doubts_states_every_measurement():
    run = good(std_error=torch.tensor(0.0123), halves=(-0.0456, 1.0), round_trips=9, exchanged=torch.tensor([0.5, 0.25]))
    assert list(diagnosis._facts(run)) == [
        "log Ẑ has a standard error of 0.012 nats",
        "it differs by 0.046 nats between the halves of the run",
        "9 round trips in 8 ladders",
        "at least 25% of the exchanges are accepted",
    ]
    assert good().verdict == f"no disagreement found: {', '.join(diagnosis._facts(good()))}"


@pytest.fixture(scope="module")
def slow():
    """Return p^8 of four rare texts that outweigh 300 common ones, and its log Z."""
    joint = torch.zeros(1, 5, 300, dtype=torch.float64)
    for i, mass in enumerate((0.0076, 0.0071, 0.0064, 0.0059)):
        joint[0, i, i] = mass
    joint[0, 4] = (1 - joint.sum()) / 300 * (1 + torch.linspace(-0.1, 0.1, 300, dtype=torch.float64))
    table = Table(joint)
    return LogLinear.temperature(table.autoregressive(), 1 / 8), float(joint.pow(8).sum().log())


def run(law):
    return arguide.sample_ladder(law, 16, 2, sweeps=60, burn_in=30, generator=seeded(4))


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
    noise = torch.randn(4000, 50, generator=seeded(), dtype=torch.float64)
    rows = [noise[0] / math.sqrt(1 - rho**2)]
    for row in noise[1:]:
        rows.append(rho * rows[-1] + row)
    assert correlation_time(torch.stack(rows)) == pytest.approx((1 + rho) / (1 - rho), rel=0.15)


def test_ladders_that_stay_apart_count_as_slow():
    noise = torch.randn(100, 8, generator=seeded(), dtype=torch.float64)
    assert correlation_time(noise) < 1.5
    assert correlation_time(noise + 3 * torch.arange(8)) > 50
    assert correlation_time(torch.ones(100, 8)) == 1
