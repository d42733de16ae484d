"""The rows of acceptance in "one law, every family": exact numbers by loops, shares and distances of draws, and controls."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import Table
from analysis.experiments import families, family_tables, samplers
from analysis.experiments.coherence import acceptance
from analysis.experiments.samplers import LABEL, Case
from analysis.metrics.confidence import by_family
from analysis.toys.autoregressive import law_of
from analysis.toys.example_tables import coupled_table


def by_loops(joint, scale):
    """Return A, KL(joint ‖ p(x|y)) and the total variation of a table [y, x_1, …] in probability space."""
    cond, posterior = (joint[LABEL] / joint[LABEL].sum()).flatten(), (joint[LABEL] / joint.sum(0)).flatten()
    base, power = (cond, scale - 1) if scale >= 1 else (joint.sum(0).flatten(), scale)
    kept = [p * rho**power for p, rho in zip(base, posterior, strict=True)]
    tilt = [each / sum(kept) for each in kept]
    kl = sum(t * math.log(t / c) for t, c in zip(tilt, cond, strict=True))
    return sum(kept), kl, sum(abs(t - c) for t, c in zip(tilt, cond, strict=True)) / 2


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_what_acceptance_bounds_is_exact_and_bounded(make_joint, scale):
    joint = make_joint(4, (2, 3, 2))
    found = [float(each) for each in acceptance.exact(Table(joint), scale).values()]
    np.testing.assert_allclose(found, by_loops(joint, scale), atol=1e-12)
    if scale >= 1:
        assert found[1] <= -math.log(found[0]) + 1e-12
        assert found[2] <= 1 - found[0] + 1e-12


def test_a_model_is_read_along_every_branch(make_joint, brute):
    joint = make_joint(4, (2, 3, 2, 3))
    table = Table(joint)
    law = law_of(acceptance.mixture(table).guidance(LABEL, 3.0), table.shape).exp()
    np.testing.assert_allclose(law, brute(joint, {LABEL: 3.0, None: -2.0}).sequential, atol=1e-12)
    swapped = law_of(acceptance.mixture(Table(joint[::-1].copy())).guidance(LABEL, 3.0), table.shape).exp()
    assert abs(swapped - law).max() > 0.01


@pytest.fixture(scope="module")
def measured():
    table = coupled_table(2)
    case = Case(table.mixture(), 3.0, 2, 500, 4, torch.Generator().manual_seed(2))
    grid = samplers.points_grid(50, to_zero=True)
    return pd.DataFrame(acceptance.measure(case, case._replace(batches=8), table, grid))


def test_every_sampler_accepts_the_exact_share(measured):
    """Normal intervals of 4.5 standard errors: false alarms below 1e-5; paths of 50 steps may add .03."""
    shares = measured[measured["quantity"] == "acceptance"].set_index("family")
    exact = shares.loc["exact", "value"]
    for family, bias in ((acceptance.TOKENS, 0.0), (acceptance.DATA, 0.02), (acceptance.PATHS, 0.03)):
        assert abs(shares.loc[family, "value"] - exact) < 4.5 * shares.loc[family, "std_error"] + bias
        assert 0 < shares.loc[family, "std_error"] < 0.02
    assert abs(acceptance.exact(coupled_table(2), 2.0)["acceptance"] - exact) > 0.15  # what a wrong exponent would keep


def test_accepted_draws_are_of_the_joint_law_and_sequential_ones_are_not(measured):
    """500 exact draws on 9 cells have a mean distance below .05, which no batch mean of 4 exceeds by .03 in 1e6."""
    tv = measured[measured["quantity"] == "tv"].set_index("family")["value"]
    assert (tv[list(acceptance.FAMILIES)] < 0.08).all()
    assert tv[acceptance.COHERENT_DRAWN] > 0.1
    sequential = coupled_table(2)
    log_joint, log_q = sequential.joint_guided(LABEL, 3.0)[0], sequential.sequential_guided(LABEL, 3.0)[0]
    assert tv[acceptance.COHERENT] == pytest.approx(float((log_joint - log_q).abs().sum() / 2), abs=1e-12)


def test_the_chapter_has_the_rows_and_says_why_the_sequential_laws_agree():
    effort = families.Effort(200, 2, 12, 2, (3.0,), (2,), (2,), (2,))
    rows = pd.DataFrame(families._table(2, 3.0, effort, torch.Generator().manual_seed(0)))
    assert set(acceptance.FAMILIES) <= set(family_tables.REACHING)
    tv = by_family(rows[rows["quantity"] == "tv"])
    told = acceptance.sentence(rows, tv, families.AR)
    assert "because a table is a coherent pair" in told
    assert tv[acceptance.COHERENT].value == pytest.approx(tv[families.AR].value, abs=1e-12)
