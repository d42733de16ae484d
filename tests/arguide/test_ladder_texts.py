"""The texts of a ladder and their densities: rare, excluded and dead ones; and shares of many levels that balance."""

import math

import numpy as np
import pytest
import torch

import arguide
from analysis import Table
from arguide import LogLinear
from arguide.ladder import estimates, sampling
from arguide.ladder.sampling import _drawn
from arguide.ladder.texts import Levels
from arguide.smc.draws import torch_categorical

U = torch.tensor([0.0, 0.5, 1.0]).double()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def product():
    """Return p_0 p_1 of two laws of which one excludes what follows the token 1 in the other, and the mass of each pair."""
    joint = torch.tensor([[[0.1, 0.3], [0.0, 0.6]], [[0.2, 0.3], [0.5, 0.0]]]).double()
    table = Table(joint / 2)
    return LogLinear((table.autoregressive(0), table.autoregressive(1)), (1.0, 1.0)), joint[0] * joint[1]


def test_texts_without_a_next_token_have_no_mass(product):
    law, mass = product
    ladder = arguide.sample_ladder(law, 40, 2, levels=3, sweeps=20, burn_in=4, generator=seeded())
    assert float(ladder.log_evidence) == pytest.approx(math.log(mass.sum()), abs=0.1)
    assert (ladder.x[:, 0] == 0).all()


def test_the_densities_are_those_of_the_tokens(product):
    law, mass = product
    ladder = arguide.sample_ladder(law, 4, 2, levels=2, sweeps=4, burn_in=2, generator=seeded())
    torch.testing.assert_close(ladder.log_target.sum(1).exp(), mass[ladder.x[:, 0], ladder.x[:, 1]])


def test_texts_are_drawn_once_if_all_are_possible(make_joint):
    table, calls = Table(make_joint(3, (2, 2, 2))), []
    levels = Levels(LogLinear((table.autoregressive(0), table.autoregressive()), (2.0, -1.0)), 2, 0, U)
    draw = torch_categorical(seeded())
    assert len(_drawn(levels, 8, lambda law: calls.append(1) or draw(law)).tokens) == 8
    assert len(calls) == 2


def test_the_shares_of_many_levels_balance():
    """Levels that hardly overlap take more steps of the optimiser than its own limit allows."""
    u = torch.linspace(0, 1, 20).double()
    ratios = torch.stack([100 * each + 4 * torch.randn(200, generator=seeded(i)).double() for i, each in enumerate(u)])
    densities = u * ratios.flatten()[:, None]
    log_z = estimates._balanced(densities)
    shares = (densities - log_z).softmax(1).mean(0)
    torch.testing.assert_close(shares, torch.full_like(shares, 1 / 20), atol=1e-6, rtol=0)


def test_texts_of_the_target_are_in_the_order_of_the_ladders(monkeypatch):
    states, run = [], sampling.run
    monkeypatch.setattr(sampling, "run", lambda *given: states.append(run(*given)) or states[-1])
    table = Table(np.random.default_rng(0).dirichlet(np.ones(54)).reshape(2, 3, 3, 3))
    law = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 2.0)
    ladder = sampling.sample_ladder(law, 8, 3, levels=4, sweeps=4, burn_in=8, generator=torch.Generator().manual_seed(0))
    state, tokens = states[-1][0], states[-1][0].texts.tokens.view(3, 8, 3)
    assert len(set(state.level.argmax(0).tolist())) > 1
    assert ladder.tokens.tolist() == [tokens[place, i].tolist() for i, place in enumerate(state.level.argmax(0))]
