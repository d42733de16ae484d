"""Words under labels that share letters, and pairs with their fits: every number against plain loops over words."""

import math
from itertools import pairwise, product

import pytest
import torch

from analysis.toys.pairs import paired, unlikely
from analysis.toys.words import words


@pytest.fixture(scope="module")
def small():
    return words(4, labels=2, letters=2, seed=1)


def test_words_are_counted_as_by_loops(small):
    letters, repeats = small.letters(), small.repeats()
    for x in product(range(3), repeat=4):
        steps = [step for step in pairwise(x) if min(step) > 0]
        assert letters[x] == sum(token > 0 for token in x)
        assert repeats[x] == len(steps) - len(set(steps))
    assert small.table.log_probs()[0, 1, 1, 1] == -math.inf  # no letter follows the end, and no word is empty


def test_the_fit_of_order_one_has_the_mixtures_counts(small):
    """The fit has nearly the mixture's transitions, and is no mixture; noise of size 0 leaves the mixture as it is."""
    fit, mixture = small.pooled().exp(), small.table.log_probs().exp()
    assert fit.sum() == pytest.approx(1, abs=1e-12)
    for pair in product(range(3), repeat=2):
        ahead = [sum(law[x] for x in product(range(3), repeat=4) if pair in pairwise(x)) for law in (fit, mixture)]
        assert float(ahead[0]) == pytest.approx(float(ahead[1]), abs=0.1)
    assert abs(fit - mixture).max() > 1e-3
    same = small.blurred(0.0, torch.Generator())
    torch.testing.assert_close(same, small.table.log_probs())
    noisy = small.blurred(0.5, torch.Generator()).exp()
    assert float(noisy.sum()) == pytest.approx(1, abs=1e-12)
    assert abs(noisy - mixture).max() > 0.01


def test_a_ratio_passes_the_bound_only_where_the_pair_is_incoherent(small):
    for label in (0, 1):
        mixture, fit = (paired(small.table, label, law) for law in (small.table.log_probs(), small.pooled()))
        assert mixture.bound == pytest.approx(math.log(2))
        assert mixture.log_ratio.max() <= mixture.bound + 1e-12
        assert fit.log_ratio.max() > fit.bound + 0.05


def test_the_unlikeliest_have_one_percent(small):
    log_cond = small.table.log_probs(0)
    mask, mass = unlikely(log_cond), log_cond.exp()
    assert float(mass[mask].sum()) <= 0.01
    assert float(mass[mask].sum() + mass[~mask].min()) > 0.01
    assert mass[mask].max() <= mass[~mask].min()
    assert mask[log_cond == -math.inf].all()
