"""Feynman–Kac correction: the exact weighted law on Gaussians, Monte Carlo on a mixture and on a table's points."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

from analysis.toys.gaussian import GaussianPair
from analysis.toys.table import Table
from diffusion import LogLinear, conditioned, edm, euler, geometric, sample_joint, sample_joints

PAIRS = [(0.7, 1.6, -0.8, 3.0), (1.5, 0.9, 1.3, 0.4), (0.5, 2.0, 0.6, 1.8)]  # a, b, m, γ


@dataclass(frozen=True)
class Broken(LogLinear):
    """A model whose potential is multiplied by a factor: 0 drops the weights, −1 turns their sign."""

    factor: float = 1.0

    def guided(self, x, sigma):
        score, potential = super().guided(x, sigma)
        return score, self.factor * potential


def grid(steps):
    return edm(steps, 0.02, 100.0)


def deviation(law, a, b, m, gamma):
    """Return what a law misses of the joint tilt: mean, variance and log Z, by the algebra of exponents."""
    precision, slope = gamma / a + (1 - gamma) / b, gamma * m / a
    constant = -gamma * (m**2 / a + math.log(2 * math.pi * a)) / 2 - (1 - gamma) * math.log(2 * math.pi * b) / 2
    log_z = constant + slope**2 / (2 * precision) + math.log(2 * math.pi / precision) / 2
    return float(law.mean) - slope / precision, float(law.covariance) - 1 / precision, law.log_evidence - log_z


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(("a", "b", "m", "gamma"), PAIRS)
def test_weighted_particles_reach_the_joint_tilt_at_every_noise_level(guided, weighted_law, a, b, m, gamma, noise):
    model = guided(GaussianPair.scalar(m, a, b), gamma)
    mean, variance, _ = deviation(weighted_law(model, grid(80), noise=noise), a, b, m, gamma)
    assert abs(mean) < 0.035
    assert abs(variance) < 0.025


@pytest.mark.parametrize(("a", "b", "m", "gamma"), PAIRS)
def test_the_log_evidence_is_the_log_of_the_tilts_mass(guided, weighted_law, a, b, m, gamma):
    model = guided(GaussianPair.scalar(m, a, b), gamma)
    assert abs(deviation(weighted_law(model, grid(80), noise=0.5), a, b, m, gamma)[2]) < 0.06


@pytest.mark.parametrize("factor", [0.0, -1.0], ids=["weights dropped", "sign turned"])
@pytest.mark.parametrize(("a", "b", "m", "gamma"), PAIRS[::2])
def test_without_the_right_weights_the_joint_tilt_is_missed(guided, weighted_law, a, b, m, gamma, factor):
    model = guided(GaussianPair.scalar(m, a, b), gamma)
    broken = Broken(model.models, model.weights, factor)
    swapped = LogLinear(model.models[::-1], model.weights)
    for wrong in (broken, swapped):
        mean, variance, log_z = map(abs, deviation(weighted_law(wrong, grid(80), noise=0.5), a, b, m, gamma))
        assert not (mean < 0.035 and variance < 0.025)
        assert not log_z < 0.06


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_the_bias_of_the_weighted_law_is_of_second_order_in_the_step(guided, weighted_law, order, noise):
    a, b, m, gamma = PAIRS[0]
    model = guided(GaussianPair.scalar(m, a, b), gamma)

    def bias(steps):
        """Against a limit free of σ_max: the variance forgets the first law, which only shifts the mean."""
        return abs(deviation(weighted_law(model, edm(steps, 1e-3, 100.0), noise=noise), a, b, m, gamma)[1])

    assert order([bias(n) for n in (25, 50, 100)]) > 1.75


def test_the_correction_needs_no_second_order_solver(guided, weighted_law):
    a, b, m, gamma = PAIRS[2]
    model = guided(GaussianPair.scalar(m, a, b), gamma)
    errors = [deviation(weighted_law(model, grid(n), solver=euler), a, b, m, gamma) for n in (30, 60, 120)]
    for coarse, fine in pairwise(errors):
        assert abs(fine[1]) < 0.7 * abs(coarse[1])
    assert abs(errors[-1][1]) < 0.05


# ------------------------------------------------------------------------------------------------------------- Monte Carlo


@pytest.mark.parametrize(("noise", "threshold"), [(0.5, 0.0), (1.0, 0.5)])
def test_particles_reach_the_joint_tilt_of_a_mixture_in_the_plane(plane, guided, noise, threshold):
    gamma, axes = 3.0, plane.axes(121, 5.0)
    tilt = plane.joint_guided(0, gamma, axes=axes)

    def statistics(x):
        return torch.cat([x, x.square(), x.prod(1, keepdim=True)], 1)

    expected = tilt.probabilities.flatten() @ statistics(torch.cartesian_prod(*axes))

    def reached(model):
        """Within 5σ, counting only independent lineages, and the bias of this grid."""
        result = sample_joint(
            model, (3000, 2), edm(50, 0.02, 50.0), noise=noise, threshold=threshold, generator=torch.Generator().manual_seed(0)
        )
        weights, values = result.log_weights.exp(), statistics(result.x)
        mean = weights @ values
        spread = (weights @ (values - mean).square()).sqrt() / min(float(result.ess[-1]), result.ancestors) ** 0.5
        return bool(((mean - expected).abs() < 5 * spread + 0.04).all())

    model = guided(plane, gamma)
    assert reached(model)
    assert not reached(Broken(model.models, model.weights, 0.0))
    assert not reached(Broken(model.models, model.weights, -1.0))
    assert not reached(LogLinear(model.models[::-1], model.weights))


def test_particles_reach_the_joint_law_of_a_table_placed_on_points():
    table = Table(torch.tensor([[[0.17, 0.03, 0.1], [0.04, 0.09, 0.02]], [[0.02, 0.2, 0.08], [0.15, 0.05, 0.05]]]))
    gamma, points = 2.5, table.mixture()
    expected = table.joint_guided(0, gamma)
    sequential = LogLinear.guidance(conditioned(points.score, 0), conditioned(points.score), gamma)
    sigmas, n = geometric(100, 0.08, 30.0), 4000

    def run(model):
        result = sample_joint(model, (n, 2), sigmas, generator=torch.Generator().manual_seed(0))
        cells = torch.zeros(6, dtype=torch.float64).index_add(0, points.nearest(result.x), result.log_weights.exp())
        return float((cells - expected.probabilities.flatten()).abs().sum() / 2), float(
            result.log_evidence - expected.log_normalizer
        )

    # Six cells from at least 1000 independent particles: TV has mean below 0.04, standard deviation below 0.02.
    tv, gap = run(sequential)
    assert tv < 0.05
    assert abs(gap) < 0.1
    for wrong in (
        Broken(sequential.models, sequential.weights, 0.0),
        Broken(sequential.models, sequential.weights, -1.0),
        LogLinear(sequential.models[::-1], sequential.weights),
    ):
        assert run(wrong)[0] > 0.05


# --------------------------------------------------------------------------------------------------------------- contracts


@pytest.fixture
def model(plane, guided):
    return guided(plane, 2.5)


def seeded(model, seed=0, n=200, **options):
    return sample_joint(model, (n, 2), edm(25, 0.05, 20.0), generator=torch.Generator().manual_seed(seed), **options)


def test_a_generators_seed_fixes_the_particles(model):
    first, again, other = seeded(model), seeded(model), seeded(model, 1)
    assert first.x.equal(again.x)
    assert first.log_weights.equal(again.log_weights)
    assert not first.x.equal(other.x)


def test_the_weights_are_normalised_and_every_step_has_its_effective_sample_size(model):
    result = seeded(model)
    assert float(result.log_weights.exp().sum()) == pytest.approx(1, abs=1e-12)
    assert result.x.shape == (200, 2)
    assert result.ess.shape == (25,)
    assert ((result.ess >= 1 - 1e-9) & (result.ess <= 200 + 1e-9)).all()
    assert float(result.ess[-1]) == pytest.approx(float(1 / result.log_weights.exp().square().sum()))


def test_a_threshold_of_zero_never_resamples_and_one_always_does(model):
    assert seeded(model, threshold=0).ancestors == 200
    assert seeded(model, threshold=1).ancestors < 200


def test_resampling_takes_everything_a_particle_carries(model):
    """Ancestors in reverse order at every resampling give the same particles, relabelled."""
    first = 10 * torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def run(ancestors):
        draws = iter([first])
        options = {"draw": lambda like: next(draws, torch.zeros_like(like)), "resample": lambda *_: ancestors}
        return sample_joint(model, (6, 2), edm(5, 0.05, 20.0), threshold=1.0, **options)

    kept, turned = run(torch.arange(6)), run(torch.arange(5, -1, -1))
    orders = [run.x[:, 0].argsort() for run in (turned, kept)]
    torch.testing.assert_close(turned.x[orders[0]], kept.x[orders[1]])
    torch.testing.assert_close(turned.log_weights[orders[0]], kept.log_weights[orders[1]])
    torch.testing.assert_close(turned.log_evidence, kept.log_evidence)


@pytest.mark.parametrize("noise", [1.0, 3.0])
def test_the_last_step_only_denoises(model, noise):
    """No noise enters it: what is drawn after the first normals changes nothing on a grid of one step."""
    grid, first = torch.tensor([2.0, 0.0], dtype=torch.float64), torch.tensor([[0.4, -1.0], [1.5, 0.3], [-0.2, 0.9]]).double()

    def run(later):
        draws = iter([first])
        return sample_joint(model, (3, 2), grid, noise=noise, draw=lambda like: next(draws, torch.full_like(like, later)))

    sigma = grid[0]
    for later in (0.0, 5.0, -20.0):
        result = run(later)
        torch.testing.assert_close(result.x, sigma * first + sigma**2 * model(sigma * first, sigma))
        torch.testing.assert_close(result.log_weights, run(0.0).log_weights)


def test_one_model_alone_has_weights_of_one_and_evidence_zero(plane):
    result = seeded(LogLinear((conditioned(plane.score),), (1.0,)))
    assert result.log_weights.exp().mul(200).allclose(torch.ones(200, dtype=torch.float64))
    assert float(result.log_evidence) == pytest.approx(0, abs=1e-10)
    assert result.ancestors == 200


def test_weights_that_depend_on_sigma_have_no_joint_law(plane, guided):
    with pytest.raises(ValueError, match="same at every step"):
        seeded(guided(plane, lambda sigma: 2.0))


@pytest.mark.parametrize("weights", [(1.0, -1.0), (0.5, -2.0), (0.0, 0.0)])
def test_weights_that_sum_to_zero_or_less_are_an_improper_tilt(plane, weights):
    with pytest.raises(ValueError, match="improper tilt"):
        seeded(LogLinear((conditioned(plane.score, 0), conditioned(plane.score)), weights))


def narrowed(means):
    """Return p^2 of N(m, 0.5) a row: its scores differ by row."""
    return LogLinear((lambda x, sigma: (means - x) / (0.5 + sigma**2),), (2.0,))


def test_samples_side_by_side_are_what_each_is_alone():
    means, n = torch.tensor([-1.0, 2.0], dtype=torch.float64), 64
    grid, noises = edm(20, 0.05, 10.0), torch.Generator().manual_seed(3)
    drawn = [torch.randn(n, 1, generator=noises, dtype=torch.float64) for _ in range(100)]

    def seam(times):
        steps = iter(drawn)
        return lambda x: next(steps).repeat(times, 1)

    def middle(log_weights, _generator):
        levels = (torch.arange(n) + 0.5) / n
        return torch.searchsorted(log_weights.softmax(0).cumsum(0), levels).clamp(max=n - 1)

    options = {"noise": 1.5, "resample": middle, "threshold": 0.9}
    both = narrowed(means.repeat_interleave(n)[:, None])
    runs = sample_joints(both, 2, (n, 1), grid, draw=seam(2), **options)
    for run, mean in zip(runs, means, strict=True):
        alone = sample_joint(narrowed(mean), (n, 1), grid, draw=seam(1), **options)
        torch.testing.assert_close(run.x, alone.x)
        torch.testing.assert_close(run.log_weights, alone.log_weights)
        torch.testing.assert_close(run.log_evidence, alone.log_evidence)
        torch.testing.assert_close(run.ess, alone.ess)
        assert run.ancestors == alone.ancestors < n
