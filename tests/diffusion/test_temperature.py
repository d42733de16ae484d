"""Theory B3: data N(m, a), target N(m, a/β); every law is read off the sampler exactly."""

import math
from functools import partial

import pytest
import torch

from analysis.toys.gaussian import Gaussian
from diffusion import LogLinear, edm, gaussian_correction, geometric, heun, scaled, sde


@pytest.fixture
def toy():
    tensor = partial(torch.tensor, dtype=torch.float64)
    return lambda mean, variance: Gaussian(tensor([mean]), tensor([[variance]])).score


CASES = [(0.7, 3.0), (1.8, 0.6), (1.3, 1.7)]  # a, β


def variance(law):
    return float(law.covariance)


@pytest.mark.parametrize(("a", "beta"), CASES)
@pytest.mark.parametrize("sigma_max", [30.0, 3000.0])
def test_a_scaled_score_in_the_ode_has_a_variance_that_depends_on_the_grid(toy, sampled_law, a, beta, sigma_max):
    law = sampled_law(scaled(toy(0.0, a), beta), geometric(400, 1e-3, sigma_max))
    assert variance(law) == pytest.approx(sigma_max**2 * (a / (a + sigma_max**2)) ** beta, rel=0.02)
    assert variance(law) != pytest.approx(a / beta, rel=0.1)


@pytest.mark.parametrize(("a", "beta", "noise"), [(0.7, 3.0, 1.0), (1.8, 0.8, 1.3), (1.3, 1.7, 0.7)])
def test_a_scaled_score_in_the_sde_has_too_small_a_variance(toy, sampled_law, a, beta, noise):
    law = sampled_law(scaled(toy(0.0, a), beta), edm(200, 1e-2, 300.0), step=sde(noise))
    assert variance(law) == pytest.approx(noise**2 * a / ((1 + noise**2) * beta - 1), rel=0.06)
    assert variance(law) != pytest.approx(a / beta, rel=0.15)


@pytest.mark.parametrize("noise", [1.0, 1.5])
@pytest.mark.parametrize(("a", "factor"), [(0.7, 0.5), (1.8, 1.3)])
def test_scaled_noise_in_the_sde_scales_the_variance_of_a_gaussian_by_its_square(toy, sampled_law, a, factor, noise):
    law = sampled_law(toy(0.0, a), edm(200, 1e-2, 300.0), step=sde(noise, noise_scale=factor))
    assert variance(law) == pytest.approx(factor**2 * a, rel=0.02)
    unscaled = sampled_law(toy(0.0, a), edm(200, 1e-2, 300.0), step=sde(noise))
    assert variance(unscaled) == pytest.approx(a, rel=0.02)


@pytest.mark.parametrize(("a", "beta"), CASES)
@pytest.mark.parametrize("noise", [0.0, 0.6, 1.0, 2.0])
def test_the_gaussian_correction_reaches_the_tempered_law_at_every_noise_level(toy, sampled_law, a, beta, noise):
    field = gaussian_correction(toy(-1.2, a), beta, a)
    step = sde(noise) if noise else heun
    law = sampled_law(field, geometric(200, 1e-3, 3000.0), step=step, total_weight=1.0)
    assert float(law.mean) == pytest.approx(-1.2, abs=6e-3)
    assert variance(law) == pytest.approx(a / beta, rel=0.015)


@pytest.mark.parametrize(("a", "beta"), CASES)
def test_the_gaussian_correction_is_the_score_of_the_noised_tempered_law(toy, a, beta):
    x = torch.linspace(-4, 4, 9, dtype=torch.float64)[:, None]
    for sigma in torch.tensor([0.0, 0.3, 2.0, 50.0], dtype=torch.float64):
        corrected = gaussian_correction(toy(0.6, a), beta, a)(x, sigma)
        torch.testing.assert_close(corrected, toy(0.6, a / beta)(x, sigma), rtol=1e-9, atol=1e-9)


def test_the_gaussian_correction_tempers_by_a_known_factor_where_the_score_is_isotropic(sampled_law):
    covariance = 0.9 * torch.eye(3, dtype=torch.float64)
    data = Gaussian(torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64), covariance)
    law = sampled_law(gaussian_correction(data.score, 2.5, 0.9), geometric(200, 1e-3, 3000.0), dim=3)
    torch.testing.assert_close(law.covariance, covariance / 2.5, rtol=0, atol=4e-3)
    torch.testing.assert_close(law.mean, data.mean, rtol=0, atol=4e-3)


@pytest.mark.parametrize(
    ("a", "beta", "noise"), [(1.8, 0.6, 0.5), (1.8, 0.6, 1.0), (1.3, 1.7, 1.0), (0.6, 1.4, 1.0), (1.3, 1.7, 2.0)]
)
def test_weights_reach_the_tempered_law_at_every_noise_level(toy, weighted_law, a, beta, noise):
    law = weighted_law(LogLinear((toy(-1.2, a),), (beta,)), edm(80, 0.02, 30.0), noise=noise)
    assert float(law.mean) == pytest.approx(-1.2, abs=0.015)
    assert variance(law) == pytest.approx(a / beta, rel=0.02)


@pytest.mark.parametrize(("a", "beta"), [(1.8, 0.6), (1.3, 1.7), (0.6, 1.4)])
def test_weights_find_the_mass_of_a_power_of_the_density(toy, weighted_law, a, beta):
    law = weighted_law(LogLinear((toy(-1.2, a),), (beta,)), edm(80, 0.02, 30.0))
    mass = ((1 - beta) * math.log(2 * math.pi * a) - math.log(beta)) / 2
    assert law.log_evidence == pytest.approx(mass, abs=0.03)
    for wrong in (1.0, 2 - beta):
        assert law.log_evidence != pytest.approx(((1 - wrong) * math.log(2 * math.pi * a) - math.log(wrong)) / 2, abs=0.06)
