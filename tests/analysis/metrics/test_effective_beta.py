"""The effective β: the nearest power by brute force, closed forms, and its interval."""

import math

import numpy as np
import pytest
import torch

from analysis import GaussianMixture
from analysis.metrics.confidence import Estimate
from analysis.metrics.temperature.effective_beta import effective_beta, estimated, of_cells, of_gaussian

RNG = np.random.default_rng(4)
P, Q = RNG.dirichlet(np.full(7, 0.7)), RNG.dirichlet(np.full(7, 0.7))


def power(beta):
    found = [p**beta for p in P]
    return [each / sum(found) for each in found]


def kl(q, p):
    return sum(a * math.log(a / b) for a, b in zip(q, p, strict=True))


def entropy(q):
    return -sum(a * math.log(a) for a in q)


def likelihood(q):
    return sum(a * math.log(b) for a, b in zip(q, P, strict=True))


@pytest.fixture(scope="module")
def colder():
    """A law that is likelier than P and no power of it."""
    return [0.7 * a + 0.3 * b for a, b in zip(power(2.0), Q, strict=True)]


def test_it_is_the_nearest_power(colder):
    beta = effective_beta(of_cells(torch.tensor(P).log()), likelihood(colder))
    grid = np.linspace(0.2, 5, 4801)
    assert beta == pytest.approx(grid[np.argmin([kl(colder, power(each)) for each in grid])], abs=2e-3)
    assert beta != pytest.approx(2.0, abs=0.05)


def test_at_equal_likelihood_the_power_has_more_entropy_by_the_divergence(colder):
    beta = effective_beta(of_cells(torch.tensor(P).log()), likelihood(colder))
    assert entropy(power(beta)) - entropy(colder) == pytest.approx(kl(colder, power(beta)), abs=1e-8)
    assert kl(colder, power(beta)) > 0.01


@pytest.mark.parametrize("beta", [0.05, 1.0, 1.7, 40.0])
def test_a_power_reaches_its_own_beta(beta):
    assert effective_beta(of_cells(torch.tensor(P).log()), likelihood(power(beta))) == pytest.approx(beta, rel=1e-6)


@pytest.mark.parametrize(("beta", "low", "high"), [(1.7, 1.0, math.e), (0.5, 1 / math.e, 1.0)])
def test_no_power_is_asked_for_that_is_farther_from_1_than_needed(beta, low, high):
    mean, asked = of_cells(torch.tensor(P).log()), []
    effective_beta(lambda each: asked.append(each) or mean(each), likelihood(power(beta)))
    assert low <= min(asked) <= max(asked) <= high


def test_a_likelihood_that_is_lower_by_rounding_has_the_same_beta():
    mean = of_cells(torch.tensor(P).log())
    assert effective_beta(mean, mean(1.0) - 5e-11) == pytest.approx(1.0)


def test_the_ends_of_the_range():
    mean = of_cells(torch.tensor(P).log())
    assert effective_beta(mean, math.log(P.max())) == math.inf
    assert effective_beta(mean, float(np.log(P).mean()) - 0.1) == 0.0
    with pytest.raises(ValueError, match="a number, got nan"):
        effective_beta(mean, math.nan)


@pytest.mark.parametrize(("variance", "drawn"), [(1.0, 0.5), (2.0, 3.0), (0.3, 1e-6)])
def test_of_a_gaussian_it_is_the_ratio_of_variances(variance, drawn):
    law = GaussianMixture([[0.0]], [variance], [1.0])
    x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64) * drawn**0.5
    found = effective_beta(of_gaussian(variance), float(law.log_density(x).mean()))
    assert found == pytest.approx(variance / drawn, rel=1e-5)


def test_cells_of_a_fine_grid_are_a_density():
    x = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    log_p = GaussianMixture([[0.0]], [1.3], [1.0]).log_density(x[:, None])
    assert of_cells(log_p)(2.5) == pytest.approx(of_gaussian(1.3)(2.5), abs=1e-8)


def test_the_error_is_that_of_the_likelihood():
    mean, half = of_gaussian(1.0), 1e-4
    found = estimated(mean, Estimate(mean(2.0), half, 5.0))
    ends = [effective_beta(mean, mean(2.0) + sign * half) for sign in (1, -1)]
    assert found.std_error == pytest.approx((ends[0] - ends[1]) / 2, rel=1e-3)
    assert found.freedom == 5.0
    assert estimated(of_cells(torch.tensor(P).log()), Estimate(0.0, 0.1, 5.0)).std_error == math.inf
