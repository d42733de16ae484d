import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.linalg import sqrtm
from torch.distributions import MultivariateNormal, kl_divergence

from analysis import GaussianPair, GaussianSequence, Table
from analysis.toys import Gaussian
from analysis.toys.gaussian import diffused, kl, sequential_tilt, tilt, w2

A = Gaussian(torch.tensor([0.5, -0.3]).double(), torch.tensor([[1.0, 0.4], [0.4, 0.7]]).double())
B = Gaussian(torch.tensor([-0.2, 0.4]).double(), torch.tensor([[1.6, -0.3], [-0.3, 1.2]]).double())


def on_grid(points=201, reach=12.0):
    """Return a table whose labels 0 and 1 are the Gaussians A and B in cells of a grid, and the axis."""
    axis = torch.linspace(-reach, reach, points, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    densities = [MultivariateNormal(law.mean, law.covariance).log_prob(x).reshape(points, points) for law in (A, B)]
    return Table.from_log(torch.stack(densities)), axis


def moments(axis, probabilities):
    x, p = torch.cartesian_prod(axis, axis), probabilities.flatten()
    mean = p @ x
    return mean, (x - mean).T @ (p[:, None] * (x - mean))


@pytest.mark.parametrize("scale", [-0.1, 0.4, 2.5])
def test_both_tilts_are_those_of_quadrature_in_two_dimensions(scale):
    (table, axis), weights = on_grid(), [scale, 1 - scale]
    log_p, log_z = table.log_joint(dict(enumerate(weights)))
    log_q, log_normalizers = table.log_sequential(dict(enumerate(weights)))
    joint, sequential = tilt([A, B], weights), sequential_tilt([A, B], weights)
    for law, log_law in ((joint.law, log_p), (sequential.law, log_q)):
        mean, covariance = moments(axis, log_law.exp())
        torch.testing.assert_close(law.mean, mean, rtol=0, atol=1e-6)
        torch.testing.assert_close(law.covariance, covariance, rtol=0, atol=1e-6)
    assert joint.log_normalizer.item() == pytest.approx(log_z.item(), abs=1e-6)
    expected = [log_normalizers[0].item(), (log_q.exp().sum(1) * log_normalizers[1]).sum().item()]
    assert sequential.log_normalizers.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_gaussian_kl_is_log_z_minus_expected_normalizers(scale):
    pair = GaussianSequence(6)
    joint, sequential = pair.joint_guided(1.0, scale), pair.sequential_guided(1.0, scale)
    gap = joint.log_normalizer - sequential.log_normalizers.sum()
    assert kl(sequential.law, joint.law).item() == pytest.approx(gap.item(), abs=1e-9)
    assert gap > 1e-3


@pytest.mark.parametrize("sigma", [0.0, 0.7])
def test_autograd_of_the_log_density_is_the_joint_score(sigma):
    law = GaussianSequence(5).law(1.0)
    x = torch.randn((7, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    (score,) = torch.autograd.grad(law.log_density(x, sigma).sum(), x)
    noised = law.covariance + sigma**2 * torch.eye(5, dtype=torch.float64)
    expected = -(x.detach() - law.mean) @ torch.linalg.inv(noised)
    torch.testing.assert_close(score, expected)
    torch.testing.assert_close(law.score(x.detach(), sigma), expected)
    oracle = MultivariateNormal(law.mean, noised).log_prob(x.detach())
    torch.testing.assert_close(law.log_density(x, sigma).detach(), oracle)


def test_the_sequence_has_the_covariances_of_its_definition():
    cond, uncond = GaussianSequence(3).law(2.0), GaussianSequence(3).law()
    assert cond.mean.tolist() == [2.0] * 3
    torch.testing.assert_close(cond.covariance[0], torch.tensor([1.0, 0.7, 0.49]).double())
    torch.testing.assert_close(uncond.covariance, cond.covariance + 1)


# One dimension: cond N(m, a), uncond N(0, b). Closed forms, at other numbers than the printed ones as well.


def ended(pair, scale, noise, temperature=1.0):
    """Return the law in which guided diffusion ends."""
    return diffused([pair.law(), pair.law(1.0)], [(1 - scale) / temperature, scale / temperature], noise)


SCALARS = [(1.0, 1.0, 2.0, 2.0), (0.7, 0.6, 1.7, 3.0), (-1.3, 1.4, 0.9, 1.5), (0.4, 0.8, 2.5, 0.6)]


def ode(m, a, b, g):
    integral = quad(lambda t: (a + t) ** (-1 - g / 2) * (b + t) ** (-(1 - g) / 2), 0, math.inf)[0]
    return m * g / 2 * a ** (g / 2) * b ** ((1 - g) / 2) * integral, a**g * b ** (1 - g)


def sde(m, a, b, g):
    mean = m * b * (1 - (a / b) ** g) / (b - a)
    return mean, (a * b - a ** (2 * g) * b ** (2 - 2 * g)) / ((b - a) * (2 * g - 1))


def joint(m, a, b, g):
    precision = g / a + (1 - g) / b
    return g * m / (a * precision), 1 / precision


@pytest.mark.parametrize("numbers", SCALARS)
@pytest.mark.parametrize(("noise", "closed"), [(0.0, ode), (1.0, sde)])
def test_guided_ode_and_sde_have_their_closed_forms(numbers, noise, closed):
    law = ended(GaussianPair.scalar(*numbers[:3]), numbers[3], noise)
    assert (law.mean.item(), law.covariance.item()) == pytest.approx(closed(*numbers), rel=2e-7)
    assert law.covariance.item() != pytest.approx(joint(*numbers)[1], rel=1e-2)


@pytest.mark.parametrize(("m", "a", "b", "g"), SCALARS)
@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_guided_diffusion_of_any_noise_has_its_closed_variance(m, a, b, g, noise):
    q = 1 + noise**2
    integral = quad(lambda t: (a + t) ** (-q * g) * (b + t) ** (-q * (1 - g)), 0, math.inf)[0]
    law = ended(GaussianPair.scalar(m, a, b), g, noise)
    assert law.covariance.item() == pytest.approx(noise**2 * a ** (q * g) * b ** (q * (1 - g)) * integral, rel=1e-5)


def test_the_scalar_example_has_the_printed_numbers():
    pair = GaussianPair.scalar(1.0, 1.0, 2.0)
    printed = {0.0: (1.6232, 0.5), 1.0: (1.5, 0.58333)}
    for noise, values in printed.items():
        law = ended(pair, 2.0, noise)
        assert (law.mean.item(), law.covariance.item()) == pytest.approx(values, abs=5e-4)
    law = pair.joint_guided(0, 2.0).law
    assert (law.mean.item(), law.covariance.item()) == pytest.approx((4 / 3, 2 / 3))


@pytest.mark.parametrize("numbers", SCALARS)
def test_the_joint_tilt_is_the_limit_of_much_noise(numbers):
    pair = GaussianPair.scalar(*numbers[:3])
    law = pair.joint_guided(0, numbers[3]).law
    assert (law.mean.item(), law.covariance.item()) == pytest.approx(joint(*numbers))
    gaps = []
    for noise in (1.0, 3.0):
        noisy = ended(pair, numbers[3], noise)
        gaps.append(abs(noisy.mean - law.mean).item() + abs(noisy.covariance - law.covariance).item())
    assert gaps[1] < gaps[0] / 2


@pytest.mark.parametrize("noise", [0.0, 0.6, 1.0])
def test_without_guidance_every_noise_level_ends_in_the_law_itself(noise):
    law = diffused([A], [1.0], noise)
    torch.testing.assert_close(law.mean, A.mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(law.covariance, A.covariance, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("noise", "beta"), [(1.0, 2.0), (1.0, 0.7), (0.5, 3.0), (2.0, 0.4)])
def test_score_times_beta_in_the_sde_misses_the_tempered_variance(noise, beta):
    a = 1.7
    law = ended(GaussianPair.scalar(0.8, a, 1.0), 1.0, noise, temperature=1 / beta)
    assert law.covariance.item() == pytest.approx(noise**2 * a / ((1 + noise**2) * beta - 1), rel=1e-3)
    assert law.covariance.item() != pytest.approx(a / beta, rel=1e-2)


def test_score_times_beta_in_the_ode_collapses_from_its_start():
    a, start = 1.7, 1.7e7
    law = ended(GaussianPair.scalar(0.8, a, 1.0), 1.0, 0.0, temperature=0.5)
    assert law.covariance.item() == pytest.approx(start * (a / (a + start)) ** 2, rel=1e-3)


def test_much_noise_stays_finite():
    law = ended(GaussianPair.scalar(1.0, 1.0, 2.0), 2.0, 10.0)
    assert (law.mean.item(), law.covariance.item()) == pytest.approx(joint(1.0, 1.0, 2.0, 2.0), rel=2e-2)


@pytest.mark.parametrize(("noise", "tau"), [(0.5, 3.0), (1.0, 2.0), (1.0, 3.0)])
def test_a_temperature_without_a_limit_is_refused(noise, tau):
    # (1 + λ²)/τ ≤ 1: the variance grows with σ_max without bound.
    with pytest.raises(ValueError, match=r"temperature|limit|improper"):
        ended(GaussianPair.scalar(0.8, 1.7, 1.7), 1.0, noise, temperature=tau)


def test_the_autoregressive_gap_is_the_smallest_at_scale_3():
    gaps = []
    for length in (1, 3, 8):
        pair = GaussianSequence(length)
        target = pair.joint_guided(1.0, 3.0).law
        families = [pair.sequential_guided(1.0, 3.0).law, *(ended(pair, 3.0, noise) for noise in (0.0, 1.0))]
        gaps.append([w2(law, target).item() for law in families])
    gaps = np.array(gaps)
    assert gaps[0, 0] == pytest.approx(0, abs=1e-7)
    assert (np.diff(gaps, axis=0) > 0).all()
    assert (gaps[:, :1] < gaps[:, 1:]).all()


def test_joint_and_sequential_temperature_agree_for_gaussians():
    pair = GaussianSequence(5)
    laws = pair.joint_guided(1.0, 1.0, temperature=0.4).law, pair.sequential_guided(1.0, 1.0, temperature=0.4).law
    for law in laws:
        torch.testing.assert_close(law.covariance, 0.4 * pair.cond.covariance)
        torch.testing.assert_close(law.mean, torch.ones(5).double())


def test_distances_between_gaussians_are_the_closed_forms():
    root = sqrtm(sqrtm(A.covariance) @ B.covariance.numpy() @ sqrtm(A.covariance)).real
    squared = ((A.mean - B.mean) ** 2).sum() + (A.covariance + B.covariance).trace() - 2 * np.trace(root)
    assert w2(A, B).item() == pytest.approx(math.sqrt(squared))
    assert w2(A, B).item() == pytest.approx(w2(B, A).item())
    assert w2(A, A).item() == pytest.approx(0, abs=1e-7)
    expected = kl_divergence(*(MultivariateNormal(law.mean, law.covariance) for law in (A, B)))
    assert kl(A, B).item() == pytest.approx(expected.item())


def test_an_improper_gaussian_tilt_is_refused():
    pair = GaussianPair.scalar(1.0, 2.0, 1.5)
    for guided in (pair.joint_guided, pair.sequential_guided):
        with pytest.raises(ValueError, match="improper tilt"):
            guided(0, 5.0)
    assert ended(pair, 5.0, 0.0).covariance.item() == pytest.approx(ode(1.0, 2.0, 1.5, 5.0)[1], rel=1e-4)
