import math

import numpy as np
import pytest
import torch

from analysis import Table
from arguide import LogLinear, sample


@pytest.fixture
def table(make_joint):
    return Table(make_joint(11, (2, 3, 2, 3)))


def walk(model, tokens, n=1):
    """Return the laws along the given tokens, [n, T] ↦ [n, T, V], and the normalizers."""
    state, laws, normalizers = model.start(len(tokens)), [], []
    for t in range(tokens.shape[1]):
        laws.append(state.log_probs)
        normalizers.append(state.log_normalizer)
        state = model.append(state, tokens[:, t])
    return torch.stack(laws, 1), torch.stack(normalizers, 1)


TOKENS = torch.tensor([[0, 1, 2], [2, 0, 0], [1, 1, 1]])


def test_normalizers_along_a_path_are_the_brute_force_ones(make_joint, brute, table):
    laws, normalizers = walk(LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 2.5), TOKENS)
    expected = brute(make_joint(11, (2, 3, 2, 3)), {None: -1.5, 1: 2.5})
    for i, x in enumerate(TOKENS.tolist()):
        for t in range(3):
            step = expected.steps[tuple(x[:t])]
            assert math.exp(normalizers[i, t]) == pytest.approx(expected.normalizers[tuple(x[:t])], abs=1e-9)
            np.testing.assert_allclose(laws[i, t].exp().numpy()[: len(step)], step, atol=1e-9)


def test_one_scale_a_row_equals_one_run_a_scale(table):
    scales = torch.tensor([-0.3, 1.0, 3.0], dtype=torch.float64)
    cond, uncond = table.autoregressive(0), table.autoregressive()
    laws, normalizers = walk(LogLinear.guidance(cond, uncond, scales, temperature=0.8), TOKENS)
    for i, scale in enumerate(scales.tolist()):
        law, normalizer = walk(LogLinear.guidance(cond, uncond, scale, temperature=0.8), TOKENS[i : i + 1])
        torch.testing.assert_close(laws[i : i + 1], law)
        torch.testing.assert_close(normalizers[i : i + 1], normalizer)


def test_a_schedule_uses_the_scale_of_each_position(table):
    cond, uncond, scales = table.autoregressive(0), table.autoregressive(), (0.5, 3.0, -1.0)
    laws, normalizers = walk(LogLinear.guidance(cond, uncond, lambda t: (*scales, 0.0)[t]), TOKENS)
    for t, scale in enumerate(scales):
        law, normalizer = walk(LogLinear.guidance(cond, uncond, scale), TOKENS)
        torch.testing.assert_close(laws[:, t], law[:, t])
        torch.testing.assert_close(normalizers[:, t], normalizer[:, t])


def test_select_is_reordering_the_prefixes(table):
    model, index = LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 2.0), torch.tensor([2, 0, 2, 1])
    state, expected = model.start(3), model.start(4)
    for t in range(2):
        state, expected = model.append(state, TOKENS[:, t]), model.append(expected, TOKENS[index, t])
    selected = model.select(state, index)
    assert torch.equal(selected.log_probs, expected.log_probs)
    assert torch.equal(selected.log_normalizer, expected.log_normalizer)
    last = torch.tensor([0, 1, 1, 0])
    assert torch.equal(model.append(selected, last).log_probs, model.append(expected, last).log_probs)


def test_a_combination_is_a_model_that_can_be_combined(table):
    cond, uncond = table.autoregressive(1), table.autoregressive()
    nested = LogLinear((LogLinear.guidance(cond, uncond, 2.0),), (1 / 0.7,))
    flat = LogLinear.guidance(cond, uncond, 2.0, temperature=0.7)
    torch.testing.assert_close(walk(nested, TOKENS)[0], walk(flat, TOKENS)[0])
    assert not torch.allclose(walk(nested, TOKENS)[1], walk(flat, TOKENS)[1])  # its own Z_t are those of the outer rule


def test_rows_with_a_scale_each_cannot_be_reordered(table):
    model = LogLinear.guidance(table.autoregressive(1), table.autoregressive(), torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="reordered"):
        model.select(model.start(2), torch.tensor([1, 0]))


def test_the_floor_reaches_the_rule(make_joint):
    joint = np.array([[[0.1, 0.0], [0.2, 0.1]], [[0.1, 0.2], [0.1, 0.2]]])
    table = Table(joint / joint.sum())
    models, weights = (table.autoregressive(0), table.autoregressive()), (-0.5, 1.5)
    with pytest.raises(ValueError, match="improper"):
        walk(LogLinear(models, weights), torch.tensor([[0, 0]]))
    assert walk(LogLinear(models, weights, floor=-30.0), torch.tensor([[0, 0]]))[0].isfinite().all()


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_raises(table, tau):
    with pytest.raises(ValueError, match="temperature"):
        LogLinear.temperature(table.autoregressive(), tau)


def test_a_scale_that_is_not_finite_raises(table):
    cond, uncond = table.autoregressive(0), table.autoregressive()
    with pytest.raises(ValueError, match="scale must be finite, got nan"):
        LogLinear.guidance(cond, uncond, math.nan)
    with pytest.raises(ValueError, match="scale must be finite, got nan"):
        sample(LogLinear.guidance(cond, uncond, lambda t: math.nan), 2, 3)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_a_composition_weighs_every_condition_against_the_unconditional_law(make_joint, brute, temperature):
    joint = make_joint(7, (3, 3, 2, 3))
    table, scales = Table(joint), (1.6, -0.4)
    conds = [table.autoregressive(label) for label in (0, 2)]
    model = LogLinear.composition(table.autoregressive(), conds, scales, temperature=temperature)
    weights = {None: (1 - sum(scales)) / temperature, 0: scales[0] / temperature, 2: scales[1] / temperature}
    expected = brute(joint, weights)
    laws, normalizers = walk(model, TOKENS)
    for i, x in enumerate(TOKENS.tolist()):
        for t in range(3):
            step = expected.steps[tuple(x[:t])]
            np.testing.assert_allclose(laws[i, t].exp().numpy()[: len(step)], step, atol=1e-9)
            assert math.exp(normalizers[i, t]) == pytest.approx(expected.normalizers[tuple(x[:t])], abs=1e-9)


def test_a_composition_of_one_condition_is_guidance(table):
    cond, uncond, scales = table.autoregressive(0), table.autoregressive(), (0.5, 3.0, -1.0, 0.0)
    for scale in (2.5, torch.tensor([1.0, 2.0, 3.0])):
        laws, normalizers = walk(LogLinear.composition(uncond, [cond], [scale]), TOKENS)
        expected = walk(LogLinear.guidance(cond, uncond, scale), TOKENS)
        assert laws.equal(expected[0])
        assert normalizers.equal(expected[1])
    scheduled = walk(LogLinear.composition(uncond, [cond], lambda t: [scales[t]]), TOKENS)
    assert scheduled[0].equal(walk(LogLinear.guidance(cond, uncond, lambda t: scales[t]), TOKENS)[0])


def test_a_composition_needs_one_scale_a_condition(table):
    with pytest.raises(ValueError, match="scales must be one per condition, 1, got 2"):
        LogLinear.composition(table.autoregressive(), [table.autoregressive(0)], (1.0, 2.0))
