import math

import pytest
import torch

from analysis.toys.gaussian import GaussianPair
from diffusion import LogLinear, conditioned, geometric, guide, noise


def at(schedule, *sigmas):
    return [schedule(torch.tensor(sigma, dtype=torch.float64)) for sigma in sigmas]


def test_an_interval_holds_its_upper_end_and_not_its_lower():
    assert at(noise.interval(3.0, 0.5, 2.0), 0.4, 0.5, 0.6, 2.0, 2.1) == [1, 1, 3, 3, 1]
    assert at(noise.interval(3.0, high=1.0, outside=0.0), 0.01, 1.0, 50.0) == [3, 3, 0]
    assert at(noise.interval(3.0), 0.01, 1e6) == [3, 3]


def test_a_ramp_is_linear_in_log_sigma_and_constant_beyond_its_ends():
    ramp = noise.ramp(1.0, 4.0, high=8.0, low=1.0)
    assert at(ramp, 100.0, 8.0, 4.0, 2.0, 1.0, 0.0) == pytest.approx([1, 1, 2, 3, 4, 4])


@pytest.mark.parametrize(
    "make",
    [
        lambda: noise.interval(math.inf),
        lambda: noise.interval(2.0, 3.0, 3.0),
        lambda: noise.interval(2.0, -1.0, 3.0),
        lambda: noise.ramp(0.0, math.nan, 4.0, 1.0),
        lambda: noise.ramp(0.0, 1.0, 1.0, 4.0),
        lambda: noise.ramp(0.0, 1.0, 1.0, 0.0),
        lambda: noise.ramp(0.0, 1.0, math.inf, 1.0),
    ],
)
def test_what_is_no_schedule_is_refused(make):
    with pytest.raises(ValueError, match=r"finite|above low"):
        make()


@pytest.mark.parametrize("outside", [1.0, 0.0])
def test_a_model_guided_in_an_interval_is_guided_within_and_asks_one_model_only_outside(plane, outside):
    asked = []

    def counted(label):
        return lambda x, sigma: asked.append(label) or plane.score(x, sigma, label)

    model = LogLinear.guidance(counted(0), counted(None), noise.interval(3.0, 0.5, 2.0, outside=outside))
    x = torch.tensor([[0.3, -1.0], [2.0, 0.1]], dtype=torch.float64)
    for sigma, expected in ((0.4, outside), (1.0, 3.0), (5.0, outside)):
        sigma = torch.tensor(sigma).double()
        asked.clear()
        assert model(x, sigma).equal(guide(plane.score(x, sigma, 0), plane.score(x, sigma), expected))
        assert asked == ([0, None] if expected == 3 else [0 if outside else None])
        score, potential = model.guided(x, sigma)
        assert score.equal(model(x, sigma))
        assert (potential > 0).all() if expected == 3 else (potential == 0).all()


def test_an_interval_that_holds_every_level_is_guidance_without_one(sampled_law, guided):
    toy, sigmas = GaussianPair.scalar(-0.8, 0.7, 1.6), geometric(60, 1e-2, 100.0)
    whole = sampled_law(guided(toy, noise.interval(3.0)), sigmas)
    plain = sampled_law(guided(toy, 3.0), sigmas)
    none = sampled_law(guided(toy, noise.interval(3.0, 200.0)), sigmas)
    torch.testing.assert_close(whole.covariance, plain.covariance, rtol=1e-12, atol=0)
    torch.testing.assert_close(none.covariance, sampled_law(conditioned(toy.score, 0), sigmas).covariance, rtol=1e-12, atol=0)
    assert abs(float(whole.covariance - none.covariance)) > 0.1
