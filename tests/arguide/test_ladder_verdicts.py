"""The verdict on a run of a ladder doubts what exceeds a limit, and states what it measured."""

import math

import pytest
import torch

import arguide
from analysis import MarkovChain, Table
from arguide import LogLinear
from arguide.ladder import diagnosis


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
