"""Non-linear rules against their limits, closed forms, and diffusers' guiders where these keep to their papers."""

import math

import pytest
import torch

from analysis.toys.gaussian import GaussianPair
from diffusion import (
    Momentum,
    conditioned,
    euler,
    geometric,
    guide,
    guided_by,
    predictions,
    projected,
    rescaled,
    sample,
    schedules,
)
from diffusion.nonlinear_guidance import linear

ONE = torch.tensor(1.0, dtype=torch.float64)
SHAPES = [(5, 1), (5, 3), (5, 2, 3, 4)]
RULES = {
    "linear": linear,
    "rescaled": lambda scale: rescaled(scale, 0.6),
    "projected": lambda scale: projected(scale, parallel=0.3, threshold=2.0),
}
per_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
per_shape = pytest.mark.parametrize("shape", SHAPES)


@pytest.fixture
def branches():
    generator = torch.Generator().manual_seed(0)
    return lambda shape: [3 * torch.randn(shape, generator=generator, dtype=torch.float64) + 0.7 for _ in range(2)]


# ---------------------------------------------------------------------------------------------------------- what all rules do


@per_rule
@per_shape
def test_scale_one_is_the_conditional_bit_for_bit(branches, rule, shape):
    cond, uncond = branches(shape)
    assert rule(1.0)(cond, uncond, ONE).equal(cond)
    assert rule(torch.ones(5))(cond, uncond, ONE).equal(cond)


@per_rule
@per_shape
def test_every_sample_is_guided_by_itself(branches, rule, shape):
    cond, uncond = branches(shape)
    scales = torch.tensor([-1.0, 0.0, 0.4, 2.0, 7.0], dtype=torch.float64)
    batch = rule(scales)(cond, uncond, ONE)
    assert batch.shape == shape
    for i, scale in enumerate(scales.tolist()):
        torch.testing.assert_close(
            rule(scale)(cond[i : i + 1], uncond[i : i + 1], ONE), batch[i : i + 1], rtol=1e-12, atol=1e-12
        )
    turn = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(rule(scales[turn])(cond[turn], uncond[turn], ONE), batch[turn], rtol=1e-12, atol=1e-12)


@per_rule
def test_a_scale_that_depends_on_sigma_is_that_scale_at_every_level(branches, rule):
    cond, uncond = branches((5, 3))
    scheduled = rule(schedules.interval(3.0, 0.5, 2.0))
    assert scheduled(cond, uncond, ONE).equal(rule(3.0)(cond, uncond, ONE))
    assert scheduled(cond, uncond, 5 * ONE).equal(cond)


@per_rule
def test_branches_that_agree_and_branches_of_zeros_give_no_nan(rule):
    cond = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(rule(3.0)(cond, cond, ONE), cond)
    assert rule(3.0)(torch.zeros(2, 3), torch.zeros(2, 3), ONE).equal(torch.zeros(2, 3))
    assert rule(3.0)(torch.zeros(2, 3), torch.ones(2, 3), ONE).isfinite().all()


@per_shape
def test_at_their_off_values_the_rules_are_plain_guidance(branches, shape):
    cond, uncond = branches(shape)
    for scale in (-1.0, 0.0, 0.3, 4.0):
        for rule in (linear(scale), rescaled(scale, 0.0), projected(scale, parallel=1.0), Momentum(linear(scale), 0.0)):
            torch.testing.assert_close(rule(cond, uncond, ONE), guide(cond, uncond, scale), rtol=1e-12, atol=1e-12)


def test_a_rule_of_denoised_samples_is_another_field_than_of_noise_unless_it_is_linear(plane):
    x, sigma = torch.tensor([[0.3, -1.0], [2.0, 0.1]], dtype=torch.float64), 0.8 * ONE
    cond, uncond = conditioned(plane.score, 0), conditioned(plane.score)
    kinds = predictions.denoised, predictions.noise, predictions.velocity
    plain = guide(cond(x, sigma), uncond(x, sigma), 3.0)
    for rule, linear_in_it in ((linear(3.0), True), (rescaled(3.0), False), (projected(3.0), False)):
        fields = [guided_by(cond, uncond, rule, kind)(x, sigma) for kind in kinds]
        for other in fields[1:]:
            assert torch.allclose(fields[0], other, rtol=1e-9, atol=1e-9) == linear_in_it
        assert torch.allclose(fields[0], plain, rtol=1e-9, atol=1e-9) == linear_in_it
    at_one = guided_by(cond, uncond, projected(1.0), predictions.velocity)(x, sigma)
    torch.testing.assert_close(at_one, cond(x, sigma), rtol=1e-10, atol=1e-10)


# ------------------------------------------------------------------------------------------------------------------ rescaling


@pytest.mark.parametrize("shape", SHAPES[1:])
@pytest.mark.parametrize("mix", [0.0, 0.35, 1.0])
def test_rescaling_takes_the_spread_linearly_to_that_of_the_conditional(branches, shape, mix):
    cond, uncond = branches(shape)
    rescaled_, plain = rescaled(5.0, mix)(cond, uncond, ONE), guide(cond, uncond, 5.0)
    spread, before, wanted = (x.reshape(5, -1).std(1) for x in (rescaled_, plain, cond))
    torch.testing.assert_close(spread, mix * wanted + (1 - mix) * before, rtol=1e-10, atol=0)
    cosine = torch.nn.functional.cosine_similarity(rescaled_.reshape(5, -1), plain.reshape(5, -1), dim=1)
    torch.testing.assert_close(cosine, torch.ones(5, dtype=torch.float64))


def test_rescaling_goes_seven_tenths_of_the_way_by_default(branches):
    """As Lin et al., "Common diffusion noise schedules and sample steps are flawed" (2023), section 3.4."""
    cond, uncond = branches((5, 30))
    spread, before, wanted = (x.std(1) for x in (rescaled(5.0)(cond, uncond, ONE), guide(cond, uncond, 5.0), cond))
    torch.testing.assert_close((before - spread) / (before - wanted), torch.full_like(spread, 0.7), rtol=1e-10, atol=0)


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_rescaling_is_that_of_diffusers(branches, shape):
    from diffusers.guiders import ClassifierFreeGuidance

    cond, uncond = branches(shape)
    theirs = ClassifierFreeGuidance(guidance_scale=4.0, guidance_rescale=0.4).forward(cond, uncond).pred
    torch.testing.assert_close(rescaled(4.0, 0.4)(cond, uncond, ONE), theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore:std")
def test_samples_of_one_number_are_guided_plainly_where_diffusers_returns_nan(branches):
    from diffusers.guiders import ClassifierFreeGuidance

    cond, uncond = branches((5, 1))
    assert rescaled(4.0, 0.4)(cond, uncond, ONE).equal(guide(cond, uncond, 4.0))
    assert ClassifierFreeGuidance(guidance_scale=4.0, guidance_rescale=0.4).forward(cond, uncond).pred.isnan().all()


# ----------------------------------------------------------------------------------------------------------------- projection


@pytest.mark.parametrize("shape", SHAPES[1:])
@pytest.mark.parametrize("parallel", [-0.5, 0.0, 0.3])
def test_the_update_is_the_part_orthogonal_to_the_conditional_and_eta_of_the_rest(branches, shape, parallel):
    cond, uncond = branches(shape)
    c, delta = cond.reshape(5, -1), (cond - uncond).reshape(5, -1)
    update = (projected(3.0, parallel=parallel)(cond, uncond, ONE) - cond).reshape(5, -1) / 2
    torch.testing.assert_close((update * c).sum(1), parallel * (delta * c).sum(1), rtol=1e-10, atol=1e-10)
    shares = (delta * c).sum(1).square() / c.square().sum(1)
    expected = delta.square().sum(1) - (1 - parallel**2) * shares
    torch.testing.assert_close(update.square().sum(1), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("threshold", [0.5, 3.0, 1e9])
def test_the_norm_of_the_difference_is_at_most_the_threshold(branches, threshold):
    cond, uncond = branches((5, 2, 3))
    delta = projected(2.0, parallel=1.0, threshold=threshold)(cond, uncond, ONE) - cond
    full = (cond - uncond).flatten(1)
    torch.testing.assert_close(delta.flatten(1).norm(dim=1), full.norm(dim=1).clamp(max=threshold))
    cosine = torch.nn.functional.cosine_similarity(delta.flatten(1), full, dim=1)
    torch.testing.assert_close(cosine, torch.ones(5, dtype=torch.float64))


@pytest.mark.parametrize("parallel", [0.0, 0.4, 1.0])
def test_in_one_dimension_projection_is_guidance_with_a_smaller_scale(sampled_law, guided, parallel):
    """All of Δ is parallel there, so γ − 1 becomes η(γ − 1), and with it the ODE's variance on Gaussians."""
    toy, gamma, sigmas = GaussianPair.scalar(-0.8, 0.7, 1.6), 3.0, geometric(100, 1e-2, 100.0)
    rule = projected(gamma, parallel=parallel)
    field = guided_by(conditioned(toy.score, 0), conditioned(toy.score), rule, predictions.denoised)
    law, expected = sampled_law(field, sigmas), sampled_law(guided(toy, 1 + parallel * (gamma - 1)), sigmas)
    torch.testing.assert_close(law.covariance, expected.covariance, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(law.mean, expected.mean, rtol=1e-8, atol=1e-8)


def peer(scale, **options):
    """diffusers' guider in the formulation of the paper, whose scale is γ − 1."""
    from diffusers.guiders import AdaptiveProjectedGuidance

    return AdaptiveProjectedGuidance(guidance_scale=scale - 1, use_original_formulation=True, **options)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("parallel", "threshold"), [(0.0, 2.5), (0.7, 2.5), (0.0, 50.0)])
def test_projection_is_that_of_diffusers_in_the_formulation_of_the_paper(branches, shape, parallel, threshold):
    cond, uncond = branches(shape)
    theirs = peer(4.0, eta=parallel, adaptive_projected_guidance_rescale=threshold).forward(cond, uncond).pred
    ours = projected(4.0, parallel=parallel, threshold=threshold)(cond, uncond, ONE)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_projection_is_continuous_at_scale_one_where_diffusers_default_jumps(branches):
    from diffusers.guiders import AdaptiveProjectedGuidance

    cond, uncond = branches((5, 6))
    near = projected(1 + 1e-6)(cond, uncond, ONE)
    assert (near - cond).abs().max() < 1e-4
    theirs = AdaptiveProjectedGuidance(guidance_scale=1 + 1e-6, eta=0.0).forward(cond, uncond).pred
    assert (theirs - cond).abs().max() > 0.1


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": -1.0}, {"threshold": math.nan}, {"parallel": math.nan}])
def test_what_is_no_projection_is_refused(options):
    with pytest.raises(ValueError, match=r"threshold|parallel"):
        projected(3.0, **options)


@pytest.mark.parametrize("mix", [-0.1, 1.1, math.nan])
def test_what_is_no_mix_is_refused(mix):
    with pytest.raises(ValueError, match="mix"):
        rescaled(3.0, mix)


# ------------------------------------------------------------------------------------------------------------------- momentum


def test_momentum_sums_a_constant_difference_to_a_geometric_series(branches):
    cond, uncond = branches((4, 3))
    beta, rule = -0.6, Momentum(linear(3.0), -0.6)
    for k in range(5):
        share = (1 - beta ** (k + 1)) / (1 - beta)
        guided = rule(cond, uncond, torch.tensor(0.5**k))
        torch.testing.assert_close(guided, cond + 2 * share * (cond - uncond), rtol=1e-10, atol=1e-10)


def test_momentum_and_projection_are_those_of_diffusers(branches):
    from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer

    guider = peer(4.0, eta=0.2, adaptive_projected_guidance_rescale=6.0)
    guider.momentum_buffer = MomentumBuffer(-0.5)
    ours = Momentum(projected(4.0, parallel=0.2, threshold=6.0), -0.5)
    for sigma in (3.0, 1.0, 0.3):
        cond, uncond = branches((5, 2, 3))
        torch.testing.assert_close(
            ours(cond, uncond, torch.tensor(sigma)), guider.forward(cond, uncond).pred, rtol=1e-9, atol=1e-9
        )


def test_momentum_does_not_leak_from_run_to_run_or_from_sample_to_sample(plane):
    sigmas = geometric(12, 0.05, 20.0)

    def run(rule, x):
        field = guided_by(conditioned(plane.score, 0), conditioned(plane.score), rule, predictions.denoised)
        return sample(field, tuple(x.shape), sigmas, step=euler, draw=lambda like: x)

    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    used = Momentum(projected(3.0))
    batch = run(used, x)
    assert batch.equal(run(Momentum(projected(3.0)), x))
    for refused in (x, x[:1]):
        with pytest.raises(ValueError, match="one run"):
            run(used, refused)
    for i in range(4):
        torch.testing.assert_close(run(Momentum(projected(3.0)), x[i : i + 1]), batch[i : i + 1], rtol=1e-10, atol=1e-10)
    assert (run(projected(3.0), x) - batch).abs().max() > 1e-3


def test_momentum_refuses_samples_of_another_shape(branches):
    rule = Momentum(linear(2.0))
    rule(*branches((4, 3)), ONE)
    with pytest.raises(ValueError, match="one run"):
        rule(*branches((5, 3)), 0.5 * ONE)


@pytest.mark.parametrize("beta", [-1.0, 1.0, math.nan])
def test_momentum_that_does_not_fade_is_refused(beta):
    with pytest.raises(ValueError, match="beta"):
        Momentum(linear(2.0), beta)
