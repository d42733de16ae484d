"""The posterior of a path is Bayes' rule for its kernels, and tends to p(k|x) as steps shrink; weights are exact on paths."""

import math
from itertools import pairwise

import pytest
import torch
from torch.distributions import Independent, Normal

import arguide
import diffusion
from analysis.toys.mixture import GaussianMixture
from arguide.smc.draws import normal
from diffusion import LogLinear, Mixture, ancestral, coherent, conditioned
from diffusion.coherent import Kernel

GRID = diffusion.geometric(8, 0.2, 15.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def mixture_of(toy, labels=(0, 1)):
    return Mixture([conditioned(toy.score, k) for k in labels], toy.weights.sum(1)[list(labels)].log())


def symmetric():
    means = torch.tensor([[1.0], [-1.0]]).double()
    return GaussianMixture(means, torch.ones(2).double(), torch.tensor([0.5, 0.5]).double())


def path(model, n, sigmas, dim=1, seed=0):
    """Return the states of n paths, the first one too, and the densities of the steps."""
    draw = normal(seeded(seed))
    first = coherent.init(model, sigmas.new_empty(n, dim), sigmas[0], normal(seeded(seed)))
    states, infos = zip(*coherent.trajectory(model, (n, dim), sigmas, draw), strict=True)
    return [first, *states], infos


def laws(toy, x, sigma, after, factor=1.0):
    """Return the reverse law of every label by conditioning the Gaussian (x_after, x_sigma) on x_0 = E[x_0|x, k]."""
    for k in range(len(toy.weights)):
        denoised = x + sigma**2 * toy.score(x, sigma, k)
        precision = 1 / after**2 + 1 / (sigma**2 - after**2)
        mean = (denoised / after**2 + x / (sigma**2 - after**2)) / precision
        yield Independent(Normal(mean, (factor / precision).sqrt().expand_as(mean)), 1)


def posterior(toy, states, sigmas, factor=1.0):
    """Return p(k|path) by plain loops; `factor` spoils the variance."""
    log_joint = toy.weights.sum(1).log().expand(len(states[0].x), -1)
    for (state, after), (sigma, sigma_next) in zip(pairwise(states), pairwise(sigmas), strict=True):
        logs = [law.log_prob(after.x) for law in laws(toy, state.x, sigma, sigma_next, factor)]
        log_joint = log_joint + torch.stack(logs, 1)
    return log_joint.softmax(1)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("toy", ["skewed", "plane"])
def test_the_posterior_is_bayes_rule_for_the_path(request, toy, scale):
    toy = request.getfixturevalue(toy)
    states, _ = path(mixture_of(toy).guidance(1, scale), 20, GRID[:-1], toy.dim)
    for i in range(1, len(states)):
        expected = posterior(toy, states[: i + 1], GRID[: i + 1])
        torch.testing.assert_close(states[i].log_posterior.exp(), expected, rtol=1e-9, atol=1e-9)
    assert (states[-1].log_posterior.exp() - posterior(toy, states, GRID[:-1], 2.0)).abs().max() > 0.02


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_densities_are_those_of_the_kernels(plane, scale):
    states, infos = path(mixture_of(plane).guidance(1, scale), 20, GRID[:-1], 2)
    for i, (sigma, after) in enumerate(pairwise(GRID[:-1])):
        x, rho = states[i].x, states[i].log_posterior.exp()
        each = list(laws(plane, x, sigma, after))
        logs = torch.stack([law.log_prob(states[i + 1].x) for law in each], 1)
        mixture = (rho.log() + logs).logsumexp(1)
        means = torch.stack([law.mean for law in each], 1)
        average = (rho[..., None] * means).sum(1)
        guided = Independent(Normal(scale * means[:, 1] + (1 - scale) * average, each[0].stddev), 1)
        torch.testing.assert_close(infos[i].log_proposal, guided.log_prob(states[i + 1].x))
        torch.testing.assert_close(infos[i].log_target, scale * logs[:, 1] + (1 - scale) * mixture)
        z = scale * (scale - 1) / 2 * ((means[:, 1] - average) ** 2 / each[0].variance).sum(1)
        torch.testing.assert_close(infos[i].log_normalizer, z, rtol=1e-8, atol=1e-9)


# ------------------------------------------------------------------------------------------------------------------- limits


def gap(toy, scale, steps, spoil=lambda log_posterior: log_posterior, sigma_max=80.0):
    """Return the mean |ρ_y − p(y|x)| at the last level above 0 of 1,000 guided paths."""
    sigmas = diffusion.edm(steps, 0.002, sigma_max)[:-1]
    states, _ = path(mixture_of(toy).guidance(0, scale), 1000, sigmas)
    exact = toy.log_class_probability(states[-1].x, sigmas[-1])[:, 0].exp()
    return float((spoil(states[-1].log_posterior)[:, 0].exp() - exact).abs().mean())


@pytest.mark.parametrize(("scale", "figures"), [(1.0, (0.039, 0.010)), (3.0, (0.017, 0.005))])
def test_the_posterior_of_a_path_tends_to_that_of_its_end(scale, figures, order):
    """The figures of 1,000 paths at 50 and 200 steps are within 25 % of those by hand; the order is one."""
    errors = [gap(symmetric(), scale, steps) for steps in (50, 100, 200)]
    assert (errors[0], errors[2]) == pytest.approx(figures, rel=0.25)
    assert order(errors) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_posterior_of_a_skewed_toy_tends_to_that_of_its_end(skewed, scale):
    coarse, fine = (gap(skewed, scale, steps) for steps in (40, 160))
    assert fine < 0.35 * coarse < 0.02


@pytest.mark.parametrize(
    "spoil",
    [
        lambda log_posterior: log_posterior.flip(1),
        lambda log_posterior: (log_posterior / 2).log_softmax(1),
        lambda log_posterior: torch.full_like(log_posterior, math.log(0.5)),
    ],
    ids=["labels swapped", "variance doubled", "not updated"],
)
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_wrong_posterior_does_not_tend_to_it(scale, spoil):
    coarse, fine = (gap(symmetric(), scale, steps, spoil) for steps in (50, 200))
    assert fine > 0.03
    assert fine > 0.6 * coarse


def distance(model, toy, steps):
    """Return the mean distance of ends of coherent or plain paths to those of exact plain guidance, on the same normals."""
    sigmas = diffusion.edm(steps, 0.002, 80.0)
    exact = LogLinear.guidance(conditioned(toy.score, 0), conditioned(toy.score), 3.0)
    plain = lambda model: diffusion.sample(model, (500, 1), sigmas, step=ancestral, generator=seeded(1)).x  # noqa: E731
    tracked = mixture_of(toy).guidance(0, 3.0)
    found = coherent.sample(tracked, (500, 1), sigmas, generator=seeded(1)).x if model is None else plain(model)
    return float((found - plain(exact)).abs().mean())


@pytest.mark.parametrize("toy", ["symmetric", "skewed"])
def test_coherent_and_plain_guidance_agree_where_scores_are_exact(skewed, toy):
    toy = skewed if toy == "skewed" else symmetric()
    coarse, fine = (distance(None, toy, steps) for steps in (25, 100))
    assert fine < 0.4 * coarse < 0.05
    mixture = mixture_of(toy)
    frozen = Mixture(mixture.models, mixture.log_prior, lambda x, sigma: mixture.log_prior.expand(len(x), -1))
    assert distance(frozen.guidance(0, 3.0), toy, 100) > 0.1  # a posterior that is not updated


# ------------------------------------------------------------------------------------------------------------------ weights


@pytest.mark.parametrize("scale", [0.5, 1.5, 3.0])
def test_the_mean_weight_is_z_of_the_law_on_paths(chain, grid, scale):
    """On a coarse grid, five standard errors; Z of another exponent, and the weights of the Gaussian limit, are noticed."""
    found = coherent.sample(chain.mixture().guidance(0, scale), (60_000, 2), grid, generator=seeded(2))

    def off(log_weights, exact):
        weights = log_weights.exp()
        return abs(float((weights.mean() - math.exp(exact)) / weights.std() * len(weights) ** 0.5))

    assert off(found.log_weights, chain.accepted(grid, 0, scale).log_evidence) < 5
    assert off(found.log_weights, chain.accepted(grid, 0, scale + 0.5).log_evidence) > 8
    assert off(found.log_normalizer.sum(1), chain.accepted(grid, 0, scale).log_evidence) > 8


def test_the_weights_tend_to_the_normalizers_of_the_gaussian_kernels():
    gaps = []
    for steps in (50, 200):
        sigmas = diffusion.edm(steps, 0.002, 80.0)
        found = coherent.sample(mixture_of(symmetric()).guidance(0, 3.0), (300, 1), sigmas, generator=seeded())
        gaps.append(float((found.log_weights - found.log_normalizer.sum(1)).abs().mean()))
    assert 0.3 > gaps[0] > 1.6 * gaps[1]


# -------------------------------------------------------------------------------------------------------------------- rules


def sample(toy, scale, label=1, seed=0, shape=(6, 2), labels=(0, 1), **options):
    own = labels.index(label) if isinstance(label, int) else label
    return coherent.sample(mixture_of(toy, labels).guidance(own, scale), shape, GRID, generator=seeded(seed), **options)


def test_scale_1_draws_from_the_component(plane):
    found = sample(plane, 1.0)
    own = diffusion.sample(conditioned(plane.score, 1), (6, 2), GRID, step=ancestral, generator=seeded())
    torch.testing.assert_close(found.x, own.x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.log_weights, torch.zeros(6).double(), rtol=0, atol=1e-10)
    assert not torch.allclose(sample(plane, 1.5).x, own.x)


def test_scale_0_ignores_the_label(plane):
    assert sample(plane, 0.0).x.equal(sample(plane, 0.0, label=0).x)
    assert not sample(plane, 0.5).x.equal(sample(plane, 0.5, label=0).x)


def test_labels_may_be_permuted(plane):
    one, other = sample(plane, 2.5), sample(plane, 2.5, labels=(1, 0))
    torch.testing.assert_close(other.x, one.x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(other.log_posterior, one.log_posterior.flip(1), rtol=1e-9, atol=1e-9)


def test_a_batch_is_its_rows_each_with_its_label_and_scale(plane):
    normals = torch.randn(len(GRID), 6, 2, generator=seeded(), dtype=torch.float64)
    label, scale = torch.tensor([0, 1, 1, 0, 1, 0]), torch.tensor([0.0, 1.0, 2.5, 4.0, -1.0, 0.5]).double()

    def run(rows, label, scale):
        iterator = iter(normals[:, rows])
        model = mixture_of(plane).guidance(label, scale)
        return coherent.sample(model, (len(rows), 2), GRID, draw=lambda like: next(iterator))

    whole = run(list(range(6)), label, scale)
    for i in range(6):
        for all_rows, row in zip(whole, run([i], int(label[i]), float(scale[i])), strict=True):
            torch.testing.assert_close(all_rows[i : i + 1], row, rtol=1e-9, atol=1e-9)


def test_a_result_begins_with_the_fields_of_a_sample(plane):
    found = sample(plane, 2.5)
    assert found._fields == (*arguide.Sample._fields, "log_posterior")
    assert all(rows.shape == (6, len(GRID) - 1) for rows in found[1:4])
    torch.testing.assert_close(found.log_weights, arguide.Sample(*found[:4]).log_weights)


def test_a_seed_fixes_the_draws(plane):
    assert sample(plane, 2.5).x.equal(sample(plane, 2.5).x)
    assert not sample(plane, 2.5).x.equal(sample(plane, 2.5, seed=1).x)


def test_the_last_step_denoises_and_carries_no_evidence(plane):
    model = mixture_of(plane).guidance(1, 2.5)
    whole = coherent.sample(model, (6, 2), GRID, generator=seeded())
    noised = coherent.sample(model, (6, 2), GRID[:-1], generator=seeded(), ends_at_zero=False)
    assert whole.log_posterior.equal(noised.log_posterior)
    assert whole.log_target[:, :-1].equal(noised.log_target)
    assert (torch.stack(whole[1:4])[..., -1] == 0).all()
    scores = torch.stack([plane.score(noised.x, GRID[-2], k) for k in (0, 1)])
    unconditional = (noised.log_posterior.exp().T[..., None] * scores).sum(0)
    expected = noised.x + GRID[-2] ** 2 * (2.5 * scores[1] - 1.5 * unconditional)
    torch.testing.assert_close(whole.x, expected)


def test_a_scale_may_depend_on_the_noise_level(plane):
    schedule = diffusion.noise.interval(2.5, 0.5, 5.0)
    found = coherent.sample(mixture_of(plane).guidance(1, schedule), (6, 2), GRID, generator=seeded())
    inside = (GRID[:-1] > 0.5) & (GRID[:-1] <= 5.0)
    assert ((found.log_normalizer != 0).any(0) == inside).all()
    assert not found.x.equal(sample(plane, 2.5).x)


def test_single_precision_keeps_the_posterior_in_double(plane):
    mixture = mixture_of(plane)
    models = [lambda x, sigma, k=k: plane.score(x.double(), sigma.double(), k).float() for k in (0, 1)]
    found = coherent.sample(Mixture(models, mixture.log_prior).guidance(1, 2.5), (6, 2), GRID.float(), generator=seeded())
    assert found.x.dtype == torch.float32
    assert found.log_posterior.dtype == torch.float64
    torch.testing.assert_close(found.log_posterior.exp().sum(1), torch.ones(6).double())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_kernel_is_that_of_the_ancestral_euler_scheduler(plane):
    scheduler = pytest.importorskip("diffusers").EulerAncestralDiscreteScheduler()
    scheduler.set_timesteps(6)
    sigmas, x = scheduler.sigmas.double(), torch.tensor([[0.3, -2.0], [1.5, 0.4]]).double()
    for i, (sigma, after) in enumerate(pairwise(sigmas)):
        scheduler._step_index, scheduler.is_scale_input_called = i, True
        score = plane.score(x, sigma)
        expected = scheduler.step(-sigma * score, scheduler.timesteps[i], x, generator=seeded(i)).prev_sample
        found = Kernel(x, sigma, after).sample(score, normal(seeded(i)))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------------ refusals


def refused(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_bad_calls_are_refused_in_one_line(plane):
    mixture, score = mixture_of(plane), conditioned(plane.score)
    run = coherent.sample
    refused(lambda: run(score, (2, 2), GRID), r"model must be a diffusion\.LogLinear")
    refused(lambda: run(LogLinear((score,), (1.0,)), (2, 2), GRID), "one diffusion.Mixture, got 0")
    refused(lambda: run(LogLinear((mixture, mixture), (0.5, 0.5)), (2, 2), GRID), "one diffusion.Mixture, got 2")
    refused(lambda: run(LogLinear((score, mixture), (1.0, 1.0)), (2, 2), GRID), "weights must be of sum 1")
    refused(lambda: run(mixture.guidance(0, 2.0), (2, 2), GRID[:-1]), "sigmas must be a grid that ends in 0")
    refused(lambda: run(mixture.guidance(0, 2.0), (2, 2), GRID.flip(0)), "sigmas must be falling")
    refused(lambda: run(mixture.guidance(0, 2.0), 2, GRID), "shape must be")
    refused(lambda: run(mixture.guidance(0, 2.0), (2, 2), GRID, draw=3), "draw must be a function")
    broken = Mixture([score, lambda x, sigma: x * math.nan], [math.log(0.5)] * 2)
    refused(lambda: run(broken.guidance(0, 2.0), (2, 2), GRID), "x must stay finite, got nan in the step from sigma 15;")


def test_a_kernel_to_no_noise_draws_nothing():
    x, score = torch.ones(2, 1), torch.full((2, 1), 0.25)
    draws = []
    found = Kernel(x, torch.tensor(2.0), torch.tensor(0.0)).sample(score, lambda mean: draws.append(mean) or mean)
    assert found.tolist() == [[2.0], [2.0]]
    assert draws == []
