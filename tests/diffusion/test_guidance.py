import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from diffusion import combine, guide, log_normalizer

SHAPES = [(5,), (5, 1), (5, 3), (5, 2, 3, 4)]


@pytest.fixture
def branches():
    generator = torch.Generator().manual_seed(0)
    return lambda shape, k=2: [3 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(k)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_scale_zero_is_the_unconditional_score_and_one_the_conditional_bit_for_bit(branches, shape, dtype):
    cond, uncond = (s.to(dtype) for s in branches(shape))
    assert guide(cond, uncond, 0).equal(uncond)
    assert guide(cond, uncond, 1.0).equal(cond)
    ends = guide(cond, uncond, torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0]))
    assert ends[[0, 2]].equal(uncond[[0, 2]])
    assert ends[[1, 3, 4]].equal(cond[[1, 3, 4]])
    assert ends.dtype == dtype


@pytest.mark.parametrize("scale", [-1.5, 0.3, 4.0])
def test_guidance_is_affine_in_the_scale(branches, scale):
    cond, uncond = branches((6, 3))
    torch.testing.assert_close(guide(cond, uncond, scale) - uncond, scale * (cond - uncond), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_scale_per_sample_is_each_sample_by_itself(branches, shape):
    cond, uncond = branches(shape)
    scales = torch.tensor([-1.0, 0.0, 0.4, 1.0, 7.0], dtype=torch.float64)
    rows = [guide(cond[i : i + 1], uncond[i : i + 1], float(scales[i])) for i in range(5)]
    torch.testing.assert_close(guide(cond, uncond, scales), torch.cat(rows), rtol=1e-12, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, torch.tensor([1.0, math.nan])])
def test_a_scale_that_is_not_finite_is_refused(branches, bad):
    with pytest.raises(ValueError, match="finite"):
        guide(*branches((2, 3)), bad)


def test_combining_is_permutation_equivariant_and_takes_one_weight_per_score(branches):
    scores, weights = branches((4, 2), 3), (0.7, -2.0, torch.tensor([1.0, 2.0, 3.0, 4.0]))
    turned = combine([scores[i] for i in (2, 0, 1)], [weights[i] for i in (2, 0, 1)])
    torch.testing.assert_close(combine(scores, weights), turned, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="weights must be one per score, 3, got 2"):
        combine(scores, weights[:2])


@pytest.mark.parametrize("scale", [-0.5, 0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_the_log_normalizer_of_guidance_is_the_squared_gap_of_the_scores(branches, shape, scale):
    cond, uncond = branches(shape)
    gap = (cond - uncond).reshape(5, -1).square().sum(1)
    value = log_normalizer((cond, uncond), (scale, 1 - scale), 0.3)
    torch.testing.assert_close(value, scale * (scale - 1) * 0.3 * gap / 2, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scale", [-0.5, 0.4, 2.5])
@pytest.mark.parametrize("variance", [0.2, 1.7])
def test_the_log_normalizer_is_the_mass_of_the_product_of_two_reverse_kernels(scale, variance):
    x, cond, uncond = 0.6, -1.1, 0.7

    def product(end):
        kernels = (norm(x + variance * s, variance**0.5).logpdf(end) for s in (cond, uncond))
        return np.exp(np.dot((scale, 1 - scale), list(kernels)))

    scores = [torch.tensor([[s]], dtype=torch.float64) for s in (cond, uncond)]
    assert float(log_normalizer(scores, (scale, 1 - scale), variance)) == pytest.approx(
        math.log(quad(product, -40, 40, epsabs=1e-12, limit=400)[0]), abs=1e-8
    )


@pytest.mark.parametrize("weights", [(2.0, -1.0), (0.6, 0.3), (3.0, -1.2), (0.0, 1.8)])
@pytest.mark.parametrize("sigma", [0.3, 1.4])
def test_the_log_normalizer_is_what_the_ode_leaves_of_the_tilt_at_any_weights(plane, weights, sigma):
    """d/dt of log π along the ODE plus half the divergence of its field, t = −τ, from log-densities alone."""
    generator = torch.Generator().manual_seed(1)
    x = (2 * torch.randn(7, 2, generator=generator, dtype=torch.float64)).requires_grad_()
    tau = torch.full((), sigma**2, dtype=torch.float64, requires_grad=True)

    def log_tilt(x, tau):
        return sum(w * plane.log_density(x, tau.sqrt(), label) for w, label in zip(weights, (0, None), strict=True))

    (score,) = torch.autograd.grad(log_tilt(x, tau).sum(), x, create_graph=True)
    divergence = sum(torch.autograd.grad(score[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(2))
    falling = torch.stack([-torch.autograd.grad(log_tilt(x, tau)[i], tau)[0] for i in range(len(x))])
    expected = (falling + score.square().sum(1) / 2 + divergence / 2).detach()

    scores = [plane.score(x.detach(), sigma, label) for label in (0, None)]
    torch.testing.assert_close(log_normalizer(scores, weights, 1.0), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_normalizer(scores, weights, 0.25), expected / 4, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [1.5, torch.tensor([0.25, -0.5]), -0.75])
def test_integer_scores_are_guided_by_the_whole_scale(scale):
    cond, uncond = torch.tensor([[4, 8], [2, -4]]), torch.tensor([[0, 4], [6, 2]])
    exact = guide(cond.double(), uncond.double(), scale)
    torch.testing.assert_close(guide(cond, uncond, scale).double(), exact)
    weights = (scale, 1 - scale)
    torch.testing.assert_close(
        log_normalizer((cond, uncond), weights, 0.5).double(), log_normalizer((cond.double(), uncond.double()), weights, 0.5)
    )
