"""Laws of the rule and of its weights that only show at the edges: zeros, precision, shapes of scales."""

import math

import pytest
import torch

import arguide

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize("weights", [(-1.0, -0.5), (-2.0, 0.0), (0.0, -0.3), (0.0, 0.0)])
def test_a_token_that_every_branch_excludes_stays_excluded_under_weights_that_are_not_positive(weights):
    logits = torch.tensor([-INF, -1.0]), torch.tensor([-INF, -2.0])
    assert arguide.combine(logits, weights).tolist() == [-INF, pytest.approx(-weights[0] - 2 * weights[1])]


def test_a_token_that_the_branch_of_weight_zero_allows_is_an_improper_tilt():
    with pytest.raises(ValueError, match="improper tilt"):
        arguide.combine((torch.tensor([-INF, -1.0]), torch.tensor([-1.0, -1.0])), (-1.0, 0.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_weights_of_a_scale_sum_to_one_in_double_precision(dtype):
    scale = torch.tensor([0.1, 3.3, -0.7], dtype=dtype)
    cond, uncond = arguide.guidance_weights(scale)
    assert cond.tolist() == scale.tolist()
    assert (cond + uncond).tolist() == [1.0, 1.0, 1.0]
    laws = torch.tensor([[-0.3, -1.7]] * 3, dtype=torch.float64), torch.tensor([[-900.0, -2.0]] * 3, dtype=torch.float64)
    torch.testing.assert_close(arguide.guide(*laws, scale), arguide.guide(*laws, scale.double()), rtol=0, atol=0)


def test_a_scale_per_row_is_matched_to_the_last_rows_not_the_first():
    cond, uncond = torch.randn(2, 2, 3, 5, generator=torch.Generator().manual_seed(0)).unbind(0)
    scales = torch.tensor([0.5, 2.0, -1.0])
    rows = torch.stack([arguide.guide(cond[:, i], uncond[:, i], float(scale)) for i, scale in enumerate(scales)], 1)
    torch.testing.assert_close(arguide.guide(cond, uncond, scales), rows)
    for scale in (torch.ones(2), torch.ones(2, 1, 1), torch.ones(3, 2)):
        with pytest.raises(ValueError, match="per row"):
            arguide.guide(cond, uncond, scale)


@pytest.mark.parametrize("spoilt", [NAN, INF])
@pytest.mark.parametrize("scale", [-1.0, 1.0, 2.0])
def test_logits_without_a_value_are_refused_rather_than_combined(spoilt, scale):
    cond = torch.tensor([[0.3, spoilt], [0.2, 0.1]])
    with pytest.raises(ValueError, match="logits must be finite or -inf"):
        arguide.guide(cond, torch.zeros(2, 2), scale)
    assert arguide.guide(cond, torch.zeros(2, 2), 0.0).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_masks_of_the_least_float_are_refused_where_their_difference_has_no_value():
    masked = torch.tensor([torch.finfo(torch.float32).min, 0.0])
    assert arguide.guide(masked, masked, 1.0).softmax(-1).tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="logits"):
        arguide.guide(masked, masked, 3.0)


def test_nan_in_a_law_survives_no_truncation():
    law = torch.tensor([[-0.1, -3.0, -4.0, -5.0], [-0.1, NAN, -4.0, -5.0]])
    for transform in (arguide.nucleus(0.3), arguide.top_k(1), arguide.typical(0.3), arguide.only([0]), arguide.defensive(0.1)):
        with pytest.raises(ValueError, match="NaN"):
            transform(law)
        assert not transform(law[:1]).isnan().any()
