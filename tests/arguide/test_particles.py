import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

import arguide
from analysis import Table
from arguide import LogLinear, particles, sample_joint, sampling
from arguide.smc import driver


def guided(table, label, scale):
    return LogLinear.guidance(table.autoregressive(label), table.autoregressive(), scale)


def exact_estimate(branches, seam, model, shape, n=2, drawn_twist=None, **kwargs):
    """Return E[Ẑ Σ_i W_i 1{x_i = x}], [V_1, …, V_T], over every draw, every multinomial ancestor and every drawn twist."""
    total, mass = np.zeros(shape), 0.0

    def run(choose):
        def resample(log_weights, _generator):
            weights = log_weights.softmax(0).tolist()
            return torch.tensor([choose(weights) for _ in weights])

        options = {"resample": resample, **kwargs}
        if drawn_twist is not None:
            options["twist"] = drawn_twist(choose)
        return sample_joint(model, n, len(shape), draw=seam(choose), **options)

    for probability, result in branches(run):
        mass += probability
        for x, log_w in zip(result.tokens.tolist(), (result.log_weights + result.log_evidence).tolist(), strict=True):
            total[tuple(x)] += probability * math.exp(log_w)
    assert mass == pytest.approx(1)
    return total


CASES = {
    "T = 2": ((2, 2, 2), 0.9, 2.5, 0.0),
    "T = 3": ((2, 2, 2, 2), 0.9999, 3.0, 0.0),
    "always": ((2, 2, 2), 1.0, -0.4, 0.0),
    "three tokens": ((2, 3, 3), 0.9, 2.0, 0.0),
    "zeros": ((2, 3, 3), 1.0, 2.0, 0.35),
}


@pytest.mark.parametrize("name", CASES)
def test_weighted_particles_are_exactly_unbiased_for_the_joint_law(make_joint, brute, branches, seam, name):
    shape, threshold, scale, zeros = CASES[name]
    joint = make_joint(7, shape, zeros)
    expected = brute(joint, {None: 1 - scale, 0: scale})
    estimate = exact_estimate(branches, seam, guided(Table(joint), 0, scale), shape[1:], threshold=threshold)
    np.testing.assert_allclose(estimate, expected.z * expected.joint, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "transform", [arguide.compose(), arguide.temperature(0.7), arguide.temperature(1.6), arguide.defensive(0.3)]
)
@pytest.mark.parametrize("threshold", [0.0, 0.95])
def test_importance_sampling_and_other_proposals_are_exactly_unbiased(make_joint, brute, branches, seam, transform, threshold):
    joint = make_joint(6, (2, 2, 3))
    expected = brute(joint, {None: -1.0, 1: 2.0})
    estimate = exact_estimate(branches, seam, guided(Table(joint), 1, 2.0), (2, 3), threshold=threshold, transform=transform)
    np.testing.assert_allclose(estimate, expected.z * expected.joint, rtol=0, atol=1e-9)


def test_a_truncated_proposal_restricts_the_target(make_joint, brute, branches, seam):
    joint = make_joint(6, (2, 3, 3))
    expected, model = brute(joint, {None: -1.0, 1: 2.0}), guided(Table(joint), 1, 2.0)
    estimate = exact_estimate(branches, seam, model, (3, 3), transform=arguide.top_k(2), threshold=0.9)
    kept = np.zeros((3, 3))
    for i in np.argsort(expected.steps[()])[-2:]:
        for j in np.argsort(expected.steps[(i,)])[-2:]:
            kept[i, j] = expected.z * expected.joint[i, j]
    np.testing.assert_allclose(estimate, kept, rtol=0, atol=1e-9)


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("threshold", [0.0, 0.95])
def test_a_branch_alone_is_a_proposal_too(make_joint, brute, branches, seam, k, threshold):
    joint = make_joint(6, (2, 2, 3))
    expected, propose = brute(joint, {None: -1.0, 1: 2.0}), sampling.branch(k)
    estimate = exact_estimate(branches, seam, guided(Table(joint), 1, 2.0), (2, 3), threshold=threshold, propose=propose)
    np.testing.assert_allclose(estimate, expected.z * expected.joint, rtol=0, atol=1e-9)


@pytest.mark.parametrize("block", [2, 5])
def test_blocks_of_tokens_are_exactly_unbiased(make_joint, brute, branches, seam, block):
    joint = make_joint(7, (2, 2, 2, 2))
    expected = brute(joint, {None: -2.0, 0: 3.0})
    estimate = exact_estimate(branches, seam, guided(Table(joint), 0, 3.0), (2, 2, 2), threshold=0.9999, block=block)
    np.testing.assert_allclose(estimate, expected.z * expected.joint, rtol=0, atol=1e-9)
    result = sample_joint(guided(Table(joint), 0, 3.0), 5, 3, block=block)
    assert len(result.ess) == len(result.evidences) == math.ceil(3 / block)
    assert result.evidences[-1] == result.log_evidence


@pytest.mark.parametrize("name", ["ahead", "anything"])
def test_a_twist_changes_neither_the_law_nor_the_evidence(make_joint, brute, branches, seam, name):
    joint = make_joint(7, (2, 2, 2, 2))
    expected = brute(joint, {None: -2.0, 0: 3.0})
    anything = lambda state: torch.sin(state.x.sum(1) + 1.0).double()  # noqa: E731
    twist = particles.ahead if name == "ahead" else anything
    estimate = exact_estimate(branches, seam, guided(Table(joint), 0, 3.0), (2, 2, 2), threshold=0.9999, twist=twist)
    np.testing.assert_allclose(estimate, expected.z * expected.joint, rtol=0, atol=1e-9)


@pytest.mark.parametrize("again", [False, True])
def test_a_twist_may_be_drawn_at_random_if_what_was_drawn_is_taken_back(make_joint, brute, branches, seam, monkeypatch, again):
    """An estimate by rollouts, say. The control takes another draw back than the one that the ancestors were drawn by."""
    joint, right, twists = make_joint(7, (2, 2, 2)), driver.resampled, []
    expected = brute(joint, {None: -2.0, 0: 3.0})

    def drawn_twist(choose):
        def twist(state):
            one = choose if state.x.shape[1] else lambda _: 0  # the first decision is left alone: fewer branches
            return torch.tensor([(-1.0, 1.5)[one([0.6, 0.4])] for _ in state.x]).double()

        twists[:] = [twist]
        return twist

    def anew(population, select, ancestors, log_twist, which):
        other = twists[0](population.state).view_as(log_twist)
        moved, rows = right(population, select, ancestors, log_twist, which)
        return moved._replace(log_weights=moved.log_weights + (log_twist - other).gather(-1, ancestors)), rows

    if again:
        monkeypatch.setattr(driver, "resampled", anew)
    model = guided(Table(joint), 0, 3.0)
    estimate = exact_estimate(branches, seam, model, (2, 2), threshold=0.9999, drawn_twist=drawn_twist)
    error = abs(estimate - expected.z * expected.joint).max()
    assert error > 1e-2 if again else error < 1e-9


def test_looking_ahead_evens_the_weights(make_joint, brute):
    """With the weight of the next token known before resampling, the last resampling leaves nothing to weigh."""
    joint = make_joint(9, (2, 3, 2, 3))
    options = {"threshold": 1.0, "generator": torch.Generator().manual_seed(0)}
    result = sample_joint(guided(Table(joint), 0, 2.5), 100, 3, twist=particles.ahead, **options)
    assert result.ess[-1].item() == pytest.approx(100)
    assert sample_joint(guided(Table(joint), 0, 2.5), 100, 3, **options).ess[-1] < 99


@pytest.mark.parametrize("traced", [True, False])
def test_densities_follow_resampled_particles(make_joint, brute, monkeypatch, traced):
    """After several resamplings the densities of a row are those of its tokens; not so without tracing the ancestors."""
    joint, right = make_joint(9, (2, 3, 2, 3)), driver.resampled
    if not traced:
        own = lambda population, *rest: (right(population, *rest)[0], torch.arange(population.log_weights.numel()))  # noqa: E731
        monkeypatch.setattr(driver, "resampled", own)
    expected, laws = brute(joint, {None: -1.5, 0: 2.5}), Table(joint).log_joint({None: -1.5, 0: 2.5})[0].numpy()
    options = {"threshold": 1.0, "resample": arguide.multinomial, "generator": torch.Generator().manual_seed(0)}
    result = sample_joint(guided(Table(joint), 0, 2.5), 40, 3, **options)
    assert result.ancestors < 40
    targets = [math.log(expected.z) + laws[tuple(x)] for x in result.tokens.tolist()]
    steps = [[expected.normalizers[tuple(x[:t])] for t in range(3)] for x in result.tokens.tolist()]
    assert (result.log_target.sum(1).tolist() == pytest.approx(targets)) is traced
    assert np.allclose(result.log_normalizer.exp().numpy(), steps) is traced


def test_several_conditions_and_power_sampling_are_exactly_unbiased(make_joint, brute, branches, seam):
    joint = make_joint(7, (2, 2, 3))
    for weights in ({None: -0.8, 0: 1.2, 1: 0.6}, {None: 1 / 0.45}):
        model = LogLinear(tuple(Table(joint).autoregressive(y) for y in weights), tuple(weights.values()))
        expected = brute(joint, weights)
        estimate = exact_estimate(branches, seam, model, (2, 3), threshold=0.95)
        np.testing.assert_allclose(estimate, expected.z * expected.joint, rtol=0, atol=1e-9)


class Unweighted:
    """A negative control: the model with its normalizers dropped."""

    class State(NamedTuple):
        inner: object
        log_probs: torch.Tensor

    def __init__(self, model):
        self.model = model

    def start(self, n):
        state = self.model.start(n)
        return self.State(state, state.log_probs)

    def append(self, state, token):
        state = self.model.append(state.inner, token)
        return self.State(state, state.log_probs)

    def select(self, state, index):
        state = self.model.select(state.inner, index)
        return self.State(state, state.log_probs)


def test_the_exact_check_fails_when_the_normalizers_are_dropped(make_joint, brute, branches, seam):
    joint = make_joint(7, (2, 2, 2, 2))
    expected = brute(joint, {None: -2.0, 0: 3.0})
    estimate = exact_estimate(branches, seam, Unweighted(guided(Table(joint), 0, 3.0)), (2, 2, 2))
    np.testing.assert_allclose(estimate, expected.sequential, rtol=0, atol=1e-9)
    assert abs(estimate - expected.z * expected.joint).max() > 1e-2


def test_the_exact_check_fails_when_resampling_does_not_bank_the_weights(make_joint, brute, branches, seam, monkeypatch):
    joint = make_joint(7, (2, 2, 2, 2))
    expected = brute(joint, {None: -2.0, 0: 3.0})
    right = driver.resampled

    def forgetful(population, *rest):
        moved, rows = right(population, *rest)
        return moved._replace(log_banked=population.log_banked), rows

    monkeypatch.setattr(driver, "resampled", forgetful)
    estimate = exact_estimate(branches, seam, guided(Table(joint), 0, 3.0), (2, 2, 2), threshold=0.9999)
    assert abs(estimate - expected.z * expected.joint).max() > 1e-3


def test_the_exact_check_fails_under_biased_resampling(make_joint, brute, branches, seam):
    joint = make_joint(7, (2, 2, 2, 2))
    expected = brute(joint, {None: -2.0, 0: 3.0})
    estimate = exact_estimate(
        branches, seam, guided(Table(joint), 0, 3.0), (2, 2, 2), threshold=0.9999, resample=lambda w, _: w.argmax().expand(2)
    )
    assert abs(estimate - expected.z * expected.joint).max() > 1e-3


def test_without_anything_to_correct_every_weight_is_equal(make_joint):
    model = guided(Table(make_joint(9, (2, 3, 2, 3))), 0, 1.0)
    result = sample_joint(model, 50, 3, generator=torch.Generator().manual_seed(0))
    assert result.log_evidence.item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(result.log_weights.exp(), torch.full((50,), 1 / 50, dtype=torch.float64))
    torch.testing.assert_close(result.ess, torch.full((3,), 50.0, dtype=torch.float64))
    assert result.ancestors == 50


def test_when_every_particle_is_dead_it_says_so():
    joint = np.zeros((2, 2, 2))
    joint[0, 0, 0], joint[0, 1, 1], joint[1, 0, 1], joint[1, 1, 0] = 0.3, 0.2, 0.25, 0.25
    model = LogLinear((Table(joint).autoregressive(0), Table(joint).autoregressive(1)), (1.0, 1.0))
    with pytest.raises(ValueError, match="weight 0"):
        sample_joint(model, 20, 2, generator=torch.Generator().manual_seed(0))


def test_particles_that_die_are_replaced_and_counted(brute):
    joint = np.zeros((2, 2, 2))  # after a first 0 the labels share a pair, after a first 1 none
    joint[0, 0], joint[0, 1], joint[1, 0], joint[1, 1] = [0.2, 0.1], [0.2, 0.0], [0.1, 0.2], [0.0, 0.2]
    model = LogLinear((Table(joint).autoregressive(0), Table(joint).autoregressive(1)), (1.0, 1.0))
    result = sample_joint(model, 4000, 2, generator=torch.Generator().manual_seed(1))
    assert set(result.tokens[result.log_weights > -math.inf][:, 0].tolist()) == {0}
    # One run of 4,000: Ẑ has a relative standard error below 2 %, so 10 % is 5 of them.
    assert result.log_evidence.exp().item() == pytest.approx(brute(joint, {0: 1.0, 1: 1.0}).z, rel=0.1)


def test_the_same_seed_gives_the_same_particles(make_joint):
    model = guided(Table(make_joint(9, (2, 3, 2, 3))), 0, 2.5)
    runs = [sample_joint(model, 64, 3, generator=torch.Generator().manual_seed(s), threshold=1.0) for s in (1, 1, 2)]
    assert torch.equal(runs[0].tokens, runs[1].tokens)
    assert torch.equal(runs[0].log_weights, runs[1].log_weights)
    assert not torch.equal(runs[0].tokens, runs[2].tokens)


def test_no_tokens_is_a_population_of_equal_weights(make_joint):
    result = sample_joint(guided(Table(make_joint()), 0, 2.0), 3, 0)
    assert result.tokens.shape == (3, 0)
    assert result.log_evidence.item() == 0


@pytest.mark.parametrize("wrong", [{"n": 0}, {"n": 3, "block": 0}])
def test_nothing_to_draw_is_refused(make_joint, wrong):
    with pytest.raises(ValueError, match="integer of at least 1, got 0"):
        sample_joint(guided(Table(make_joint()), 0, 2.0), length=2, **wrong)


def test_rows_with_scales_of_their_own_have_no_common_target(make_joint):
    table = Table(make_joint())
    model = LogLinear.guidance(table.autoregressive(0), table.autoregressive(), torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="one scale"):
        sample_joint(model, 2, 2, threshold=0.0)
