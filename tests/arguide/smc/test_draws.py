"""Draws take their seed from a generator, and their shape and precision from what they are given."""

import math

import pytest
import torch

from arguide.smc import draws

ALL = (draws.categorical, draws.torch_categorical, draws.normal, draws.uniform)


@pytest.mark.parametrize("source", ALL)
@pytest.mark.parametrize("wrong", [3, "seed"])
def test_what_is_no_generator_is_refused_before_the_first_draw(source, wrong):
    with pytest.raises(ValueError, match=r"generator must be a torch.Generator, got .*; try torch.Generator"):
        source(wrong)


@pytest.mark.parametrize("source", ALL)
def test_a_seed_fixes_the_draws(source):
    law = torch.full((50, 4), -math.log(4), dtype=torch.float64)
    one, same, other = (source(torch.Generator().manual_seed(seed))(law) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("source", [draws.normal, draws.uniform])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_have_the_shape_and_the_precision_of_what_is_given(source, dtype):
    found = source(torch.Generator().manual_seed(0))(torch.zeros(3, 2, dtype=dtype))
    assert (found.shape, found.dtype) == ((3, 2), dtype)
