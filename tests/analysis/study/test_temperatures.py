"""The ways to lower the temperature of learned scores, on Gaussian data whose denoiser is exact."""

from itertools import islice

import pytest
import torch

from analysis.study import temperatures

VARIANCE = 0.05  # images are clamped at ±1, 4.5 standard deviations


class Exact:
    """E[x_0 | x, σ] of N(0, VARIANCE), under every label."""

    labels, shape = 1, (1,)

    def __call__(self, x, sigma, label=None):
        return x * VARIANCE / (VARIANCE + sigma**2)


def samples(beta):
    ways = temperatures.denoising(Exact(), beta, 20_000, torch.Generator().manual_seed(0))
    return {name: drawn.rows.double() for name, drawn in islice(ways, 3)}


def test_temperatures_fall_from_that_of_the_model():
    assert temperatures.BETAS[0] == 1
    assert sorted(set(temperatures.BETAS)) == list(temperatures.BETAS)


@pytest.mark.parametrize("beta", [2.0, 4.0])
def test_scaled_noise_divides_a_variance_by_beta(beta):
    """The sampler is linear and starts as narrow, so with the same normals every sample is as much smaller."""
    plain, found = samples(1.0), samples(beta)
    assert float(plain[temperatures.NOISE].var()) == pytest.approx(VARIANCE, rel=0.15)
    torch.testing.assert_close(found[temperatures.NOISE] * beta**0.5, plain[temperatures.NOISE], atol=1e-5, rtol=0)
    assert float(found[temperatures.ODE].var()) < 0.5 * VARIANCE / beta  # the naive rule is too narrow
