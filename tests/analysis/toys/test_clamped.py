"""The clamped ratio against plain loops."""

import math

import numpy as np
import pytest
import torch

import arguide
from analysis import Table
from analysis.toys.clamped import Clamped
from arguide import LogLinear


def pair(joint):
    """Return the conditional law of label 0 and an unconditional law that is no mixture: label 1's."""
    table = Table(joint)
    return LogLinear.guidance(table.autoregressive(0), table.autoregressive(1), 2.0)


def clamped_law(joint, scale, bound):
    """Return the sequential law, [V_1, …, V_T], token by token in plain loops."""
    cond, uncond = joint[0] / joint[0].sum(), joint[1] / joint[1].sum()
    law = np.zeros(cond.shape)
    for x in np.ndindex(cond.shape):
        mass, running = 1.0, 0.0
        for t in range(cond.ndim):
            rows = []
            for p in (cond, uncond):
                ahead = p[x[:t]].reshape(cond.shape[t], -1).sum(1)
                rows.append(ahead / ahead.sum())
            gains = np.minimum(np.log(rows[0] / rows[1]), bound - running)
            token = rows[0] * np.exp((scale - 1) * gains)
            mass *= token[x[t]] / token.sum()
            running += gains[x[t]]
        law[x] = mass
    return law


@pytest.mark.parametrize("bound", [0.3, 1.0])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_clamped_law_is_that_of_plain_loops(make_joint, replay, scale, bound):
    joint = make_joint(4, (2, 2, 3, 2))
    model = Clamped(pair(joint), scale, bound)
    law = replay(lambda draw: arguide.sample(model, 1, 3, draw=draw).tokens, (2, 3, 2))
    np.testing.assert_allclose(law, clamped_law(joint, scale, bound), atol=1e-12)


def test_without_a_bound_it_is_plain_guidance_and_with_one_it_is_not(make_joint, brute, replay):
    joint = make_joint(4, (2, 2, 3, 2))
    plain = brute(joint, {0: 3.0, 1: -2.0}).sequential
    free, bound = (
        replay(lambda draw, b=b: arguide.sample(Clamped(pair(joint), 3.0, b), 1, 3, draw=draw).tokens, (2, 3, 2))
        for b in (math.inf, 0.3)
    )
    np.testing.assert_allclose(free, plain, atol=1e-12)
    assert abs(bound - plain).max() > 0.01


def test_the_running_ratio_stays_below_the_bound_and_follows_its_row(make_joint):
    joint = make_joint(4, (2, 3, 3, 3))
    model = Clamped(pair(joint), 3.0, 0.5)
    arguide.check_law(model)
    state = model.start(3)
    for token in torch.tensor([[0, 1, 2], [2, 0, 1]]):
        state = model.append(state, token)
        assert (state.log_ratio <= 0.5 + 1e-12).all()
    chosen = model.select(state, torch.tensor([2, 0, 0]))
    assert torch.equal(chosen.log_ratio, state.log_ratio[[2, 0, 0]])
    assert len(set(state.log_ratio.tolist())) == 3
