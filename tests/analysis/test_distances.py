import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from analysis import distances

P = np.array([0.5, 0.2, 0.3, 0.0])
Q = np.array([0.1, 0.6, 0.2, 0.1])


def log(p):
    return torch.from_numpy(p).log()


def test_distances_agree_with_scipy():
    assert distances.kl(log(P), log(Q)).item() == pytest.approx(entropy(P, Q))
    assert distances.entropy(log(P)).item() == pytest.approx(entropy(P))
    assert distances.tv(log(P), log(Q)).item() == pytest.approx(0.5)


def test_kl_is_infinite_where_mass_is_missed_and_zero_to_itself():
    assert distances.kl(log(Q), log(P)).item() == math.inf
    assert distances.kl(log(P), log(P)).item() == 0


def test_tv_is_symmetric_and_one_between_disjoint_laws():
    assert distances.tv(log(P), log(Q)) == distances.tv(log(Q), log(P))
    assert distances.tv(log(np.array([1.0, 0.0])), log(np.array([0.0, 1.0]))).item() == 1


def test_expectation_ignores_values_without_mass():
    assert distances.expectation(log(P), torch.tensor([1.0, 2.0, 3.0, -math.inf])).item() == pytest.approx(1.8)


def test_empirical_frequencies_are_weighted_and_normalised():
    cells = torch.tensor([0, 2, 2, 0])
    assert distances.empirical(cells, 4).exp().tolist() == [0.5, 0, 0.5, 0]
    weighted = distances.empirical(cells, 3, torch.tensor([1.0, 2.0, 3.0, 4.0]).log())
    assert weighted.exp().tolist() == pytest.approx([0.5, 0, 0.5])
