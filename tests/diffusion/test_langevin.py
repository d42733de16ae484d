import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm
from torch.distributions import Normal

from analysis.toys.gaussian import Gaussian, GaussianPair, GaussianSequence, diffused
from arguide.smc.draws import normal
from diffusion import annealed, annealed_mala, geometric, mala, unadjusted
from diffusion.langevin import init, step, with_autograd

FIVE_SIGMA_KS = 2.745  # √n·D is above this with probability 2 exp(−2·2.745²) = 5.7e-7


def target_of(toy, label=None):
    return lambda x: (toy.log_density(x, 0.0, label), toy.score(x, 0.0, label))


def guided_target(toy, scale, label=0, sigma=0.0):
    def target(x):
        parts = [(toy.log_density(x, sigma, y), toy.score(x, sigma, y)) for y in (label, None)]
        return tuple(scale * cond + (1 - scale) * uncond for cond, uncond in zip(*parts, strict=True))

    return target


def constant(value):
    return lambda like: value.expand(like.shape)


def acceptance(target, x, xi, size):
    """Return the probability with which x moves, [n], by bisection on the uniform number, and where it goes."""
    low, high, state = torch.zeros(len(x)).double(), torch.ones(len(x)).double(), init(target, x)
    for _ in range(60):
        middle = (low + high) / 2
        moved, accepted = step(target, state, size, constant(xi), constant(middle))
        low, high = torch.where(accepted, middle, low), torch.where(accepted, high, middle)
    moved, accepted = step(target, state, size, constant(xi), constant(torch.full((len(x),), 1e-300).double()))
    assert accepted.all()
    return (low + high) / 2, moved.x


def flow(target, x, end, probability, size):
    """Return log π(x) q(end | x) a(x → end), [n]."""
    log_density, score = target(x)
    return log_density + Normal(x + size * score, (2 * size) ** 0.5).log_prob(end).sum(1) + probability.log()


@pytest.mark.parametrize("size", [0.1, 0.9])
@pytest.mark.parametrize("name", ["skewed", "plane"])
def test_a_step_of_mala_is_in_detailed_balance(request, name, size):
    toy = request.getfixturevalue(name)
    target, generator = target_of(toy, 0), torch.Generator().manual_seed(0)
    x, xi = torch.randn(2, 40, toy.dim, generator=generator, dtype=torch.float64)
    there, end = acceptance(target, x, xi, size)
    back = (x - end - size * target(end)[1]) / (2 * size) ** 0.5
    again, home = acceptance(target, end, back, size)
    torch.testing.assert_close(home, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(flow(target, x, end, there, size), flow(target, end, x, again, size), rtol=0, atol=1e-9)
    torch.testing.assert_close(torch.maximum(there, again), torch.ones(40).double(), rtol=0, atol=1e-9)
    assert torch.minimum(there, again).max() < 1


def test_every_chain_accepts_by_itself(plane):
    target, generator = target_of(plane, 0), torch.Generator().manual_seed(1)
    x, xi = 2 * torch.randn(2, 30, 2, generator=generator, dtype=torch.float64)
    u = torch.rand(30, generator=generator, dtype=torch.float64)
    together, accepted = step(target, init(target, x), 0.8, constant(xi), constant(u))
    for i in range(30):
        row = slice(i, i + 1)
        alone, taken = step(target, init(target, x[row]), 0.8, constant(xi[row]), constant(u[row]))
        assert bool(taken) == bool(accepted[i])
        torch.testing.assert_close(alone.x[0], together.x[i], rtol=1e-12, atol=1e-12)
    assert 0 < int(accepted.sum()) < 30
    assert together.x[~accepted].equal(x[~accepted])


def test_the_state_keeps_the_density_and_score_of_where_it_stands(plane):
    target, generator = target_of(plane, 1), torch.Generator().manual_seed(2)
    state = init(target, torch.randn(20, 2, generator=generator, dtype=torch.float64))
    for _ in range(3):
        state, _ = step(
            target, state, 0.7, normal(generator), lambda like: torch.rand(like.shape, generator=generator).double()
        )
    fresh = init(target, state.x)
    torch.testing.assert_close(state.log_density, fresh.log_density)
    torch.testing.assert_close(state.score, fresh.score)


def test_mala_leaves_a_skewed_law_as_it_is_and_unadjusted_langevin_does_not(skewed):
    n, size, generator = 5000, 0.5, torch.Generator().manual_seed(3)
    target, x = target_of(skewed), skewed.sample(5000, generator=generator)

    def distance(x):
        means, spread, weights = np.array([-1.3, 0.4, 2.1]), np.sqrt([0.3, 0.8, 1.1]), np.array([0.35, 0.45, 0.2])
        return n**0.5 * kstest(x[:, 0].numpy(), lambda v: norm.cdf((v[:, None] - means) / spread) @ weights).statistic

    chains = mala(target, x, step_size=size, steps=25, generator=generator)
    corrected, rates = chains.x, chains.accepted
    assert distance(x) < FIVE_SIGMA_KS
    assert distance(corrected) < FIVE_SIGMA_KS
    assert (corrected - x).abs().mean() > 0.5
    assert 0.2 < float(rates.mean()) < 0.95

    plain, draw = x, normal(generator)
    for _ in range(25):
        plain = unadjusted(lambda x, sigma: skewed.score(x, sigma), plain, torch.tensor(0.0), size, draw)
    assert distance(plain) > FIVE_SIGMA_KS


def test_mala_from_elsewhere_reaches_a_skewed_law_in_the_plane(plane):
    n, generator = 4000, torch.Generator().manual_seed(4)
    x = plane.sample(n, label=1, generator=generator)
    end = mala(target_of(plane, 0), x, step_size=0.35, steps=150, generator=generator).x
    direction = torch.tensor([0.8, -0.6], dtype=torch.float64)
    weights, means = torch.tensor([0.25, 0.05, 0.1]).double() / 0.4, plane.means @ direction
    covariances = torch.tensor([[[0.6, 0.3], [0.3, 0.5]], [[0.9, -0.2], [-0.2, 0.4]], [[0.5, 0.1], [0.1, 1.1]]]).double()
    spread = (direction @ covariances @ direction).sqrt()

    def distance(x):
        cdf = lambda v: norm.cdf((v[:, None] - means.numpy()) / spread.numpy()) @ weights.numpy()  # noqa: E731
        return n**0.5 * kstest((x @ direction).numpy(), cdf).statistic

    assert distance(end) < FIVE_SIGMA_KS
    assert distance(x) > FIVE_SIGMA_KS


def test_an_unadjusted_step_is_drift_by_the_score_and_noise_of_twice_the_step(skewed):
    x, sigma, size = torch.linspace(-2, 3, 5).double()[:, None], torch.tensor(0.5).double(), 0.3
    ends = [
        unadjusted(lambda x, s: skewed.score(x, s), x, sigma, size, constant(torch.full((5, 1), v).double()))
        for v in (-1.0, 1.0)
    ]
    torch.testing.assert_close((ends[0] + ends[1]) / 2, x + size * skewed.score(x, sigma))
    torch.testing.assert_close((ends[1] - ends[0]).square() / 4, torch.full((5, 1), 2 * size).double())


# ------------------------------------------------------------------------------------------------------ guided combinations


def reaches(x, law, slack=0.0):
    """Whether sample moments are within 5σ (and a relative slack for the variance) of a Gaussian's."""
    n, variances = len(x), law.covariance.diagonal()
    means = (x.mean(0) - law.mean).abs() <= 5 * (variances / n).sqrt() + slack * variances.sqrt()
    outer = variances[:, None] * variances + law.covariance**2
    covariances = (x.mT.cov() - law.covariance).abs() <= 5 * (outer / n).sqrt() + slack * variances.max()
    return bool(means.all() and covariances.all())


def tilt_at(a, b, m, gamma, sigma):
    precision = gamma / (a + sigma**2) + (1 - gamma) / (b + sigma**2)
    mean = gamma * m / (a + sigma**2) / precision
    return Gaussian(torch.tensor([mean], dtype=torch.float64), torch.tensor([[1 / precision]], dtype=torch.float64))


@pytest.mark.parametrize(("a", "b", "m", "gamma"), [(0.7, 1.6, -0.8, 3.0), (0.5, 2.0, 0.6, 1.8)])
def test_annealed_langevin_reaches_the_joint_tilt_of_its_last_level(guided, a, b, m, gamma):
    toy, last, generator = GaussianPair.scalar(m, a, b), 0.25, torch.Generator().manual_seed(5)
    x = 10 * torch.randn(3000, 1, generator=generator, dtype=torch.float64)
    sigmas = geometric(6, last, 8.0)

    plain = annealed(guided(toy, gamma), x, sigmas, steps=200, ratio=0.15, generator=generator).x
    assert reaches(plain, tilt_at(a, b, m, gamma, last), slack=0.02)

    corrected = annealed_mala(
        lambda sigma: guided_target(toy, gamma, 0, sigma), x, sigmas, steps=50, ratio=0.5, generator=generator
    ).x
    assert reaches(corrected, tilt_at(a, b, m, gamma, last))

    reverse = diffused([toy.law(0), toy.law()], [gamma, 1 - gamma], 1.0)
    for wrong in (tilt_at(a, b, m, 1.0, last), reverse, tilt_at(b, a, m, gamma, last)):
        assert not reaches(plain, wrong, slack=0.02)
        assert not reaches(corrected, wrong)


def test_the_annealed_step_is_in_proportion_to_the_variance_of_its_level_and_spares_level_zero():
    levels, n, generator = torch.tensor([3.0, 0.5, 0.0], dtype=torch.float64), 20_000, torch.Generator().manual_seed(9)
    x = annealed(lambda x, sigma: 0 * x, torch.zeros(n, 1).double(), levels, steps=3, ratio=0.2, generator=generator).x
    squares = x.square().sum() / (3 * 2 * 0.2 * (3.0**2 + 0.5**2))  # χ² of n degrees of freedom
    assert abs(float(squares) - n) < 5 * (2 * n) ** 0.5


def test_the_corrected_annealed_step_is_in_proportion_to_the_variance_of_its_level():
    """On a flat target every proposal is accepted, so x is a sum of steps of variance 2·ratio·σ²."""
    levels, n, generator = torch.tensor([3.0, 0.5, 0.0], dtype=torch.float64), 20_000, torch.Generator().manual_seed(9)
    flat = lambda x: (torch.zeros(len(x)).double(), torch.zeros_like(x))  # noqa: E731
    x = annealed_mala(lambda _: flat, torch.zeros(n, 1).double(), levels, steps=3, ratio=0.2, generator=generator).x
    squares = x.square().sum() / (3 * 2 * 0.2 * (3.0**2 + 0.5**2))  # χ² of n degrees of freedom
    assert abs(float(squares) - n) < 5 * (2 * n) ** 0.5


def test_a_generators_seed_fixes_the_chains(skewed):
    x, target = torch.zeros(5, 1).double(), target_of(skewed)
    first, again, other = (
        mala(target, x, step_size=0.3, steps=4, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    )
    assert first[0].equal(again[0])
    assert not first[0].equal(other[0])


# ------------------------------------------------------------------------------------------------ autoregressive densities


def test_an_autoregressive_models_joint_score_by_autograd_is_the_exact_score():
    """x_t = y + ρ(x_{t−1} − y) + √(1−ρ²)ξ, one conditional at a time."""
    y, rho, length = 1.3, 0.7, 5

    def log_density(x):
        first = Normal(torch.tensor(y).double(), 1.0).log_prob(x[:, 0])
        means = y + rho * (x[:, :-1] - y)
        return first + Normal(means, torch.tensor(1 - rho**2).double().sqrt()).log_prob(x[:, 1:]).sum(1)

    x = 2 * torch.randn(7, length, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    times = torch.arange(length).double()
    covariance = rho ** (times[:, None] - times).abs()
    value, score = with_autograd(log_density)(x)
    torch.testing.assert_close(score, -torch.linalg.solve(covariance, (x - y).mT).mT, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(value, log_density(x))
    assert not score.requires_grad
    assert not value.requires_grad


@pytest.mark.parametrize("sigma", [0.0, 0.8])
@pytest.mark.parametrize("label", [None, 1.4])
def test_a_gaussian_sequence_has_its_joint_score_at_every_noise_level(sigma, label):
    toy, x = GaussianSequence(4, 0.6), torch.randn(6, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    times = np.arange(4)
    covariance = 0.6 ** np.abs(times[:, None] - times) + (label is None) + sigma**2 * np.eye(4)
    exact = -np.linalg.solve(covariance, (x.numpy() - (label or 0.0)).T).T
    _, score = with_autograd(lambda x: toy.log_density(x, sigma, label))(x)
    torch.testing.assert_close(score, torch.from_numpy(exact), rtol=1e-9, atol=1e-9)


def test_mala_on_the_guided_score_of_an_autoregressive_model_draws_the_joint_tilt():
    toy, gamma, y, n = GaussianSequence(3, 0.7), 2.0, 1.0, 5000

    def log_tilt(x):
        return gamma * toy.log_density(x, 0.0, y) + (1 - gamma) * toy.log_density(x)

    generator = torch.Generator().manual_seed(8)
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    chains = mala(with_autograd(log_tilt), x, step_size=0.2, steps=150, generator=generator)
    end, rates = chains.x, chains.accepted
    assert reaches(end, toy.joint_guided(y, gamma).law)
    for noise in (0.0, 1.0):
        assert not reaches(end, diffused([toy.law(y), toy.law()], [gamma, 1 - gamma], noise))
    assert not reaches(end, toy.law(y))
    assert 0.3 < float(rates.mean()) < 0.99


def test_a_density_to_differentiate_must_be_a_function():
    with pytest.raises(ValueError, match="log_density must be a function"):
        with_autograd(1.0)


@pytest.mark.parametrize("x", [torch.zeros(2, 1).long(), torch.full((2, 1), math.nan)])
def test_a_start_that_is_no_sample_is_refused_before_any_step(x):
    with pytest.raises(ValueError, match="x must be finite floating-point"):
        annealed(lambda x, sigma: -x, x, torch.tensor([1.0, 0.5]), steps=1)


def test_a_proposal_of_density_zero_is_refused_by_the_smallest_uniform_number_too():
    def target(x):
        return torch.where(x[:, 0] < 1, 0.0, -math.inf), torch.zeros_like(x)

    state, accepted = step(
        target, init(target, torch.zeros(2, 1)), 0.5, lambda x: x + torch.tensor([[0.5], [2.0]]), torch.zeros_like
    )
    assert accepted.tolist() == [True, False]
    assert state.x.tolist() == [[0.5], [0.0]]
