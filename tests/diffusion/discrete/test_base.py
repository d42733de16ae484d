"""The combination of log-probabilities: products of powers in probability space, cell by cell."""

import math

import pytest
import torch

from diffusion import LogLinear
from diffusion.discrete.base import categorical, combine, one_target

INF = math.inf


def product(probabilities, weights):
    """Return Π_k p_k^{w_k} of one value: 0 where a branch of positive weight, or every branch, has no mass."""
    if not any(probabilities) or any(p == 0 and w > 0 for p, w in zip(probabilities, weights, strict=True)):
        return 0.0
    return math.prod(p**w for p, w in zip(probabilities, weights, strict=True) if w != 0)


@pytest.mark.parametrize("weights", [(3.0, -2.0), (1.0, 0.0), (0.0, 1.0), (0.4, 0.6), (1.5, 0.7, -0.9), (2.0,)])
def test_the_combination_is_a_product_of_powers_with_zeros(weights):
    logits = torch.randn(len(weights), 5, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log_softmax(-1)
    logits[:, :, 1, 2] = -INF  # in every branch
    logits[[0, -1], :, 0, 1] = -INF  # of both signs, but not in every branch
    for k, weight in enumerate(weights):
        logits[k, :, 2, 3] = -INF if weight >= 0 else logits[k, :, 2, 3]
    cells = logits.exp().flatten(1).T.tolist()
    expected = torch.tensor([product(cell, weights) for cell in cells], dtype=torch.float64).reshape(5, 4, 6)
    torch.testing.assert_close(combine(list(logits), weights).exp(), expected, rtol=1e-12, atol=0)


def test_a_weight_may_differ_between_samples():
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = torch.tensor([0.0, 1.0, 2.5], dtype=torch.float64)
    found = combine(list(logits), (scale, 1 - scale))
    for i, gamma in enumerate(scale.tolist()):
        torch.testing.assert_close(found[i], gamma * logits[0, i] + (1 - gamma) * logits[1, i])


@pytest.mark.parametrize("weights", [(3.0, -2.0), (-0.5, 1.5)])
def test_mass_without_bound_is_an_error(weights):
    logits = [torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)]
    logits[weights.index(min(weights))][0, 0, 0] = -INF
    with pytest.raises(ValueError, match="improper tilt"):
        combine(logits, weights)


def test_weights_must_be_finite():
    with pytest.raises(ValueError, match="finite"):
        combine([torch.zeros(1, 2, 3)], (math.nan,))


def test_particles_share_one_target():
    denoisers = (lambda x, time: x, lambda x, time: -x)
    one_target(LogLinear(denoisers, (2.0, torch.tensor(-1.0))))
    for weights in ((torch.tensor([1.0, 2.0]), 0.0), lambda time: (1.0, 0.0)):
        with pytest.raises(ValueError, match="share one target"):
            one_target(LogLinear(denoisers, weights))


def test_a_draw_is_one_index_a_row_and_follows_its_seed():
    law = torch.tensor([[0.0, -INF], [-INF, 0.0], [-0.7, -0.7]], dtype=torch.float64)
    first, again = (categorical(torch.Generator().manual_seed(4))(law) for _ in range(2))
    assert first[:2].tolist() == [0, 1]
    assert first.equal(again)
