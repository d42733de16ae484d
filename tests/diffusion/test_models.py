from functools import partial

import pytest
import torch
from torch.distributions import MultivariateNormal

import diffusion
from analysis import GaussianPair, GaussianSequence
from analysis.toys.gaussian import Gaussian, tilt
from diffusion import (
    LogLinear,
    conditioned,
    edm,
    from_denoiser,
    from_noise,
    from_velocity,
    geometric,
    guide,
    sample,
    with_classifier,
)

LABELS = [0, 1, None]
SIGMAS = [0.05, 0.7, 20.0]


@pytest.fixture
def points():
    generator = torch.Generator().manual_seed(2)
    return lambda n, dim: 2 * torch.randn(n, dim, generator=generator, dtype=torch.float64)


@pytest.fixture
def clean():
    """The mean of clean data given noised, E[x_0 | x, label], in two dimensions, from textbook conditioning."""
    tensor = partial(torch.tensor, dtype=torch.float64)
    means = tensor([[1.0, 0.5], [-1.2, 0.3], [0.2, -1.5]])
    covariances = tensor([[[0.6, 0.3], [0.3, 0.5]], [[0.9, -0.2], [-0.2, 0.4]], [[0.5, 0.1], [0.1, 1.1]]])
    weights = tensor([[0.25, 0.05, 0.1], [0.1, 0.3, 0.2]])

    def denoiser(x, sigma, label=None):
        prior = weights.sum(0) if label is None else weights[label]
        noised = covariances + sigma**2 * torch.eye(2).double()
        posterior = (MultivariateNormal(means, noised).log_prob(x[:, None]) + prior.log()).softmax(1)
        gain = covariances @ torch.linalg.inv(noised)
        each = means + (gain @ (x[:, None] - means)[..., None])[..., 0]
        return (posterior[..., None] * each).sum(1)

    return denoiser


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_every_prediction_gives_the_exact_score(plane, clean, points, sigma, label):
    x, sigma = points(9, 2), torch.tensor(sigma).double()

    def noise(x, sigma, label=None):
        return (x - clean(x, sigma, label)) / sigma

    def velocity(z, sigma, label=None):
        alpha = (1 / (1 + sigma**2)).sqrt()
        return alpha * noise(z / alpha, sigma, label) - (1 - alpha**2).sqrt() * clean(z / alpha, sigma, label)

    exact = plane.score(x, sigma, label)
    for made in (from_denoiser(clean), from_noise(noise), from_velocity(velocity)):
        torch.testing.assert_close(made(x, sigma, label), exact, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(conditioned(made, label)(x, sigma), exact, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("name", ["skewed", "plane"])
def test_an_exact_classifier_of_noised_data_guides_as_no_classifier_does(request, points, guided, name, scale):
    toy = request.getfixturevalue(name)
    x = points(11, toy.dim)
    per_sample = torch.linspace(-1, 3, 11, dtype=torch.float64)
    for gamma in (scale, per_sample, lambda sigma: scale / (1 + sigma)):
        field = with_classifier(conditioned(toy.score), lambda x, sigma: toy.log_class_probability(x, sigma)[:, 1], gamma)
        for sigma in torch.tensor(SIGMAS).double():
            torch.testing.assert_close(field(x, sigma), guided(toy, gamma, 1)(x, sigma), rtol=1e-8, atol=1e-9)


def test_classifier_guidance_leaves_no_graph_behind(skewed, points):
    field = with_classifier(conditioned(skewed.score), lambda x, s: skewed.log_class_probability(x, s)[:, 1], 2.0)
    x = points(3, 1)
    with torch.no_grad():
        assert not field(x, torch.tensor(1.0)).requires_grad
    assert not x.requires_grad


def test_a_classifier_that_never_saw_noise_draws_another_law(skewed):
    sigmas = geometric(120, 1e-3, 100.0)
    quantiles = torch.special.ndtri((torch.arange(400).double() + 0.5) / 400)[:, None]

    def mean_and_accuracy(classifier):
        x = sample(with_classifier(conditioned(skewed.score), classifier, 3.0), (400, 1), sigmas, draw=lambda like: quantiles).x
        return torch.stack([x.mean(), skewed.log_class_probability(x)[:, 0].exp().mean()])

    aware = mean_and_accuracy(lambda x, sigma: skewed.log_class_probability(x, sigma)[:, 0])
    blind = mean_and_accuracy(lambda x, sigma: skewed.log_class_probability(x)[:, 0])
    free = sample(LogLinear.guidance(conditioned(skewed.score, 0), conditioned(skewed.score), 3.0), (400, 1), sigmas,
                  draw=lambda like: quantiles).x  # fmt: skip
    assert float(aware[0]) == pytest.approx(float(free.mean()), abs=1e-9)
    assert (blind - aware).abs().min() > 0.02


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", [-0.5, 1.0, 3.0, torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])])
def test_guidance_is_the_log_linear_model_whose_score_is_the_gradient_of_its_log_density(plane, points, scale, temperature):
    sigma = torch.tensor(0.6).double()
    x = points(5, 2).requires_grad_()
    cond, uncond = plane.log_density(x, sigma, 0), plane.log_density(x, sigma)
    (expected,) = torch.autograd.grad(((uncond + scale * (cond - uncond)) / temperature).sum(), x)
    branches = conditioned(plane.score, 0), conditioned(plane.score)
    model = LogLinear.guidance(*branches, scale, temperature=temperature)
    by_schedule = LogLinear.guidance(*branches, lambda sigma: scale, temperature=temperature)
    for made in (model, by_schedule):
        torch.testing.assert_close(made(x.detach(), sigma), expected, rtol=1e-9, atol=1e-9)
        assert sum(made.weights_at(sigma)) == pytest.approx(1 / temperature) if isinstance(scale, float) else True


def test_a_scale_that_depends_on_sigma_is_that_scale_at_every_level(skewed, points, guided):
    model = guided(skewed, lambda sigma: torch.where(sigma > 1, 3.0, 1.0))
    x, cond, uncond = points(6, 1), conditioned(skewed.score, 0), conditioned(skewed.score)
    for sigma, scale in ((torch.tensor(0.5), 1.0), (torch.tensor(2.0), 3.0)):
        assert model(x, sigma).equal(guide(cond(x, sigma), uncond(x, sigma), scale))


def test_the_potential_of_a_log_linear_model_is_per_unit_of_variance(plane, points, guided):
    x, sigma = points(6, 2), torch.tensor(0.9).double()
    score, potential = guided(plane, 3.0)(x, sigma), guided(plane, 3.0).guided(x, sigma)[1]
    gap = plane.score(x, sigma, 0) - plane.score(x, sigma)
    torch.testing.assert_close(score, plane.score(x, sigma) + 3 * gap, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(potential, 3 * gap.square().sum(1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("variance", "variance_uncond", "scale"), [(2.0, 1.5, 5.0), (0.5, 3.0, -1.0)])
def test_an_improper_tilt_is_named_from_its_scores_alone(variance, variance_uncond, scale):
    pair = GaussianPair.scalar(1.0, variance, variance_uncond)
    model = diffusion.LogLinear.guidance(diffusion.conditioned(pair.score, 0), diffusion.conditioned(pair.score), scale)
    with pytest.raises(ValueError, match="improper"):
        pair.joint_guided(0, scale)
    with pytest.raises(ValueError, match="improper"):
        model.check_proper((16, 1), torch.tensor(0.01, dtype=torch.float64))


def test_a_tilt_that_is_improper_in_one_direction_only_is_improper(points):
    """Precision 1 along one axis and −0.3 along the other: most far samples are pulled back."""
    sigma = torch.tensor(0.01, dtype=torch.float64)
    outward = LogLinear((lambda x, sigma: x * torch.tensor([-1.0, 0.3], dtype=torch.float64),), (1.0,))
    x = points(64, 2)
    pushed = (outward(x, sigma) * x).sum(1) >= 0
    assert 0 < int(pushed.sum()) < 64
    with pytest.raises(ValueError, match="improper"):
        outward.check_proper((64, 2), sigma, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("variance", "variance_uncond", "scale"), [(1.0, 2.0, 5.0), (2.0, 1.5, 3.9), (2.0, 1.5, -1.0)])
def test_a_proper_tilt_passes(variance, variance_uncond, scale):
    pair = GaussianPair.scalar(1.0, variance, variance_uncond)
    model = diffusion.LogLinear.guidance(diffusion.conditioned(pair.score, 0), diffusion.conditioned(pair.score), scale)
    assert pair.joint_guided(0, scale).law.covariance.item() > 0
    model.check_proper((16, 1), torch.tensor(0.01, dtype=torch.float64))


def test_several_and_negative_conditions_combine_to_the_score_of_their_product():
    sequences = [GaussianSequence(2).law(label) for label in (None, 1.0, -0.5)]
    weights = (0.4, 1.5, -0.9)
    model = diffusion.LogLinear(tuple(law.score for law in sequences), weights)
    x = torch.tensor([[0.3, -1.0], [2.0, 0.1]], dtype=torch.float64, requires_grad=True)
    log_density = sum(w * law.log_density(x, 0.7) for w, law in zip(weights, sequences, strict=True))
    expected = torch.autograd.grad(log_density.sum(), x)[0]
    torch.testing.assert_close(model(x.detach(), torch.tensor(0.7)), expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize("scales", [(1.5, -0.9), (0.0, 2.0), (1.0, 1.0)])
def test_a_composition_is_the_score_of_its_product_of_laws(scales, temperature):
    sequence = GaussianSequence(2)
    uncond, *conds = (sequence.law(label) for label in (None, 1.0, -0.5))
    model = LogLinear.composition(uncond.score, [law.score for law in conds], scales, temperature=temperature)
    x, sigma = torch.tensor([[0.3, -1.0], [2.0, 0.1]], dtype=torch.float64, requires_grad=True), torch.tensor(0.7).double()
    base = uncond.log_density(x, sigma)
    tilts = sum(scale * (law.log_density(x, sigma) - base) for scale, law in zip(scales, conds, strict=True))
    (expected,) = torch.autograd.grad(((base + tilts) / temperature).sum(), x)
    torch.testing.assert_close(model(x.detach(), sigma), expected, rtol=1e-9, atol=1e-9)
    assert sum(model.weights_at(sigma)) == pytest.approx(1 / temperature)


def test_a_composition_of_conditions_has_their_product_tilt_as_its_joint_law(weighted_law):
    """y_i = x + noise, independent given x: at γ_i = 1 the composition is the posterior given all of them."""
    prior, variances, seen, scales = 2.0, (1.0, 0.5), (1.2, -0.7), (1.0, 1.0)

    def law(*observed):  # (variance, y) pairs ↦ the posterior, by precisions
        precision = 1 / prior + sum(1 / v for v, _ in observed)
        mean = sum(y / v for v, y in observed) / precision
        return Gaussian(torch.tensor([mean]).double(), torch.tensor([[1 / precision]]).double())

    pairs = list(zip(variances, seen, strict=True))
    conds, both = [law(pair) for pair in pairs], law(*pairs)
    model = LogLinear.composition(law().score, [cond.score for cond in conds], scales)
    result = weighted_law(model, edm(80, 0.02, 50.0), noise=1.0)
    assert float(result.mean) == pytest.approx(float(both.mean), abs=0.02)
    assert float(result.covariance) == pytest.approx(float(both.covariance), abs=0.01)
    assert tilt([*conds, law()], model.weights).law.mean == pytest.approx(float(both.mean))
    for cond in conds:
        assert abs(float(cond.mean - both.mean)) > 0.1


def test_a_composition_of_one_condition_is_guidance(plane, points, guided):
    x, sigma, cond, uncond = points(5, 2), torch.tensor(0.6).double(), conditioned(plane.score, 0), conditioned(plane.score)
    for scale in (2.5, torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])):
        expected = guided(plane, scale)(x, sigma)
        assert LogLinear.composition(uncond, [cond], [scale])(x, sigma).equal(expected)
        assert LogLinear.composition(uncond, [cond], lambda sigma, scale=scale: [scale])(x, sigma).equal(expected)
    assert LogLinear.composition(uncond, [], [])(x, sigma).equal(uncond(x, sigma))


def test_a_composition_of_conditions_in_another_order_is_the_same(plane, points):
    x, sigma = points(5, 2), torch.tensor(0.6).double()
    fields, scales = [conditioned(plane.score, label) for label in (0, 1)], (1.7, -0.4)
    one, other = (LogLinear.composition(conditioned(plane.score), fields[::k], scales[::k])(x, sigma) for k in (1, -1))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 2.0, 3.0)])
def test_a_composition_needs_one_scale_a_condition(plane, points, scales):
    fields = [conditioned(plane.score, label) for label in (0, 1)]
    with pytest.raises(ValueError, match="scales must be one per condition"):
        LogLinear.composition(conditioned(plane.score), fields, scales)
    with pytest.raises(ValueError, match="scales must be one per condition"):
        LogLinear.composition(conditioned(plane.score), fields, lambda sigma: scales)(points(2, 2), torch.tensor(1.0))


def test_autoguidance_is_guidance_with_a_worse_model_and_that_of_diffusers(plane, points):
    from diffusers.guiders import AutoGuidance

    good = conditioned(plane.score, 0)

    def bad(x, sigma):  # trained with more noise than its level says
        return plane.score(x, (sigma**2 + 0.5).sqrt(), 0)

    x, sigma = points(6, 2), torch.tensor(0.4).double()
    model = LogLinear.guidance(good, bad, 2.2)
    theirs = AutoGuidance(guidance_scale=2.2, auto_guidance_layers=[0], dropout=0.1).forward(good(x, sigma), bad(x, sigma)).pred
    torch.testing.assert_close(model(x, sigma), theirs, rtol=1e-12, atol=1e-12)
    assert LogLinear.guidance(good, bad, 1.0)(x, sigma).equal(good(x, sigma))


def test_a_score_of_weight_zero_is_not_asked_for(plane, points):
    def refuse(x, sigma):
        raise AssertionError("asked")

    x, sigma, field = points(3, 2), torch.tensor(0.4).double(), conditioned(plane.score, 0)
    assert LogLinear.guidance(field, refuse, 1.0)(x, sigma).equal(field(x, sigma))
    assert LogLinear.guidance(refuse, field, 0.0).guided(x, sigma)[0].equal(field(x, sigma))
    assert LogLinear((field, refuse), (0.0, 0.0))(x, sigma).equal(torch.zeros(3, 2).double())
