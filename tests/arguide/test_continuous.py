"""Autoregressive densities: exact scores on Gaussian sequences, MALA against the joint tilt, and a network that was trained."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch.distributions import Categorical, MixtureSameFamily, Normal

from analysis.toys import GaussianSequence
from analysis.toys.gaussian import Gaussian
from arguide.continuous import LogLinear, Mixture, MixtureNetwork, log_density, loss, repeat_joint, sample, sample_joint
from arguide.smc.diagnostics import dispersion
from arguide.training import Recipe, fit
from diffusion import mala
from diffusion.langevin import guided, target

LENGTH, RHO, Y, GAMMA = 4, 0.7, 1.0, 3.0


def conditionals(x, label=None, rho=RHO):
    """Return x_t | x_<t of a Gaussian sequence by regression on all that came before, as mixtures of one."""
    times = np.arange(x.shape[1])
    covariance = rho ** np.abs(times[:, None] - times) + (label is None)
    slopes, variances = np.zeros_like(covariance), covariance.diagonal().copy()
    for t in range(1, len(times)):
        slopes[t, :t] = np.linalg.solve(covariance[:t, :t], covariance[:t, t])
        variances[t] -= slopes[t, :t] @ covariance[:t, t]
    mean = label or 0.0
    means = mean + (x - mean) @ torch.from_numpy(slopes).mT
    log_stds = torch.from_numpy(np.log(variances) / 2).expand_as(x)
    return Mixture(torch.zeros_like(means)[..., None], means[..., None], log_stds[..., None])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def draw(law, n, seed):
    return law.mean + normal(n, len(law.mean), seed=seed) @ torch.linalg.cholesky(law.covariance).mT


def reaches(x, law, weights=None, n=None):
    """Whether means and second moments, weighted, lie within 5 standard errors of a Gaussian's, of n independent draws."""
    n = n or len(x)
    weights = torch.full((len(x),), 1 / len(x), dtype=torch.float64) if weights is None else weights
    centred, variances = x - law.mean, law.covariance.diagonal()
    means = (weights @ centred).abs() < 5 * (variances / n).sqrt()
    second = (weights[:, None] * centred).mT @ centred - law.covariance
    covariances = second.abs() < 5 * ((variances[:, None] * variances + law.covariance**2) / n).sqrt()
    return bool(means.all() and covariances.all())


def test_a_mixtures_density_is_that_of_a_peer_and_its_draws_follow_it():
    log_weights = torch.tensor([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]]).double().log()
    mixture = Mixture(log_weights, normal(2, 3, seed=1), normal(2, 3, seed=2) / 2)
    peer = MixtureSameFamily(Categorical(logits=log_weights), Normal(mixture.means, mixture.log_stds.exp()))
    x = normal(2, seed=3)
    torch.testing.assert_close(mixture.log_density(x), peer.log_prob(x))
    draws = mixture.sample(20_000, seeded(0))
    assert ((draws.mean(1) - peer.mean).abs() < 5 * (peer.variance / 20_000).sqrt()).all()
    assert ((draws.var(1) / peer.variance - 1).abs() < 0.1).all()


@pytest.mark.parametrize("label", [None, 1.4])
def test_the_joint_score_of_linear_gaussian_conditionals_is_that_of_the_gaussian(label):
    times, x = np.arange(5), 2 * normal(7, 5)
    covariance = RHO ** np.abs(times[:, None] - times) + (label is None)
    law = multivariate_normal(np.full(5, label or 0.0), covariance)
    value, score = target(LogLinear((partial(conditionals, label=label),), (1.0,)))(x)
    np.testing.assert_allclose(value, law.logpdf(x.numpy()), rtol=1e-12)
    np.testing.assert_allclose(score, -np.linalg.solve(covariance, (x.numpy() - law.mean).T).T, rtol=0, atol=1e-10)


def test_the_guided_target_is_the_joint_tilt_and_not_the_sequential_one():
    toy, x = GaussianSequence(LENGTH, RHO), normal(6, LENGTH)
    value, score = guided(conditionals, Y, GAMMA)(x)
    law, log_z = toy.joint_guided(Y, GAMMA)
    torch.testing.assert_close(value, law.log_density(x) + log_z, rtol=0, atol=1e-10)
    torch.testing.assert_close(score, law.score(x), rtol=0, atol=1e-9)
    assert (score - toy.sequential_guided(Y, GAMMA).law.score(x)).abs().max() > 0.1


def test_mala_on_guided_conditionals_draws_the_joint_tilt_and_not_the_sequential_one():
    toy, n = GaussianSequence(LENGTH, RHO), 6000
    law = toy.joint_guided(Y, GAMMA).law
    first = draw(toy.sequential_guided(Y, GAMMA).law, n, 1)  # it leaves the sequentially guided law
    assert not reaches(first, law)
    chains = mala(guided(conditionals, Y, GAMMA), first, step_size=0.12, steps=120, generator=seeded(2))
    x = chains.x
    assert 0.4 < float(chains.accepted.mean()) < 0.99
    assert reaches(x, law)
    assert not reaches(x, toy.sequential_guided(Y, GAMMA).law)
    swapped = target(LogLinear((conditionals, partial(conditionals, label=Y)), (1.4, -0.4)))
    wrong = mala(swapped, first, step_size=0.12, steps=120, generator=seeded(2)).x
    assert not reaches(wrong, law)


# ---------------------------------------------------------------------------------------------------- weighted, value by value


MODEL = LogLinear.guidance(partial(conditionals, label=Y), conditionals, GAMMA)


@pytest.mark.parametrize(("candidates", "threshold"), [(1, 0.0), (5, 0.5), (64, 0.0)])
def test_weights_are_proper_at_any_number_of_candidates(candidates, threshold):
    toy, n = GaussianSequence(LENGTH, RHO), 8000
    law, log_z = toy.joint_guided(Y, GAMMA)
    result = sample_joint(MODEL, n, LENGTH, candidates=candidates, threshold=threshold, generator=seeded(0))
    weights = result.log_weights.exp()
    effective = min(float(result.ess[-1]), result.ancestors)
    assert reaches(result.x, law, weights, effective)
    assert abs(float(result.log_evidence - log_z)) < 5 / effective**0.5
    assert not reaches(result.x, toy.law(Y), weights, effective)
    assert not reaches(result.x, law, n=n)


def test_repeats_draw_the_candidates_asked_for_and_compare_means():
    options = {"candidates": 2, "threshold": 0.0}
    runs, diagnosis = repeat_joint(MODEL, 40, LENGTH, **options, generator=seeded(0))
    assert torch.equal(runs[0].x, sample_joint(MODEL, 40, LENGTH, **options, generator=seeded(0)).x)
    assert diagnosis.dispersion == dispersion(runs, [run.x for run in runs])


def test_many_candidates_without_weights_are_sequential_guidance():
    toy, n = GaussianSequence(LENGTH, RHO), 6000
    x = sample_joint(MODEL, n, LENGTH, candidates=200, threshold=0, generator=seeded(0)).x
    assert reaches(x, toy.sequential_guided(Y, GAMMA).law)
    assert not reaches(x, toy.joint_guided(Y, GAMMA).law)


def test_one_model_alone_samples_itself_with_equal_weights():
    result = sample_joint(LogLinear((conditionals,), (1.0,)), 50, LENGTH, candidates=3, generator=seeded(0))
    torch.testing.assert_close(result.log_weights.exp(), torch.full((50,), 1 / 50).double())
    assert float(result.log_evidence) == pytest.approx(0, abs=1e-12)
    x = sample(partial(conditionals, label=Y), 6000, LENGTH, generator=seeded(1)).x
    assert reaches(x, GaussianSequence(LENGTH, RHO).law(Y))
    assert not reaches(x, GaussianSequence(LENGTH, RHO).law())
    assert not reaches(x, Gaussian(torch.full((LENGTH,), Y).double(), torch.eye(LENGTH).double()))


# -------------------------------------------------------------------------------------------------------------- a trained one


def sequences(n, seed):
    """Return x [n, 3] and y: the first value does not tell y; then y = 1 stays up where x was up."""
    generator = seeded(seed)
    noise, y = torch.randn(n, 3, generator=generator), torch.randint(2, (n,), generator=generator)
    x = [noise[:, 0]]
    for t in (1, 2):
        x.append(torch.where(y == 1, x[-1].clamp(min=0), torch.full_like(x[-1], -0.2)) + 0.8 * noise[:, t])
    return torch.stack(x, 1), y


@pytest.fixture(scope="module")
def trained():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MixtureNetwork(2, components=3, hidden=16)
    x, y = sequences(4000, 0)
    recipe = Recipe(250, batch=128, rate=1e-2, dropout=0.2, decay=0.0)
    losses = fit(network, x, y, network.none, partial(loss, network), recipe, generator=seeded(1))
    return network.double().requires_grad_(False), losses


def exact(x):
    """Return log p(x | y = 1) and log p(x) of the data, by the formula they are made by."""
    steps = [
        Normal(0.0, 1.0).log_prob(x[:, 0]) + Normal(drift, 0.8).log_prob(x[:, 1:]).sum(1)
        for drift in (torch.full_like(x[:, :-1], -0.2), x[:, :-1].clamp(min=0))
    ]
    return steps[1], torch.stack(steps).logsumexp(0) - math.log(2)


def test_training_learns_the_conditional_and_the_unconditional_law(trained):
    network, losses = trained
    x, y = sequences(4000, 7)
    x = x.double()
    cond, uncond = exact(x)
    assert sum(losses[-20:]) < sum(losses[:20]) - 3
    # KL(data ‖ model) of both laws, in nats a sequence; to read one law for the other costs twice that.
    assert 0 < float((uncond - log_density(network, x)).mean()) + 0.02 < 0.1
    rows = y == 1
    assert 0 < float((cond - log_density(partial(network, label=1), x))[rows].mean()) + 0.02 < 0.1
    assert float((cond - log_density(network, x))[rows].mean()) > 0.12


def test_without_dropout_the_unconditional_law_is_not_learnt():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MixtureNetwork(2, components=3, hidden=16)
    before = network.embed.weight[2].clone()
    data, none = sequences(500, 0), network.none
    for dropout in (0.0, 0.5):
        fit(network, *data, none, partial(loss, network), Recipe(3, dropout=dropout, decay=0.0), generator=seeded(1))
        assert network.embed.weight[2].equal(before) is (dropout == 0.0)


def test_a_networks_standard_deviations_stay_between_e_to_the_minus_5_and_5():
    network = MixtureNetwork(2, components=1, hidden=2)
    with torch.no_grad():
        for bias, bound in ((-100.0, -5.0), (100.0, 5.0)):
            network.head.bias.fill_(bias)
            assert set(network(torch.zeros(1, 2)).log_stds.flatten().tolist()) == {bound}


def test_a_networks_conditionals_see_only_what_came_before(trained):
    network, _ = trained
    x = normal(3, 4)
    whole = network(x, 1)
    for t in range(4):
        changed = x.clone()
        changed[:, t:] += 1.0
        for old, new in zip(whole, network(changed, 1), strict=True):
            assert old[:, : t + 1].equal(new[:, : t + 1])
            assert t == 3 or not old[:, t + 1].equal(new[:, t + 1])
    torch.testing.assert_close(network(x, torch.tensor([1, 0, 1])).means[1], network(x, 0).means[1])


@pytest.mark.slow
def test_mala_on_a_trained_network_leaves_the_sequential_law_for_the_joint_one(trained):
    """The joint tilt of the network itself, by quadrature on a grid that holds all but 1e-3 of it."""
    network, gamma, n = trained[0], 2.5, 3000
    cond, axis = partial(network, label=1), torch.linspace(-6, 9, 61, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis, axis)
    weights = (gamma * log_density(cond, points) + (1 - gamma) * log_density(network, points)).softmax(0)
    assert float(weights[((points < -5) | (points > 8)).any(1)].sum()) < 1e-3

    def statistics(x):
        return torch.cat([x, x.square(), x[:, :1] * x[:, 1:]], 1)

    mean = weights @ statistics(points)
    variance = weights @ (statistics(points) - mean).square() / n

    def far(x):
        """Greatest distance in standard errors."""
        return float(((statistics(x).mean(0) - mean) / variance.sqrt()).abs().max())

    start = sample_joint(LogLinear.guidance(cond, network, gamma), n, 3, candidates=100, threshold=0, generator=seeded(1)).x
    chains = mala(guided(network, 1, gamma), start, step_size=0.2, steps=50, generator=seeded(2))
    assert 0.5 < float(chains.accepted.mean()) < 0.99
    assert far(chains.x) < 5 < 8 < far(start)
