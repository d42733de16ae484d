import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

import arguide
from analysis import MarkovChain, Table
from arguide import Ending, LogLinear, particles, sample, sample_joint, sampling
from arguide.smc import driver

INITIAL = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], dtype=torch.float64)
TRANSITION = torch.tensor([[[5, 3, 2], [1, 8, 1], [3, 3, 4]], [[2, 2, 6], [4, 4, 2], [1, 3, 6]]], dtype=torch.float64) / 10


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
    anything = lambda path: torch.sin(path.state.tokens.sum(1) + 1.0).double()  # noqa: E731
    twist = particles.ahead if name == "ahead" else anything
    estimate = exact_estimate(branches, seam, guided(Table(joint), 0, 3.0), (2, 2, 2), threshold=0.9999, twist=twist)
    np.testing.assert_allclose(estimate, expected.z * expected.joint, rtol=0, atol=1e-9)


@pytest.mark.parametrize("again", [False, True])
def test_a_twist_may_be_drawn_at_random_if_what_was_drawn_is_taken_back(make_joint, brute, branches, seam, monkeypatch, again):
    """An estimate by rollouts, say. The control takes another draw back than the one that the ancestors were drawn by."""
    joint, right, twists = make_joint(7, (2, 2, 2)), driver.resampled, []
    expected = brute(joint, {None: -2.0, 0: 3.0})

    def drawn_twist(choose):
        def twist(path):
            one = choose if path.state.tokens.shape[1] else lambda _: 0  # the first decision is left alone: fewer branches
            return torch.tensor([(-1.0, 1.5)[one([0.6, 0.4])] for _ in path.state.tokens]).double()

        twists[:] = [twist]
        return twist

    def anew(population, select, ancestors, log_twist, which):
        other = twists[0](population.value).view_as(log_twist)
        moved = right(population, select, ancestors, log_twist, which)
        return moved._replace(log_weights=moved.log_weights + (log_twist - other).gather(-1, ancestors))

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


def test_pooled_runs_weigh_by_their_evidence(make_joint):
    model = guided(Table(make_joint(9, (2, 3, 2, 3))), 0, 2.5)
    runs = [sample_joint(model, n, 3, generator=torch.Generator().manual_seed(n)) for n in (10, 30)]
    whole = particles.pooled(runs)
    mass = whole.log_weights.exp()
    ratio = (runs[0].log_evidence - runs[1].log_evidence).exp() * 10 / 30
    assert (mass[:10].sum() / mass[10:].sum()).item() == pytest.approx(ratio.item())
    mean = (10 * runs[0].log_evidence.exp() + 30 * runs[1].log_evidence.exp()) / 40
    assert whole.log_evidence.exp().item() == pytest.approx(mean.item())
    assert whole.tokens.shape == whole.log_target.shape == (40, 3)


def test_pooled_runs_tell_the_error_of_their_mean(make_joint):
    """Equal runs have the standard error of a mean; runs that agree have none, whatever their sizes."""
    model = guided(Table(make_joint(9, (2, 3, 2, 3))), 0, 2.5)
    runs = [sample_joint(model, 10, 3, generator=torch.Generator().manual_seed(s)) for s in range(3)]
    ratios = torch.stack([run.log_evidence for run in runs]).exp().numpy()
    error = particles.pooled(runs).std_error.item()
    assert error == pytest.approx(ratios.std(ddof=1) / math.sqrt(3) / ratios.mean())
    more = sample_joint(model, 30, 3)._replace(log_evidence=runs[0].log_evidence)
    assert particles.pooled([runs[0], more]).std_error.item() == pytest.approx(0, abs=1e-9)


def test_pooled_runs_of_unlike_lengths_keep_their_own_columns(make_joint):
    model = Ending(guided(Table(make_joint(9, (2, 3, 3, 3))), 0, 2.5), (2,), 3)
    short, long = (sample_joint(model, 2, 3, draw=lambda law, v=v: torch.full((len(law),), v)) for v in (2, 0))
    whole = particles.pooled([short, long])
    assert whole.tokens.tolist() == [[2, 2, 2]] * 2 + [[0, 0, 0]] * 2
    for name in ("log_target", "log_normalizer"):
        rows = getattr(whole, name)
        assert torch.equal(rows[:2, :1], getattr(short, name))
        assert (rows[:2, 1:] == 0).all()
        assert torch.equal(rows[2:], getattr(long, name))


def test_what_is_told_along_a_sequence_is_that_sequences_own(make_joint, brute):
    """After many resamplings the infos of a row are still those of its tokens."""
    joint = make_joint(9, (2, 3, 2, 3))
    expected, laws = brute(joint, {None: -1.5, 0: 2.5}), Table(joint).log_joint({None: -1.5, 0: 2.5})[0].numpy()
    result = sample_joint(guided(Table(joint), 0, 2.5), 40, 3, threshold=1.0, generator=torch.Generator().manual_seed(0))
    for x, target, steps in zip(result.tokens.tolist(), result.log_target, result.log_normalizer, strict=True):
        assert target.sum().item() == pytest.approx(math.log(expected.z) + laws[tuple(x)])
        assert steps.exp().tolist() == pytest.approx([expected.normalizers[tuple(x[:t])] for t in range(3)])


def test_one_population_tells_the_error_of_its_evidence():
    """Mean over runs of the estimated variance against the variance over runs; a χ² of 200 runs errs by 10 %."""
    chain = MarkovChain(INITIAL, TRANSITION, 12)
    model = LogLinear.guidance(chain.autoregressive(0), chain.autoregressive(), 5.0)
    for threshold in (0.0, 0.7):
        options = {"threshold": threshold, "resample": arguide.multinomial}
        runs = [sample_joint(model, 200, 12, generator=torch.Generator().manual_seed(s), **options) for s in range(200)]
        spread = torch.stack([run.log_evidence for run in runs]).var().item()
        told = torch.stack([run.std_error.square() for run in runs]).mean().item()
        assert told == pytest.approx(spread, rel=0.5)
    assert all(run.ancestors < 200 for run in runs)


def test_the_error_of_importance_sampling_is_that_of_a_mean():
    weights = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    error = driver.populate(None, weights.log()).std_error.item()
    assert error == pytest.approx(weights.numpy().std(ddof=1) / math.sqrt(4) / weights.mean().item())


def test_drawing_from_particles_is_by_weight():
    weights = torch.tensor([0.1, 0.0, 0.9])
    nothing = torch.empty(0)
    result = particles.JointSample(torch.arange(3)[:, None], weights.log(), *[nothing] * 7)
    drawn = result.draw(2000, torch.Generator().manual_seed(0)).flatten().bincount(minlength=3) / 2000
    assert drawn[1] == 0
    assert drawn[2].item() == pytest.approx(0.9, abs=0.04)  # six standard errors


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
        return right(population, *rest)._replace(log_banked=population.log_banked)

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


# By Monte Carlo: RUNS independent populations of N give a mean and a standard error of Ẑ·Σ_i W_i 1{x_i = x} in each of 18
# cells, and of Ẑ. At 6 standard errors, Student's t with 59 degrees of freedom, the false-fail rate of one test is below
# 1e-5; a cell wrong by 6 standard errors, some 5 % of the fullest, is detected. No cell expects fewer than 100 visits.
RUNS, SIGMAS = 60, 6.0


def discrepancy(make, expected):
    """Return the largest distance, in standard errors, of mean(make(seed)) from what is expected."""
    values = np.stack([make(seed) for seed in range(RUNS)])
    error = values.std(0, ddof=1) / math.sqrt(RUNS)
    return (abs(values.mean(0) - expected) / np.maximum(error, 1e-12)).max()


@pytest.fixture(scope="module")
def even(make_joint):
    """Return a table without rare cells."""
    return 0.6 * make_joint(9, (2, 3, 2, 3)) + 0.4 / 36


def frequencies(tokens, log_weights, shape):
    cells = np.ravel_multi_index(tuple(tokens.T.numpy()), shape)
    return np.bincount(cells, weights=log_weights.exp().numpy(), minlength=math.prod(shape))


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("resample", ["systematic", "stratified", "residual", "multinomial"])
def test_particles_follow_the_joint_law_and_log_evidence_is_log_z(even, brute, resample, threshold):
    expected, model = brute(even, {None: -1.5, 0: 2.5}), guided(Table(even), 0, 2.5)
    assert expected.joint.min() * 300 * RUNS > 100

    def make(seed):
        options = {"generator": torch.Generator().manual_seed(seed), "resample": getattr(arguide, resample)}
        result = sample_joint(model, 300, 3, threshold=threshold, **options)
        return np.append(
            frequencies(result.tokens, result.log_weights + result.log_evidence, (3, 2, 3)), result.log_evidence.exp()
        )

    assert discrepancy(make, np.append(expected.z * expected.joint.ravel(), expected.z)) < SIGMAS


def test_the_monte_carlo_check_fails_on_unweighted_samples(even, brute):
    expected, model = brute(even, {None: -1.5, 0: 2.5}), guided(Table(even), 0, 2.5)
    equal = torch.full((300,), -math.log(300))

    def sequential(seed):
        return frequencies(sample(model, 300, 3, generator=torch.Generator().manual_seed(seed)).tokens, equal, (3, 2, 3))

    def weights_dropped(seed):
        tokens = sample_joint(model, 300, 3, generator=torch.Generator().manual_seed(seed), threshold=0.0).tokens
        return frequencies(tokens, equal, (3, 2, 3))

    assert discrepancy(sequential, expected.joint.ravel()) > SIGMAS
    assert discrepancy(weights_dropped, expected.joint.ravel()) > SIGMAS


def test_power_sampling_draws_the_joint_temperature_law(even, brute):
    expected = brute(even, {1: 1 / 0.4})
    model = LogLinear.temperature(Table(even).autoregressive(1), 0.4)

    def make(seed):
        result = sample_joint(model, 300, 3, generator=torch.Generator().manual_seed(seed))
        return frequencies(result.tokens, result.log_weights + result.log_evidence, (3, 2, 3))

    assert discrepancy(make, expected.z * expected.joint.ravel()) < SIGMAS
    assert discrepancy(make, expected.z * expected.sequential.ravel()) > SIGMAS


def test_log_evidence_of_a_chain_is_its_log_z():
    chain = MarkovChain(INITIAL, TRANSITION, 20)
    model = LogLinear.guidance(chain.autoregressive(0), chain.autoregressive(), 2.0)
    log_z = chain.joint_guided(0, 2.0).log_normalizer

    def ratio(seed):
        return (sample_joint(model, 400, 20, generator=torch.Generator().manual_seed(seed)).log_evidence - log_z).exp().numpy()

    assert discrepancy(ratio, 1.0) < SIGMAS


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


def test_effective_sample_size_and_evidence_of_known_weights():
    population = driver.populate(None, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).log() + 900)
    assert population.ess.item() == pytest.approx(36 / 14)
    assert population.log_evidence.item() == pytest.approx(math.log(2.0) + 900)
    assert population.ancestors == 3


def test_resampling_keeps_the_evidence_and_traces_the_first_ancestors():
    population = driver.populate(torch.arange(4), torch.tensor([0.3, -1.0, 2.0, 0.1], dtype=torch.float64))
    once = driver.resampled(population, lambda value, index: value[index], torch.tensor([2, 2, 0, 3]))
    twice = driver.resampled(once, lambda value, index: value[index], torch.tensor([0, 1, 1, 2]))
    assert once.log_evidence.item() == pytest.approx(population.log_evidence.item())
    assert once.log_weights.tolist() == [0.0] * 4
    assert twice.value.tolist() == twice.origin.tolist() == [2, 2, 2, 0]
    assert (once.ancestors, twice.ancestors) == (3, 2)


@pytest.mark.parametrize(("threshold", "resamplings"), [(0.0, 0), (0.3, 1), (0.9, 3), (1.0, 3)])
def test_the_driver_resamples_when_the_effective_size_falls_below_the_threshold(threshold, resamplings):
    # One particle in four weighs 1, the others e^−1.5: an effective size of 2.33 of 4 after one move, 1.2 after two.
    calls, increment = [], torch.tensor([0.0, -1.5, -1.5, -1.5], dtype=torch.float64)

    def keep(log_weights, _generator):
        calls.append(len(log_weights))
        return torch.arange(4)

    moves = [lambda value: (value, increment)] * 4
    start = driver.populate(torch.arange(4), torch.zeros(4, dtype=torch.float64))
    stages = list(driver.drive(start, moves, lambda value, index: value[index], resample=keep, threshold=threshold))
    assert len(stages) == 4
    assert len(calls) == resamplings


@pytest.mark.parametrize(("look", "resamplings"), [(0.0, 1), (3.0, 0), (-3.0, 2)])
def test_when_to_resample_goes_by_what_is_expected_too(look, resamplings):
    """A twist that evens the uneven weight puts resampling off, one that makes it worse brings it on."""
    increment = torch.tensor([3.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    twist = lambda value: torch.tensor([-look, 0.0, 0.0, 0.0], dtype=torch.float64)  # noqa: E731
    start = driver.populate(torch.arange(4), torch.zeros(4, dtype=torch.float64))
    *_, last = driver.drive(
        start,
        [lambda value: (value, increment), lambda value: (value, 0 * increment)],
        lambda value, index: value[index],
        resample=lambda log_weights, _: torch.arange(4),
        twist=twist,
    )
    assert last.resamplings == resamplings


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
