import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

import arguide

INF = math.inf


def logs(seed=0, shape=(4, 7), dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log_softmax(-1).to(dtype)


@pytest.fixture
def pair():
    return logs(1), logs(2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_endpoints_are_bit_exact(dtype, as_tensor):
    cond, uncond = logs(1, dtype=dtype) * 37, logs(2, dtype=dtype) * 37
    zero, one = (torch.tensor(0.0), torch.tensor(1.0)) if as_tensor else (0, 1)
    assert torch.equal(arguide.guide(cond, uncond, zero), uncond)
    assert torch.equal(arguide.guide(cond, uncond, one), cond)


def test_it_is_affine_in_the_scale(pair):
    values = [arguide.guide(*pair, scale) for scale in (-1.0, 0.5, 2.0)]
    torch.testing.assert_close(values[2] - values[1], values[1] - values[0], rtol=0, atol=1e-12)
    assert (values[2] - values[1]).abs().max() > 0.1  # the law is not vacuous


def test_a_scale_above_one_moves_away_from_the_unconditional_law():
    cond, uncond = torch.tensor([0.7, 0.3]).log(), torch.tensor([0.4, 0.6]).log()
    assert arguide.guide(cond, uncond, 3.0).softmax(-1)[0] == pytest.approx(
        0.7**3 / 0.4**2 / (0.7**3 / 0.4**2 + 0.3**3 / 0.6**2)
    )


def test_a_batch_is_its_rows_with_a_scale_each(pair):
    scales = torch.tensor([-0.5, 0.0, 1.0, 2.5], dtype=torch.float64)
    batch = arguide.guide(*pair, scales)
    for i, scale in enumerate(scales.tolist()):
        assert torch.equal(batch[i], arguide.guide(pair[0][i], pair[1][i], scale))
    folded = arguide.guide(pair[0].view(2, 2, 7), pair[1].view(2, 2, 7), scales.view(2, 2))
    assert torch.equal(folded.view(4, 7), batch)
    column = arguide.guide(pair[0].view(2, 2, 7), pair[1].view(2, 2, 7), torch.tensor([[2.0], [-1.0]]))
    assert torch.equal(column.view(4, 7), arguide.guide(*pair, torch.tensor([2.0, 2.0, -1.0, -1.0])))


def test_permuting_tokens_permutes_the_result(pair):
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    swapped = arguide.guide(pair[0][:, order], pair[1][:, order], 2.0)
    assert torch.equal(swapped, arguide.guide(*pair, 2.0)[:, order])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precisions_are_combined_in_float32(dtype):
    cond, uncond = logs(1, dtype=dtype), logs(2, dtype=dtype)
    guided = arguide.guide(cond, uncond, 3.3)
    assert guided.dtype == torch.float32
    assert torch.equal(guided, arguide.guide(cond.float(), uncond.float(), 3.3))
    assert arguide.guide(cond, uncond.double(), 3.3).dtype == torch.float64


@pytest.mark.parametrize(
    ("cond", "uncond", "scale", "expected"),
    [
        (-INF, -1.0, 2.0, -INF),
        (-INF, -1.0, 0.5, -INF),
        (-1.0, -INF, 0.5, -INF),
        (-INF, -1.0, 0.0, -1.0),
        (-1.0, -INF, 1.0, -1.0),
        (-1.0, -INF, 0.0, -INF),
        (-INF, -1.0, 1.0, -INF),
        (-INF, -INF, 2.0, -INF),
        (-INF, -INF, -2.0, -INF),
    ],
)
def test_the_policy_for_zeros_row_by_row(cond, uncond, scale, expected):
    guided = arguide.guide(torch.tensor([cond, -2.0]), torch.tensor([uncond, -2.0]), scale)
    assert guided.tolist() == [expected, -2.0]


@pytest.mark.parametrize(("cond", "uncond", "scale"), [(-1.0, -INF, 1.5), (-INF, -1.0, -0.5)])
def test_an_improper_tilt_raises_and_a_floor_clamps_the_negative_branch(cond, uncond, scale):
    cond, uncond = torch.tensor([cond, -2.0]), torch.tensor([uncond, -2.0])
    with pytest.raises(ValueError, match="improper tilt"):
        arguide.guide(cond, uncond, scale)
    floored = arguide.guide(cond, uncond, scale, floor=-20.0)
    assert floored[0] == pytest.approx(scale * max(cond[0].item(), -20) + (1 - scale) * max(uncond[0].item(), -20))
    assert floored[1] == -2.0


def test_a_floor_leaves_branches_of_positive_weight_alone():
    guided = arguide.guide(torch.tensor([-INF, -50.0]), torch.tensor([-1.0, -1.0]), 0.5, floor=-20.0)
    assert guided.tolist() == [-INF, -25.5]


def test_one_improper_row_of_a_batch_raises_and_its_scale_alone_mends_it():
    cond, uncond = torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [0.0, -INF]])
    with pytest.raises(ValueError, match="improper tilt"):
        arguide.guide(cond, uncond, torch.tensor([1.0, 2.0]))
    assert arguide.guide(cond, uncond, torch.tensor([2.0, 1.0])).isfinite().all()


entry = st.one_of(st.just(-INF), st.floats(-30, 0))
row = st.lists(entry, min_size=3, max_size=3)


@settings(derandomize=True, deadline=None, database=None, max_examples=300)
@given(row, row, st.one_of(st.sampled_from([0.0, 1.0]), st.floats(-3, 4)), st.sampled_from([None, -25.0]))
def test_it_never_returns_nan_and_raises_only_when_mass_is_infinite(cond, uncond, scale, floor):
    improper = any((c == -INF < u and scale < 0) or (u == -INF < c and scale > 1) for c, u in zip(cond, uncond, strict=True))
    tensors = torch.tensor(cond, dtype=torch.float64), torch.tensor(uncond, dtype=torch.float64)
    if improper and floor is None:
        with pytest.raises(ValueError, match="improper"):
            arguide.guide(*tensors, scale)
        return
    guided = arguide.guide(*tensors, scale, floor=floor)
    assert not guided.isnan().any()
    assert not (guided == INF).any()
    log_probs, log_normalizer = arguide.normalize(guided)
    assert not log_probs.isnan().any()
    total = log_probs.exp().sum()
    assert float(total) == pytest.approx(1.0 if log_normalizer > -INF else 0.0)


@pytest.mark.parametrize("scale", [-0.7, 0.4, 1.0, 2.0, 6.0])
def test_log_normalizer_is_the_renyi_divergence_times_scale_minus_one(scale):
    # d/dγ of (γ−1)·R_γ(c‖u) is E[log c − log u] under the tilted law, and both R_1's factor and R_0's vanish: integrate.
    c, u = logs(1)[0].exp().numpy(), logs(2)[0].exp().numpy()

    def slope(g):
        tilted = c * (c / u) ** (g - 1)
        return float((tilted * np.log(c / u)).sum() / tilted.sum())

    _, log_normalizer = arguide.normalize(arguide.guide(logs(1), logs(2), scale))
    assert log_normalizer[0].item() == pytest.approx(quad(slope, 1, scale)[0], abs=1e-9)
    assert quad(slope, 0, 1)[0] == pytest.approx(0, abs=1e-9)


def test_log_normalizer_at_scale_two_is_the_chi_square_divergence(pair):
    c, u = (law.exp() for law in pair)
    chi_square = ((c - u) ** 2 / u).sum(-1)
    torch.testing.assert_close(arguide.normalize(arguide.guide(*pair, 2.0)).log_normalizer, (1 + chi_square).log())


def test_normalize_keeps_a_row_without_mass():
    log_probs, log_normalizer = arguide.normalize(torch.tensor([[-INF, -INF], [0.0, -INF]]))
    assert log_probs.tolist() == [[-INF, -INF], [0.0, -INF]]
    assert log_normalizer.tolist() == [-INF, 0.0]


def test_normalising_the_inputs_first_leaves_token_probabilities(pair):
    raw = arguide.guide(pair[0] + 3.0, pair[1] - 1.7, 2.5).softmax(-1)
    torch.testing.assert_close(raw, arguide.guide(*pair, 2.5).softmax(-1))


def test_several_conditions_and_negative_ones_combine_linearly():
    laws, weights = [logs(i) for i in range(3)], (1.5, -0.7, 0.2)
    expected = sum(w * law.numpy() for w, law in zip(weights, laws, strict=True))
    np.testing.assert_allclose(arguide.combine(laws, weights).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("ignored", [math.nan, INF, -INF])
def test_a_weight_of_zero_ignores_its_branch_whatever_it_holds(ignored):
    assert torch.equal(arguide.combine((logs(1), torch.full((4, 7), ignored)), (1.0, 0.0)), logs(1))


@pytest.mark.parametrize("scale", [math.nan, INF, torch.tensor([1.0, math.nan, 0.0, 0.0])])
def test_a_scale_that_is_not_finite_raises(pair, scale):
    with pytest.raises(ValueError, match="finite"):
        arguide.guide(*pair, scale)


def test_a_weight_that_is_not_finite_raises_rather_than_returning_nan():
    with pytest.raises(ValueError, match="finite"):
        arguide.combine((logs(1),), (math.nan,))


@pytest.mark.parametrize("scale", [torch.ones(3), torch.ones(4, 7), torch.ones(2, 4)])
def test_a_scale_whose_shape_does_not_fit_the_rows_raises(pair, scale):
    with pytest.raises(ValueError, match="per row"):
        arguide.guide(*pair, scale)


def test_vocabularies_that_differ_raise():
    with pytest.raises(ValueError, match="vocabulary"):
        arguide.guide(torch.zeros(2, 3), torch.zeros(2, 4), 1.0)
