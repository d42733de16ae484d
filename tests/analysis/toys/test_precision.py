"""Exact laws beyond float64 are refused; large scales within it have the limit law."""

import json
import math

import numpy as np
import pytest

from analysis import MarkovChain, Table
from analysis.metrics import scale_factors

UNIFORM = np.full((2, 2, 3), 1 / 12)
LAW = np.array([[[0.3, 0.1], [0.05, 0.15]], [[0.05, 0.1], [0.15, 0.1]]])
TIED = np.array([[[0.2, 0.2], [0.05, 0.05]], [[0.1, 0.1], [0.15, 0.15]]])


@pytest.mark.parametrize("scale", [1e11, 1e17, 1e300, -1e300, 1e308, -1e12])
@pytest.mark.parametrize("table", [UNIFORM, TIED], ids=["uniform", "tied"])
def test_a_scale_beyond_float64_is_refused(fails, tmp_path, table, scale):
    np.save(tmp_path / "t.npy", table)
    err = fails("exact", tmp_path / "t.npy", "--label", 0, "--scale", scale)
    assert "float64" in err or "precision" in err


@pytest.mark.parametrize("temperature", [1e-12, 1e-100, 1e-300])
def test_a_temperature_beyond_float64_is_refused(fails, tmp_path, temperature):
    np.save(tmp_path / "t.npy", TIED)
    err = fails("exact", tmp_path / "t.npy", "--label", 0, "--scale", 2, "--temperature", temperature)
    assert "float64" in err or "precision" in err


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0, 1e3, 1e6, -5.0])
def test_a_uniform_table_stays_uniform_at_every_scale(run, tmp_path, scale):
    np.save(tmp_path / "t.npy", UNIFORM)
    code, out, _ = run("exact", tmp_path / "t.npy", "--label", 0, "--scale", scale, "--json")
    found = json.loads(out)
    assert code == 0
    for name in ("log_z", "tv", "kl_sequential_joint", "kl_joint_sequential"):
        assert found[name] == pytest.approx(0.0, abs=1e-6)
    assert found["entropy_joint"] == pytest.approx(math.log(6))


@pytest.mark.parametrize("scale", [1e4, 1e8, 1e12, 1e100])
def test_a_clear_winner_has_all_the_mass_at_any_scale(scale):
    joint, (sequential, _) = Table(LAW).joint_guided(0, scale), Table(LAW).sequential_guided(0, scale)
    gain = np.log(LAW[0] / LAW[0].sum()) - np.log(LAW.sum(0))
    assert joint.probabilities.flatten().argmax() == gain.argmax()
    assert joint.probabilities.amax() == pytest.approx(1.0)
    assert sequential.amax() == pytest.approx(1.0)


def test_a_summary_is_bounded_or_refused():
    rng = np.random.default_rng(0)
    for scale in 10.0 ** np.arange(0, 300, 7):
        joint = rng.dirichlet(np.ones(8)).reshape(2, 2, 2).round(2) + 0.01
        try:
            found = scale_factors.summary(Table(joint / joint.sum()), 1, float(scale))
        except ValueError:
            continue
        assert 0 <= found["tv"] <= 1 + 1e-9
        assert (found["kl_sequential_joint"] < 1e-9) == (found["kl_joint_sequential"] < 1e-9) == (found["tv"] < 1e-9)


def test_a_chain_beyond_float64_is_refused():
    chain = MarkovChain(np.full((2, 2), 0.5), np.full((2, 2, 2), 0.5), 3)
    assert chain.joint_guided(0, 1e6).marginals().allclose(chain.log_law().marginals())
    for law in (chain.joint_guided, chain.sequential_guided):
        with pytest.raises(ValueError, match="float64"):
            law(0, 1e300)
