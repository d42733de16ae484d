"""The weights of learned samplers, their diagnostics and their populations, on untrained models."""

import math

import pytest
import torch

import arguide
from analysis.learning import datasets, label_models, learners
from analysis.study import samplers, temperatures
from analysis.study.samplers import CORRECTED, JOINT, SDE, SEQUENTIAL


def test_every_sampler_draws_its_labels(monkeypatch):
    """At γ = 1 of an untrained model: the counts, the labels, and weights that are even."""
    monkeypatch.setattr(samplers, "STEPS", 8)
    digits = datasets.read_images(datasets.Source("digits", "image", most=3))
    generator = torch.Generator().manual_seed(0)
    pixels = learners.new("pixels", digits, learners.Size(16, 1), seed=0)
    found = dict(samplers.autoregressive(pixels, 1.0, 2, generator))
    assert found[SEQUENTIAL].rows.shape == (6, 1, 8, 8)
    assert found[SEQUENTIAL].diagnostics["ess_share"] == pytest.approx(1.0, abs=0.2)
    assert found[JOINT].diagnostics == {}  # the same samples, without weights
    sharp = dict(samplers.autoregressive(pixels, 1.5, 2, generator))
    assert set(sharp[JOINT].diagnostics) == {"ess_share", "ancestors", "log_z", "log_z_apart", "left"}
    denoiser = learners.new("denoiser", digits, learners.Size(16, 1), seed=0)
    found = dict(samplers.denoising(denoiser, 1.5, 2, generator))
    assert found[CORRECTED].rows.shape == found[SDE].rows.shape == (6, 1, 8, 8)
    assert found[SDE].labels.tolist() == [label for label in range(3) for _ in range(2)]
    assert found[SDE].diagnostics["log_path_spread"] > 0


def test_pixels_hold_no_control_token_and_weigh_nothing_at_1():
    """Every branch is conditioned on grey levels, though an untrained network gives control tokens an equal share."""
    digits = datasets.read_images(datasets.Source("digits", "image", most=2))
    pixels = learners.new("pixels", digits, learners.Size(16, 1), seed=0)
    law = samplers.continuation(pixels, torch.tensor([1]), 1.0).start(1).log_probs
    assert (law[:, pixels.words :] == -torch.inf).all()
    drawn = dict(samplers.autoregressive(pixels, 1.0, 2, torch.Generator().manual_seed(0)))[SEQUENTIAL]
    assert drawn.diagnostics["log_path"] == pytest.approx(0.0, abs=1e-4)
    assert SEQUENTIAL in dict(samplers.autoregressive(pixels, 2.0, 2, torch.Generator().manual_seed(0)))
    assert JOINT not in dict(samplers.autoregressive(pixels, 2.0, 2, torch.Generator().manual_seed(0)))


def test_weights_of_diffusion_belong_to_their_label(monkeypatch):
    """A label that the network cannot tell from none has nothing to weigh; the others have, and at γ = 1 none has."""
    monkeypatch.setattr(samplers, "STEPS", 6)
    groups, spread = [], samplers.weight_spread
    monkeypatch.setattr(samplers, "weight_spread", lambda rows: groups.append(rows) or spread(rows))
    digits = datasets.read_images(datasets.Source("digits", "image", most=3))
    denoiser = learners.new("denoiser", digits, learners.Size(16, 1), seed=0)
    with torch.no_grad():
        denoiser.backbone.embed.label.weight[0] = denoiser.backbone.embed.label.weight[3]
    for scale, weighs in ((1.5, [False, True, True]), (1.0, [False] * 3)):
        drawn = dict(samplers.denoising(denoiser, scale, 2, torch.Generator().manual_seed(0)))
        assert bool(drawn[CORRECTED].diagnostics) == any(weighs)
        assert [len(each) for each in groups[-1]] == [2, 2, 2]
        assert [bool((each.abs() > 1e-3).any()) for each in groups[-1]] == weighs


def test_the_finest_noise_is_half_a_grey_level():
    assert float(samplers.grid()[-2]) == pytest.approx(1 / (label_models.LEVELS - 1), abs=0.005)


@pytest.mark.parametrize("ends", [False, True])
def test_a_batch_of_labels_equals_single_labels(names, ends):
    source = datasets.Source(str(names), "text") if ends else datasets.Source("digits", "image", most=3)
    rows = (datasets.read_texts if ends else datasets.read_images)(source)
    learner = learners.new("lm" if ends else "pixels", rows, learners.Size(16, 1), seed=0)
    labels = torch.tensor([1, 0, 1, 0])
    law = samplers.continuation(learner, labels, 2.0, 1.5)
    state, own = law.start(4), [samplers.continuation(learner, label, 2.0, 1.5).start(1) for label in labels.split(1)]
    torch.testing.assert_close(state.log_probs, torch.cat([each.log_probs for each in own]))
    torch.testing.assert_close(state.log_normalizer, torch.cat([each.log_normalizer for each in own]))
    assert not torch.allclose(state.log_probs[0], state.log_probs[1])


def test_every_temperature_is_the_power_of_its_law(monkeypatch):
    """At γ = 1 of untrained models: the law of a token to the power β, all families, and even weights at β = 1."""
    monkeypatch.setattr(samplers, "STEPS", 8)
    digits = datasets.read_images(datasets.Source("digits", "image", most=3))
    generator = torch.Generator().manual_seed(0)
    pixels = learners.new("pixels", digits, learners.Size(16, 1), seed=0)
    one, two = (samplers.continuation(pixels, torch.tensor([1]), 1.0, beta).start(1).log_probs for beta in (1.0, 2.0))
    torch.testing.assert_close(two, (2 * one).log_softmax(-1))
    found = dict(samplers.autoregressive(pixels, 1.0, 2, generator, 2.0))
    assert set(found[JOINT].diagnostics) == {"ess_share", "ancestors", "log_z", "log_z_apart", "left"}
    denoiser = learners.new("denoiser", digits, learners.Size(16, 1), seed=0)
    ways = {temperatures.ODE, temperatures.SDE, temperatures.NOISE, temperatures.WEIGHTS}
    for beta in (1.0, 2.0):
        found = dict(temperatures.denoising(denoiser, beta, 2, generator))
        assert set(found) == ways
        assert {drawn.rows.shape for drawn in found.values()} == {(6, 1, 8, 8)}
        assert ("log_z_apart" in found[temperatures.WEIGHTS].diagnostics) == (beta != 1)


def test_populations_are_large_where_they_can_converge(monkeypatch):
    """By the spread of Σ log Z of the sequential samples: of an untrained model hardly any, or made as large as it takes."""
    digits = datasets.read_images(datasets.Source("digits", "image", most=2))
    pixels = learners.new("pixels", digits, learners.Size(16, 1), seed=0)
    sizes, sample_joints = [], arguide.sample_joints
    monkeypatch.setattr(
        arguide, "sample_joints", lambda *given, **more: sizes.append(given[1:3]) or sample_joints(*given, **more)
    )
    for hope in (math.inf, 0.0):
        monkeypatch.setattr(samplers, "HOPE", hope)
        dict(samplers.autoregressive(pixels, 1.5, 3, torch.Generator().manual_seed(0)))
    assert sizes == [(6, samplers.PARTICLES), (6, samplers.FEW)]
