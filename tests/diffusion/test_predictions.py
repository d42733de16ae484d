import pytest
import torch

from diffusion import conditioned, dynamic_threshold, euler, from_velocity, geometric, guide, predictions, sample, with_denoised
from diffusion.models import with_potential

PREDICTIONS = {"denoised": predictions.denoised, "noise": predictions.noise, "velocity": predictions.velocity}
SIGMAS = [0.01, 0.7, 30.0]


@pytest.fixture
def points():
    generator = torch.Generator().manual_seed(2)
    return lambda *shape: 3 * torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("shape", [(5, 1), (5, 2, 3, 4)])
def test_a_prediction_of_a_score_gives_the_score_back(points, shape, sigma):
    score, x, sigma = points(*shape), points(*shape), torch.tensor(sigma).double()
    for prediction in PREDICTIONS.values():
        torch.testing.assert_close(prediction.score(prediction.of(score, x, sigma), x, sigma), score, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_predictions_are_conditional_means_that_compose_what_is_seen(plane, points, sigma):
    """x = D + σ·ε, and v = α·ε − √(1−α²)·D; D of a mixture is known from its responsibilities."""
    x, sigma = points(6, 2), torch.tensor(sigma).double()
    score = plane.score(x, sigma, 0)
    clean, noise, velocity = (p.of(score, x, sigma) for p in PREDICTIONS.values())
    torch.testing.assert_close(clean + sigma * noise, x, rtol=1e-12, atol=1e-12)
    alpha = 1 / (1 + sigma**2).sqrt()
    torch.testing.assert_close(velocity, alpha * noise - (1 - alpha**2).sqrt() * clean, rtol=1e-8, atol=1e-8)
    by_model = from_velocity(lambda z, sigma, label=None: predictions.velocity.of(score, x, sigma))(x, sigma)
    torch.testing.assert_close(by_model, score, rtol=1e-7, atol=1e-7)


def test_plain_guidance_is_the_same_in_every_prediction(plane, points):
    x, sigma = points(6, 2), torch.tensor(0.8).double()
    cond, uncond = plane.score(x, sigma, 0), plane.score(x, sigma)
    for p in PREDICTIONS.values():
        guided = p.score(guide(p.of(cond, x, sigma), p.of(uncond, x, sigma), 2.5), x, sigma)
        torch.testing.assert_close(guided, guide(cond, uncond, 2.5), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_transform_acts_on_the_denoised_sample(plane, points, sigma):
    x, sigma, zero = points(6, 2), torch.tensor(sigma).double(), torch.zeros(()).double()
    field = conditioned(plane.score, 1)
    transformed = with_denoised(field, lambda clean: clean.clamp(-0.2, 0.3))
    torch.testing.assert_close(with_denoised(field, lambda clean: clean)(x, sigma), field(x, sigma), rtol=1e-8, atol=1e-8)
    clean, changed = (euler(with_potential(each), x, sigma, zero, None).x for each in (field, transformed))
    torch.testing.assert_close(changed, clean.clamp(-0.2, 0.3), rtol=1e-9, atol=1e-9)


def test_a_sampler_of_thresholded_samples_stays_within_the_bound(plane):
    field, options = conditioned(plane.score), {"step": euler, "generator": torch.Generator().manual_seed(0)}
    x = sample(with_denoised(field, dynamic_threshold(1.0, 0.5)), (50, 2), geometric(30, 0.01, 30.0), **options).x
    free = sample(field, (50, 2), geometric(30, 0.01, 30.0), **options).x
    assert x.abs().max() <= 0.5 + 1e-12
    assert free.abs().max() > 1


@pytest.mark.parametrize("quantile", [0.0, 0.37, 0.9, 0.995, 1.0])
@pytest.mark.parametrize(("shape", "bound"), [((7, 3, 4, 5), 1.0), ((7, 11), 2.5), ((7, 1), 0.3)])
def test_the_threshold_is_a_quantile_of_each_sample_and_at_least_the_bound(points, shape, bound, quantile):
    clean = points(*shape)
    clean[0] *= 0.01  # within the bound
    got = dynamic_threshold(quantile, bound)(clean)
    s = torch.quantile(clean.abs().reshape(7, -1), quantile, dim=1).clamp(min=bound).reshape(7, *[1] * (len(shape) - 1))
    torch.testing.assert_close(got, torch.clamp(clean, -s, s) / s * bound, rtol=1e-12, atol=0)
    assert got[0].equal(clean[0])
    assert got.abs().max() <= bound + 1e-12
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    assert dynamic_threshold(quantile, bound)(clean[order]).equal(got[order])
    assert dynamic_threshold(quantile, bound)(clean[2:3]).equal(got[2:3])


@pytest.mark.filterwarnings("ignore")
def test_the_threshold_is_that_of_diffusers(points):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=100.0)
    clean = points(4, 3, 5, 5)
    torch.testing.assert_close(dynamic_threshold(0.9)(clean), scheduler._threshold_sample(clean), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [(-0.1, 1.0), (1.1, 1.0), (0.5, 0.0)])
def test_what_is_no_threshold_is_refused(options):
    with pytest.raises(ValueError, match=r"quantile|bound"):
        dynamic_threshold(*options)
