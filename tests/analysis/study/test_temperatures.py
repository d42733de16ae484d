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


def variances(beta):
    ways = temperatures.denoising(Exact(), beta, 20_000, torch.Generator().manual_seed(0))
    return {name: float(drawn.rows.double().var()) for name, drawn in islice(ways, 3)}


@pytest.mark.parametrize("beta", [2.0, 4.0])
def test_scaled_noise_divides_a_variance_by_beta(beta):
    """The sampler is linear, so with the same normals its own bias cancels in the ratio."""
    plain, found = variances(1.0), variances(beta)
    assert plain[temperatures.NOISE] == pytest.approx(VARIANCE, rel=0.15)
    assert found[temperatures.NOISE] == pytest.approx(plain[temperatures.NOISE] / beta, rel=1e-3)
    assert found[temperatures.ODE] < 0.5 * VARIANCE / beta  # the naive rule is too narrow
