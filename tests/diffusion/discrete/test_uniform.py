"""Guided diffusion with uniform noise: its steps' exact laws as matrices over all states, their limits and their order."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch

from analysis.toys import Table, guidance
from analysis.toys.discrete_diffusion import uniform_law
from diffusion import LogLinear, conditioned, geometric
from diffusion.discrete.base import State
from diffusion.discrete.uniform import init, kernel, sample, sample_joint, step

GAMMA = 2.5


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


def guided(table, gamma=GAMMA):
    return LogLinear.guidance(conditioned(table.denoise_uniform, 1), conditioned(table.denoise_uniform), gamma)


def grid(steps, end=14.0):
    """Return times whose e^{−t/2} is equally spaced, then 0: small steps wherever rates are large."""
    return torch.cat([-2 * torch.linspace(math.exp(-end / 2), 1, steps + 1, dtype=torch.float64)[:-1].log(), tensor([0.0])])


def noise(shape, time):
    """Return the transition matrix over all states, [to, from], by loops."""
    states, keep = list(product(*map(range, shape))), math.exp(-time)
    hop = lambda x, a: math.prod(keep * (u == v) + (1 - keep) / size for u, v, size in zip(x, a, shape, strict=True))  # noqa: E731
    return np.array([[hop(x, a) for a in states] for x in states])


def matrix(table, model, time, time_next):
    """Return one step's exact law from every state, [from, to], and its weights, [from], from what its seam is asked."""
    x, laws = torch.tensor(list(product(*map(range, table.shape)))), []

    def record(log_probs):
        laws.append(log_probs)
        return log_probs.argmax(1)

    _, info = step(model, State(x), torch.tensor(table.shape), time, time_next, record)
    rows = laws[0].exp().reshape(len(x), table.length, -1)
    return torch.stack(
        [torch.prod(torch.stack([rows[:, j, v] for j, v in enumerate(to)]), 0) for to in x.tolist()], 1
    ), info.log_normalizer


def composed(table, model, times, *, weigh):
    """Return the law after all steps from uniform tokens, [V_1, …, V_T], and its mass; the weighted one if asked."""
    law = torch.full((math.prod(table.shape),), 1 / math.prod(table.shape), dtype=torch.float64)
    for pair in pairwise(times):
        move, weights = matrix(table, model, *pair)
        law = (law * weights.exp() if weigh else law) @ move
    return (law / law.sum()).reshape(table.shape), float(law.sum())


@pytest.fixture
def table(make_joint):
    return Table(make_joint(3, (2, 3, 2)))


@pytest.mark.parametrize(("time", "after"), [(0.9, 0.3), (2.0, 0.0)])
def test_a_kernel_is_bayes_rule_for_one_token(make_joint, time, after):
    joint = make_joint(5, (3, 2, 3))
    shape, states = joint.shape[1:], list(product(*map(range, joint.shape[1:])))
    x = torch.tensor(states)
    denoised = Table(joint).denoise_uniform(x, tensor(time), 1)
    found = kernel(denoised, x, torch.tensor(shape), tensor(time), tensor(after)).exp()
    # p(x_s, x_t) over all states, then the marginal of each token of x_s given x_t.
    pair = noise(shape, time - after) * (noise(shape, after) @ (joint[1] / joint[1].sum()).ravel())[None]
    for i, row in enumerate(pair / pair.sum(1, keepdims=True)):
        for j in range(len(shape)):
            marginal = np.bincount([s[j] for s in states], weights=row, minlength=max(shape))
            np.testing.assert_allclose(found[i, j], marginal, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gamma", [3.0, 0.4])
def test_one_token_is_exact_at_any_step_by_replay(make_joint, branches, seam, gamma):
    table, times = Table(make_joint(4, (2, 3))), tensor([45.0, 1.1, 0.2, 0.0])
    law, log_z = table.joint_guided(1, gamma)
    found, evidence = np.zeros(3), 0.0
    for mass, result in branches(lambda c: sample_joint(guided(table, gamma), 1, table.shape, times, draw=seam(c))):
        evidence += mass * math.exp(result.log_evidence)
        found[int(result.x)] += mass * math.exp(result.log_evidence)
    assert evidence == pytest.approx(float(log_z.exp()), rel=1e-10)
    np.testing.assert_allclose(found / evidence, law, rtol=0, atol=1e-10)

    plain = np.zeros(3)
    for mass, (x, *_) in branches(lambda c: sample(guided(table, gamma), 1, table.shape, times, draw=seam(c))):
        plain[int(x)] += mass
    assert abs(plain - law.numpy()).max() > 1e-3


def test_several_particles_resampled_on_the_way_are_exact_too(make_joint, branches, seam):
    table, times = Table(make_joint(4, (2, 2))), tensor([45.0, 0.7, 0.0])
    law, log_z = table.joint_guided(1, 3.0)
    found = np.zeros(2)

    def run(choose):
        def resample(log_weights, _generator):
            return torch.full((2,), choose(log_weights.softmax(0).tolist()))

        return sample_joint(guided(table, 3.0), 2, table.shape, times, draw=seam(choose), resample=resample, threshold=1.0)

    for mass, result in branches(run):
        for x, weight in zip(result.x[:, 0].tolist(), result.log_weights.exp().tolist(), strict=True):
            found[x] += mass * weight * math.exp(result.log_evidence)
    np.testing.assert_allclose(found, law * log_z.exp(), rtol=0, atol=1e-10)


def test_the_samplers_law_tends_to_that_of_the_guided_rates_to_first_order(table, order):
    exact = uniform_law(table, guidance(1, GAMMA)).exp()
    errors = [float((composed(table, guided(table), grid(n), weigh=False)[0] - exact).abs().sum() / 2) for n in (40, 80, 160)]
    assert order(errors) > 0.8
    assert errors[-1] < 0.01
    other = float((exact - table.joint_guided(1, GAMMA).probabilities).abs().sum() / 2)
    assert other > 5 * errors[-1]


def test_the_weighted_law_tends_to_the_joint_one_to_first_order(table, order):
    exact, log_z = table.joint_guided(1, GAMMA)
    found = [composed(table, guided(table), grid(n), weigh=True) for n in (40, 80, 160)]
    assert order([float((law - exact).abs().sum() / 2) for law, _ in found]) > 0.8
    assert order([abs(math.log(mass) - float(log_z)) for _, mass in found]) > 0.8
    assert float((found[-1][0] - exact).abs().sum() / 2) < 0.02
    plain, _ = composed(table, guided(table), grid(160), weigh=False)
    assert float((plain - exact).abs().sum() / 2) > 0.05


def test_several_weights_that_do_not_sum_to_one_have_their_evidence(table):
    """Temperature: the law p(x|y)^{1.6}/Z, whose first law is not normalised."""
    model = LogLinear((conditioned(table.denoise_uniform, 1),), (1.6,))
    tilted = table.log_probs(1) * 1.6
    result = sample_joint(model, 4000, table.shape, grid(60), generator=torch.Generator().manual_seed(0))
    assert float(result.log_evidence) == pytest.approx(float(tilted.flatten().logsumexp(0)), abs=0.06)
    assert abs(math.log(math.prod(table.shape)) * 0.6) > 0.5  # what a forgotten first normalizer would miss


def test_small_steps_weigh_by_the_potential_of_the_guided_rates(table):
    """Σ log Z / (t − s) → Σ_{x'} [Π_k R_k^{w_k} − Σ_k w_k R_k], with rates from the noised laws of loops."""
    time, shape, states = 0.6, table.shape, list(product(*map(range, table.shape)))
    laws = [noise(shape, time) @ table.log_probs(label).exp().flatten().numpy() for label in (1, None)]
    potential = np.zeros(len(states))
    for i, j in product(range(len(states)), repeat=2):
        apart = [size for u, v, size in zip(states[i], states[j], shape, strict=True) if u != v]
        if len(apart) == 1:
            cond, uncond = (law[j] / law[i] / apart[0] for law in laws)
            potential[i] += cond**GAMMA * uncond ** (1 - GAMMA) - GAMMA * cond - (1 - GAMMA) * uncond
    _, weights = matrix(table, guided(table), tensor(time), tensor(time - 1e-6))
    np.testing.assert_allclose(weights / 1e-6, potential, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_many_particles_reach_the_joint_law_and_unweighted_ones_do_not(make_joint):
    table, gamma, n, times = Table(make_joint(2, (2, 3, 2))), 4.0, 20_000, grid(60)
    law = table.joint_guided(1, gamma).probabilities.flatten()
    bias = float((composed(table, guided(table, gamma), times, weigh=True)[0].flatten() - law).abs().sum() / 2)

    def far(x, weights):
        found = torch.zeros(len(law), dtype=torch.float64).index_add(0, x @ torch.tensor([2, 1]), weights)
        return float((found - law).abs().sum() / 2)

    result = sample_joint(guided(table, gamma), n, table.shape, times, generator=torch.Generator().manual_seed(0))
    effective = min(float(result.ess[-1]), result.ancestors)
    limit = bias + 0.5 * ((len(law) - 1) / effective) ** 0.5 + (14 / (2 * effective)) ** 0.5
    plain = sample(guided(table, gamma), n, table.shape, times, generator=torch.Generator().manual_seed(0)).x
    assert far(result.x, result.log_weights.exp()) < limit
    assert far(plain, torch.full((n,), 1 / n, dtype=torch.float64)) > limit


def test_noise_alone_is_uniform_over_what_each_token_can_be(branches, seam):
    found = np.zeros((2, 3))
    for mass, (x,) in branches(lambda c: init(1, torch.tensor([2, 3]), seam(c))):
        found[tuple(x[0].tolist())] += mass
    np.testing.assert_allclose(found, 1 / 6)


def test_rows_do_not_see_each_other(table):
    whole, weights = matrix(table, guided(table), tensor(0.5), tensor(0.4))
    x = torch.tensor(list(product(*map(range, table.shape))))
    for i in range(len(x)):
        row, sizes = State(x[i : i + 1]), torch.tensor(table.shape)
        _, alone = step(guided(table), row, sizes, tensor(0.5), tensor(0.4), lambda p: p.argmax(1))
        torch.testing.assert_close(alone.log_normalizer[0], weights[i])
    torch.testing.assert_close(whole.sum(1), torch.ones(len(x), dtype=torch.float64))


def test_branches_that_share_nothing_are_a_dead_end():
    joint = np.zeros((2, 2, 3))
    joint[0, 0, 0] = joint[1, 1, 1] = 0.5
    table = Table(joint)
    model = LogLinear((conditioned(table.denoise_uniform, 0), conditioned(table.denoise_uniform, 1)), (0.5, 0.5))
    with pytest.raises(ValueError, match="dead end"):
        sample(model, 3, table.shape, geometric(4, 0.1, 5.0))
    with pytest.raises(ValueError, match="weight 0"):
        sample_joint(model, 3, table.shape, geometric(4, 0.1, 5.0))
