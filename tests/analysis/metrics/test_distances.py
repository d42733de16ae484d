import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy, norm, wasserstein_distance

from analysis.metrics import distances

P = np.array([0.5, 0.2, 0.3, 0.0])
Q = np.array([0.1, 0.6, 0.2, 0.1])


def log(p):
    return torch.from_numpy(p).log()


def test_distances_agree_with_scipy():
    assert distances.kl(log(P), log(Q)).item() == pytest.approx(entropy(P, Q))
    assert distances.entropy(log(P)).item() == pytest.approx(entropy(P))
    assert distances.tv(log(P), log(Q)).item() == pytest.approx(0.5)


def test_kl_is_infinite_where_mass_is_missed_and_zero_to_itself():
    assert distances.kl(log(Q), log(P)).item() == math.inf
    assert distances.kl(log(P), log(P)).item() == 0


def test_tv_is_symmetric_and_one_between_disjoint_laws():
    assert distances.tv(log(P), log(Q)) == distances.tv(log(Q), log(P))
    assert distances.tv(log(np.array([1.0, 0.0])), log(np.array([0.0, 1.0]))).item() == 1


def test_expectation_ignores_values_without_mass():
    assert distances.expectation(log(P), torch.tensor([1.0, 2.0, 3.0, -math.inf])).item() == pytest.approx(1.8)


def test_empirical_frequencies_are_weighted_and_normalised():
    cells = torch.tensor([0, 2, 2, 0])
    assert distances.empirical(cells, 4).exp().tolist() == [0.5, 0, 0.5, 0]
    weighted = distances.empirical(cells, 3, torch.tensor([1.0, 2.0, 3.0, 4.0]).log())
    assert weighted.exp().tolist() == pytest.approx([0.5, 0, 0.5])


def test_wasserstein_is_scipys():
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=200) + 0.3, rng.gamma(1.0, size=200)
    axis = np.linspace(-8, 8, 20001)
    masses = norm.pdf(axis) * (axis[1] - axis[0])
    cdf = torch.from_numpy(norm.cdf(axis))
    found = distances.wasserstein(torch.from_numpy(x), torch.from_numpy(axis), cdf, torch.from_numpy(weights / weights.sum()))
    assert found == pytest.approx(wasserstein_distance(x, axis, weights, masses), abs=2e-3)
    found = distances.wasserstein(torch.from_numpy(x), torch.from_numpy(axis), cdf)
    assert found == pytest.approx(wasserstein_distance(x, axis, v_weights=masses), abs=2e-3)


def test_the_jackknife_knows_how_draws_vary():
    """Over 40 repeats the spread of the distance agrees with its error up to a factor of 2; a law shifted by 1 is detected."""
    generator = torch.Generator().manual_seed(0)
    axis = torch.linspace(-8, 8, 801, dtype=torch.float64)
    cdf = torch.special.ndtr(axis - 1)
    half = torch.randn(40, 400, dtype=torch.float64, generator=generator) * 1.5
    found = [distances.jackknifed(torch.cat([h, -h]), axis, cdf) for h in half]
    values, errors = (torch.tensor(column) for column in zip(*found, strict=True))
    assert 0.5 < float(values.std() / errors.mean()) < 2
    assert float(values.mean()) == pytest.approx(1.0, abs=0.15)


def test_binned_total_variation_sees_a_shifted_law_and_little_of_its_own():
    generator = torch.Generator().manual_seed(0)
    axis = torch.linspace(-5, 5, 361, dtype=torch.float64)[:-1] + 5 / 360
    masses = torch.outer(*[(-(axis**2) / 2).softmax(0)] * 2)
    x = torch.randn(40_000, 2, dtype=torch.float64, generator=generator)
    own, error = distances.binned_tv(x, masses)
    assert own < 0.04
    assert error < 0.01
    moved, _ = distances.binned_tv(x + torch.tensor([1.0, 0.0]), masses)
    assert moved == pytest.approx(norm.cdf(1) - 0.5, abs=0.03)  # no bin ends at ½


def test_a_deviation_ignores_values_without_mass():
    p, value = np.array([0.2, 0.5, 0.3, 0.0]), torch.tensor([1.0, -2.0, 4.0, math.nan], dtype=torch.float64)
    expected = math.sqrt(np.cov(value[:3].numpy(), aweights=p[:3], bias=True))
    assert float(distances.deviation(torch.from_numpy(p).log(), value)) == pytest.approx(expected)
