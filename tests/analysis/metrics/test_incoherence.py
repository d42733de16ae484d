"""Incoherence of a pair, against exact divergences of tables."""

import numpy as np
import pytest
import torch

from analysis.metrics.incoherence import Scored, incoherence

PRIOR = np.array([0.2, 0.5, 0.3])


def laws():
    rng = np.random.default_rng(4)
    return rng.dirichlet(np.ones(6), size=3), rng.dirichlet(np.ones(6))


def measured(cond, learned, n=40_000, balanced=False):
    rng = np.random.default_rng(1)
    labels = np.arange(n) % 3 if balanced else rng.choice(3, n, p=PRIOR)
    x = np.array([rng.choice(6, p=cond[k]) for k in labels])
    free = rng.choice(6, n, p=learned)
    tensor = lambda values: torch.tensor(values, dtype=torch.float64)  # noqa: E731
    scored = [
        Scored(torch.tensor(labels), tensor(np.log(cond[:, each].T)), tensor(np.log(learned[each]))) for each in (x, free)
    ]
    return incoherence(tensor(PRIOR).log(), *scored)


@pytest.mark.parametrize("balanced", [False, True])
def test_divergences_and_the_share_beyond_the_bound_are_those_of_the_table(balanced):
    """Within 4 standard errors: odds of 1e-4; the wrong direction of a divergence is 10 of them away."""
    cond, learned = laws()
    mixture = PRIOR @ cond
    found = measured(cond, learned, balanced=balanced)
    forward, backward = (mixture * np.log(mixture / learned)).sum(), (learned * np.log(learned / mixture)).sum()
    beyond = (PRIOR[:, None] * cond * (np.log(cond / learned) > -np.log(PRIOR)[:, None])).sum()
    for estimate, exact in ((found.mixture_learned, forward), (found.learned_mixture, backward), (found.beyond, beyond)):
        assert abs(estimate.value - exact) < 4 * estimate.std_error
    assert abs(found.mixture_learned.value - backward) > 10 * found.mixture_learned.std_error
    assert found.largest == pytest.approx(np.log(cond / learned).max())
    assert found.bound == pytest.approx(-np.log(0.2))


def test_a_coherent_pair_has_none():
    cond, _ = laws()
    found = measured(cond, PRIOR @ cond, n=300)
    assert abs(found.mixture_learned.value) + abs(found.learned_mixture.value) < 1e-12
    assert found.beyond.value == 0
    assert found.largest <= found.bound


def test_a_label_without_draws_is_refused():
    some = Scored(torch.tensor([0, 2]), torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(ValueError, match="labels must all be drawn"):
        incoherence(torch.tensor(PRIOR).log(), some, some)
