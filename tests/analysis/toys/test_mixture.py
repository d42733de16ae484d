import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from analysis import GaussianMixture

MEANS = torch.tensor([[0.0, 0.0], [2.0, -1.0], [-1.0, 3.0]], dtype=torch.float64)
FULL = torch.tensor([[[1.0, 0.6], [0.6, 0.8]], [[0.3, -0.1], [-0.1, 0.5]], [[2.0, 0.0], [0.0, 0.2]]], dtype=torch.float64)
WEIGHTS = torch.tensor([[0.1, 0.3, 0.0], [0.2, 0.15, 0.25]], dtype=torch.float64)  # the labels share two components
VARIANCES = torch.tensor([0.5, 1.5, 0.2], dtype=torch.float64)


@pytest.fixture(params=["isotropic", "full"])
def mixture(request):
    return GaussianMixture(MEANS, VARIANCES if request.param == "isotropic" else FULL, WEIGHTS)


def oracle(mixture, sigma, label):
    covariances = FULL if mixture._axes is not None else VARIANCES[:, None, None] * torch.eye(2, dtype=torch.float64)
    weights = WEIGHTS.sum(0) if label is None else WEIGHTS[label]
    kept = weights > 0
    components = MultivariateNormal(MEANS[kept], covariances[kept] + sigma**2 * torch.eye(2, dtype=torch.float64))
    return MixtureSameFamily(Categorical(weights[kept]), components)


X = 3 * torch.randn((40, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("label", [None, 0, 1])
@pytest.mark.parametrize("sigma", [0.0, 0.3, 20.0])
def test_density_and_score_agree_with_torch_and_autograd(mixture, sigma, label):
    x = X.clone().requires_grad_()
    log_density = oracle(mixture, sigma, label).log_prob(x)
    (score,) = torch.autograd.grad(log_density.sum(), x)
    torch.testing.assert_close(mixture.log_density(X, sigma, label), log_density.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(mixture.score(X, torch.tensor(sigma, dtype=torch.float64), label), score, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("distance", [50.0, 1e4])
def test_far_away_the_score_is_finite_and_points_to_the_data(mixture, distance):
    far = distance * torch.tensor([[1.0, 0.4], [-0.7, 1.0], [0.0, -1.0]], dtype=torch.float64)
    for label in (None, 0, 1):
        assert mixture.log_density(far, 0.1, label).isfinite().all()
        score = mixture.score(far, 0.1, label)
        assert score.isfinite().all()
        assert ((score * far).sum(1) < 0).all()
    assert mixture.log_class_probability(far, 0.1).exp().sum(1).tolist() == pytest.approx([1] * 3)


def test_class_probabilities_are_bayes_rule(mixture):
    for sigma in (0.0, 1.5):
        joint = [oracle(mixture, sigma, y).log_prob(X).exp() * WEIGHTS[y].sum() for y in (0, 1)]
        expected = torch.stack(joint, 1) / sum(joint)[:, None]
        torch.testing.assert_close(mixture.log_class_probability(X, sigma).exp(), expected)


@pytest.mark.parametrize(("asked", "same"), [(1, True), (0, False)])
def test_samples_have_the_moments_and_quantiles_of_their_law(mixture, asked, same):
    # A Kolmogorov-Smirnov test on two axes, each at level 1e-5, against quadrature of the oracle's density; the control asks
    # for the other label.
    sigma, n = 0.4, 4000
    x = mixture.sample(n, sigma, asked, torch.Generator().manual_seed(1)).numpy()
    weights = (WEIGHTS[1] / WEIGHTS[1].sum()).numpy()
    covariances = FULL if mixture._axes is not None else VARIANCES[:, None, None] * torch.eye(2, dtype=torch.float64)
    least = 1.0
    for direction in (np.array([1.0, 0.0]), np.array([1.0, 1.0])):
        centre = MEANS.numpy() @ direction
        spread = np.sqrt(np.einsum("d,mde,e->m", direction, covariances.numpy(), direction) + sigma**2 * direction @ direction)
        cdf = lambda v, c=centre, s=spread: stats.norm.cdf((v[:, None] - c) / s) @ weights  # noqa: E731
        least = min(least, stats.kstest(x @ direction, cdf).pvalue)
    assert (least > 1e-5) == same


def test_one_label_a_component_is_the_diagonal_shorthand():
    short, long = (
        GaussianMixture(MEANS, VARIANCES, w) for w in (torch.tensor([0.2, 0.3, 0.5]), torch.diag(torch.tensor([0.2, 0.3, 0.5])))
    )
    torch.testing.assert_close(short.log_class_probability(X, 0.1), long.log_class_probability(X, 0.1))


def test_points_have_no_density_and_the_right_score_under_noise():
    points = GaussianMixture(torch.tensor([[-1.0], [1.0]]), torch.zeros(2), torch.tensor([0.3, 0.7]))
    x, sigma = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None], 0.6
    posterior = (
        0.7
        * torch.exp(-((x - 1) ** 2) / 0.72)
        / (0.7 * torch.exp(-((x - 1) ** 2) / 0.72) + 0.3 * torch.exp(-((x + 1) ** 2) / 0.72))
    )
    torch.testing.assert_close(points.score(x, sigma), (2 * posterior - 1 - x) / sigma**2)
    with pytest.raises(ValueError, match="sigma must be positive"):
        points.log_density(x, 0.0)
    assert points.nearest(torch.tensor([[0.2], [-7.0]], dtype=torch.float64)).tolist() == [1, 0]


def moments(axis, mass):
    mean = (axis * mass).sum()
    return mean.item(), ((axis - mean) ** 2 * mass).sum().item()


def test_the_joint_tilt_of_two_unit_gaussians_has_its_printed_moments():
    mixture = GaussianMixture(torch.tensor([[1.0], [-1.0]]), torch.ones(2), torch.tensor([0.5, 0.5]))
    (axis,) = mixture.axes()
    mean, variance = moments(axis, mixture.joint_guided(0, 2.0).probabilities)
    assert (mean, variance) == pytest.approx((1.2900, 0.7443), abs=5e-5)


@pytest.mark.parametrize("scale", [-0.4, 0.5, 3.0])
def test_the_joint_tilt_is_that_of_adaptive_quadrature(scale):
    from scipy.integrate import quad

    mixture = GaussianMixture(torch.tensor([[1.5], [-0.5]]), torch.tensor([0.6, 0.9]), torch.tensor([0.3, 0.7]))

    def density(x):
        cond = stats.norm.pdf(x, 1.5, math.sqrt(0.6))
        return (0.3 * cond + 0.7 * stats.norm.pdf(x, -0.5, math.sqrt(0.9))) ** (1 - scale) * cond**scale

    z, first, second = (quad(lambda x, k=k: x**k * density(x), -9, 9, limit=200)[0] for k in range(3))
    (axis,) = mixture.axes()
    guided = mixture.joint_guided(0, scale)
    assert guided.log_normalizer.item() == pytest.approx(math.log(z), abs=1e-6)
    assert moments(axis, guided.probabilities) == pytest.approx((first / z, second / z - (first / z) ** 2), abs=1e-6)


def test_only_the_sequential_tilt_depends_on_the_order_of_coordinates():
    swapped = GaussianMixture(MEANS.flip(1), FULL.flip(1, 2), WEIGHTS)
    mixture = GaussianMixture(MEANS, FULL, WEIGHTS)
    axes = tuple(torch.linspace(-8, 8, 121, dtype=torch.float64) for _ in range(2))
    joint, other = (m.joint_guided(0, 2.5, axes=axes).probabilities for m in (mixture, swapped))
    torch.testing.assert_close(joint, other.mT)
    sequential, other = (m.sequential_guided(0, 2.5, axes=axes).probabilities for m in (mixture, swapped))
    assert sequential.sum().item() == pytest.approx(1)
    assert (sequential - other.mT).abs().sum() > 1e-2
    first = oracle(mixture, 0.0, 0).component_distribution
    assert first.mean.shape == (2, 2)
    # The first coordinate is guided by its own marginals alone.
    weights, spread = WEIGHTS.numpy(), np.sqrt(FULL[:, 0, 0].numpy())
    parts = stats.norm.pdf(axes[0].numpy()[:, None], MEANS[:, 0].numpy(), spread)
    tilted = (parts @ weights[0] / weights[0].sum()) ** 2.5 * (parts @ weights.sum(0)) ** -1.5
    np.testing.assert_allclose(sequential.sum(1).numpy(), tilted / tilted.sum(), atol=1e-6)


def test_improper_tilts_are_named():
    narrow = GaussianMixture(torch.tensor([[0.0], [1.0]]), torch.tensor([0.5, 2.0]), torch.tensor([0.5, 0.5]))
    narrow.check_proper(0, 5.0)  # γ ≥ 0 never is
    narrow.check_proper(1, -0.5)
    narrow.check_proper(0, -0.3)  # 1.3/2 − 0.3/0.5 > 0
    for guided in (narrow.joint_guided, narrow.sequential_guided):
        with pytest.raises(ValueError, match="improper tilt"):
            guided(0, -0.4)  # 1.4/2 − 0.4/0.5 < 0


def test_a_tilt_is_proper_when_each_direction_has_a_component_to_hold_it():
    # One component is wide along each axis; −1 leaves 6.67 − 5.05 > 0 along the diagonal, the worst direction.
    covariances = torch.stack([torch.diag(torch.tensor(v)) for v in ([10.0, 0.1], [0.1, 10.0], [0.3, 0.3])])
    GaussianMixture(torch.zeros(3, 2), covariances, torch.tensor([[0.25, 0.25, 0.0], [0.0, 0.0, 0.5]])).check_proper(0, -1.0)


@pytest.mark.parametrize(
    ("means", "covariances", "weights"),
    [
        (torch.zeros(2), torch.ones(2), torch.tensor([0.5, 0.5])),
        (torch.zeros(2, 1), torch.ones(3), torch.tensor([0.5, 0.5])),
        (torch.zeros(2, 1), torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.5])),
        (torch.zeros(2, 1), torch.ones(2), torch.tensor([0.5, 0.6])),
        (torch.zeros(2, 1), torch.ones(2), torch.tensor([1.5, -0.5])),
        (torch.zeros(1, 2), torch.tensor([[[1.0, 2.0], [2.0, 1.0]]]), torch.tensor([1.0])),
    ],
)
def test_malformed_mixtures_raise(means, covariances, weights):
    with pytest.raises(ValueError, match="mixture"):
        GaussianMixture(means, covariances, weights)


def test_a_wrong_label_raises(mixture):
    for wrong in (2, -1, "a"):
        with pytest.raises(ValueError, match="label must be one of 0, 1"):
            mixture.score(X, 1.0, wrong)
