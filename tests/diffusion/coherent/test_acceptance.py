"""Accepted paths have the exact joint law on paths, and log Ẑ has the error that it states: on chains in closed form."""

import math

import numpy as np
import pytest
import torch

import arguide
import diffusion
from diffusion import coherent
from diffusion.coherent import AcceptedData, AcceptedPaths
from diffusion.coherent import acceptance as module

SCALES = [0.5, 1.0, 1.5, 3.0, 10.0]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def run(chain, grid, scale, n=100, seed=0, label=0, **options):
    return diffusion.sample_accepted(chain.mixture(), label, scale, (n, 2), grid, generator=seeded(seed), **options)


def far(found, exact, along):
    """Return how many standard errors the mean and the variance of x are away from the exact ones."""
    x = along(found.x) - exact.mean
    squares = x**2 - exact.variance
    return abs(x.mean() / x.std() * len(x) ** 0.5), abs(squares.mean() / squares.std() * len(x) ** 0.5)


@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("scale", [0.0, *SCALES])
def test_accepted_paths_have_the_moments_of_the_joint_law(chain, grid, along, scale, label):
    """Four standard errors: 36 checks fail falsely with odds of 2e-3; the seeds are fixed."""
    found, exact = run(chain, grid, scale, 20_000, label=label), chain.accepted(grid, label, scale)
    assert max(far(found, exact, along)) < 4
    assert abs(float(found.log_evidence) - exact.log_evidence) < 4 * float(found.std_error) + 1e-12
    assert float(found.log_acceptance.exp()) == pytest.approx(exact.acceptance, rel=4 * float(found.std_error) + 1e-9)
    wrong = chain.accepted(grid, label, scale + 1.5)
    assert max(far(found, wrong, along)) > 6


@pytest.fixture
def runs(chain, grid):
    """200 runs at all scales."""
    return [run(chain, grid, SCALES, 100, seed, rows=3600, tolerance=math.inf) for seed in range(200)]


@pytest.mark.slow
def test_log_evidence_has_the_error_that_it_states(chain, grid, runs):
    """The standard deviation of 200 scores is in .8–1.25 with odds of 1e-4 against it, at each of 4 scales."""
    for i, scale in enumerate(SCALES):
        errors = torch.stack([each[i].std_error for each in runs])
        offs = torch.stack([each[i].log_evidence for each in runs]) - chain.accepted(grid, 0, scale).log_evidence
        if scale == 1:
            assert float(offs.abs().max()) == float(errors.max()) == 0
            continue
        assert chain.accepted(grid, 0, scale).acceptance < 0.95
        assert float(errors.max()) <= 0.02
        assert 0.8 < float((offs / errors).std()) < 1.25
        assert abs(float((offs / errors).mean())) < 0.35
        wrong = chain.accepted(grid, 0, scale + 0.1).log_evidence - chain.accepted(grid, 0, scale).log_evidence
        assert abs(float(((offs - wrong) / errors).mean())) > 0.7  # a wrong exponent is caught


def test_a_planted_wrong_exponent_is_caught(chain, grid, along, monkeypatch):
    at_scales = module.at_scales
    monkeypatch.setattr(module, "at_scales", lambda f, scale, *args, **options: at_scales(f, scale + 1, *args, **options))
    found, exact = run(chain, grid, 3.0, 20_000), chain.accepted(grid, 0, 3.0)
    assert max(far(found, exact, along)) > 6


def test_the_result_names_its_law(chain, grid):
    found = run(chain, grid, [1.5, 0.5])
    assert all(isinstance(each, AcceptedPaths) and isinstance(each, arguide.Accepted) for each in found)
    assert found[0].target == "p(path|y) p(y|path)^(γ−1)"
    data = run(chain, grid, 1.5, classifier=lambda x: torch.zeros(len(x), 3).log_softmax(1))
    assert isinstance(data, AcceptedData)
    assert data.target == "p(x_0|y) p(y|x_0)^(γ−1)"


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.5, 3.0])
def test_a_classifier_of_clean_data_gives_the_law_of_data_that_it_defines(chain, grid, along, scale):
    """Against a one-dimensional integral over x_0, which is Gaussian under every label; the classifier is not the exact one."""

    def classifier(x):
        return torch.stack([0.8 - 1.5 * along(x), 0.6 * along(x), 0 * along(x)], 1).log_softmax(1)

    def sums(j, power):
        mean, variance, *_, tau = chain.path(grid, j)
        kept = chain.a / (chain.a + tau)
        mean, spread = kept * mean + (1 - kept) * chain.means[j], kept * math.sqrt(variance)
        x = np.linspace(-9, 9, 4001) * spread + mean
        density = np.exp(-((x - mean) ** 2) / (2 * spread**2))
        logits = np.stack([0.8 - 1.5 * x, 0.6 * x, 0 * x])
        weights = density / density.sum() * np.exp(power * (logits[0] - np.logaddexp.reduce(logits)))
        return np.array([weights.sum(), weights @ x, weights @ x**2])

    total = sums(0, scale - 1) if scale >= 1 else sum(chain.prior[j] * sums(j, scale) for j in range(3))
    mean = total[1] / total[0]
    exact = chain.accepted(grid, 0, scale)._replace(mean=mean, variance=total[2] / total[0] - mean**2)
    found = run(chain, grid, scale, 20_000, classifier=classifier)
    assert max(far(found, exact, along)) < 4
    assert abs(float(found.log_acceptance) - math.log(total[0])) < 4 * float(found.std_error) + 1e-12
    torch.testing.assert_close(found.log_posterior, classifier(found.x)[:, 0])
    if scale != 1:
        assert max(far(found, chain.accepted(grid, 0, scale), along)) > 6  # the law on paths is another one


TILT = (1.4395, 0.6442)  # mean and variance of ½N(1, 1) + ½N(−1, 1) guided at γ = 3, by quadrature


@pytest.mark.parametrize(("steps", "mean", "variance"), [(50, 1.347, 0.535), (200, 1.411, 0.604), (800, 1.425, 0.622)])
def test_the_joint_law_on_paths_tends_to_the_joint_tilt(pair, order, steps, mean, variance):
    exact = pair.accepted(diffusion.edm(steps), 0, 3.0)
    assert (exact.mean, exact.variance) == pytest.approx((mean, variance), abs=0.025)
    gaps = [pair.accepted(diffusion.edm(steps * m), 0, 3.0) for m in (1, 2, 4)]
    assert order([TILT[0] - each.mean for each in gaps]) == pytest.approx(1, abs=0.1)
    assert order([TILT[1] - each.variance for each in gaps]) == pytest.approx(1, abs=0.15)


def test_draws_on_a_fine_grid_have_the_joint_tilt(pair, along):
    found = run(pair, diffusion.edm(200), 3.0, 4000, tolerance=math.inf)
    assert (float(along(found.x).mean()), float(along(found.x).var())) == pytest.approx(TILT, abs=0.06)
    assert float(found.log_acceptance.exp()) == pytest.approx(0.67, abs=0.02)


def test_several_scales_share_proposals(chain, grid):
    found = run(chain, grid, [1.5, 3.0, 0.5])
    alone = run(chain, grid, 3.0, tolerance=math.inf)
    assert found[0].tried == found[1].tried
    assert alone.x.equal(found[1].x)
    assert float(found[0].log_acceptance) > float(found[1].log_acceptance)


def test_a_seed_fixes_the_draws(chain, grid):
    assert run(chain, grid, 2.0).x.equal(run(chain, grid, 2.0).x)
    assert not run(chain, grid, 2.0).x.equal(run(chain, grid, 2.0, seed=1).x)


def test_uniform_numbers_choose_components_by_their_prior():
    levels = (torch.arange(1000).double() + 0.5) / 1000
    labels = module.drawn(torch.tensor([0.25, 0.0, 0.75]).double().log(), levels)
    assert labels.bincount().tolist() == [250, 0, 750]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": -0.5}, "scale must be finite and at least 0"),
        ({"label": 3}, "label must be the index of a component"),
        ({"least": 2.0}, r"least must be in \[0, 1\]"),
        ({"classifier": 3}, "classifier must be a function"),
        ({"classifier": lambda x: x}, r"classifier must be log p\(k\|x\) of shape \(100, 3\), got shape \(100, 2\)"),
        ({"classifier": lambda x: torch.zeros(len(x), 3)}, r"exp\(classifier\(x\)\) must be of sum 1 for every x, got 3\.0"),
        ({"classifier": lambda x: torch.full((len(x), 3), math.nan)}, "of sum 1 for every x, got nan"),
        ({"uniform": 3}, "uniform must be a function"),
        ({"scale": 50.0, "label": 1}, "the share of accepted proposals A must be at least 0.001, got"),
    ],
)
def test_bad_calls_are_refused_in_one_line(chain, grid, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        run(chain, grid, **{"scale": 2.0} | options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spoilt", [math.nan, 0.5])
def test_a_posterior_that_is_none_is_refused(chain, grid, monkeypatch, spoilt):
    """A NaN is accepted by no comparison, so it would be proposed again and again."""
    states = lambda *_: iter([(coherent.State(torch.zeros(256, 2), torch.full((256, 3), spoilt)), None)])  # noqa: E731
    monkeypatch.setattr(module, "trajectory", states)
    with pytest.raises(ValueError, match="log_posterior must be log-probabilities, at most 0, got"):
        run(chain, grid, 2.0)


def test_other_objects_and_grids_are_refused(chain, grid):
    with pytest.raises(ValueError, match=r"mixture must be a diffusion\.Mixture, got"):
        diffusion.sample_accepted(chain.score(0), 0, 2.0, (3, 2), grid)
    with pytest.raises(ValueError, match="sigmas must be a grid that ends in 0"):
        diffusion.sample_accepted(chain.mixture(), 0, 2.0, (3, 2), grid[:-1])
    with pytest.raises(ValueError, match="shape must be"):
        diffusion.sample_accepted(chain.mixture(), 0, 2.0, 3, grid)
