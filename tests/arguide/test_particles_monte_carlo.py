"""The joint law of tokens by Monte Carlo, with negative controls."""

import math

import numpy as np
import pytest
import torch

import arguide
from analysis import MarkovChain, Table
from arguide import LogLinear, sample, sample_joint

INITIAL = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], dtype=torch.float64)
TRANSITION = torch.tensor([[[5, 3, 2], [1, 8, 1], [3, 3, 4]], [[2, 2, 6], [4, 4, 2], [1, 3, 6]]], dtype=torch.float64) / 10


def guided(table, label, scale):
    return LogLinear.guidance(table.autoregressive(label), table.autoregressive(), scale)


def test_one_population_estimates_the_error_of_its_evidence():
    """Mean over runs of the estimated variance against the variance over runs; a χ² of 200 runs errs by 10 %."""
    chain = MarkovChain(INITIAL, TRANSITION, 12)
    model = LogLinear.guidance(chain.autoregressive(0), chain.autoregressive(), 5.0)
    for threshold in (0.0, 0.7):
        options = {"threshold": threshold, "resample": arguide.multinomial}
        runs = [sample_joint(model, 200, 12, generator=torch.Generator().manual_seed(s), **options) for s in range(200)]
        spread = torch.stack([run.log_evidence for run in runs]).var().item()
        estimate = torch.stack([run.std_error.square() for run in runs]).mean().item()
        assert estimate == pytest.approx(spread, rel=0.5)
    assert all(run.ancestors < 200 for run in runs)


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
