"""Sources on p^α, on the product of guided factors and on rescaled scores: their decisive numbers, and planted mistakes."""

import pytest
import torch

from analysis.experiments.published import run
from analysis.experiments.published.claims import DIFFERS, REPRODUCED
from analysis.experiments.published.papers import powers, rescaled_score, stay_on_topic
from analysis.toys import Table


def test_every_source_has_a_key_of_its_own():
    keys = [source.key for source in run.chosen([])]
    assert len(set(keys)) == len(keys)
    assert keys[0] == "post"
    assert {"2510.14901", "2601.21590", "2602.10273", "2306.17806", "2510.01184"} <= set(keys)


def test_the_toy_of_scalable_power_sampling_is_reproduced_to_its_digits():
    claims = list(powers.ji(0))
    assert [claim.verdict for claim in claims] == [REPRODUCED] * 7
    assert all(claim.turned for claim in claims)
    assert claims[0].ours == pytest.approx(0.4**4 / (0.4**4 + 0.6**4))
    weights = [p**4 for p, _ in powers.PATHS.values()]
    assert [claim.ours for claim in claims[2:6]] == pytest.approx([w / sum(weights) for w in weights])


def test_another_power_is_found(monkeypatch):
    monkeypatch.setattr(powers, "ALPHA", 3.0)
    assert [claim.verdict for claim in powers.ji(0)][:3] == [DIFFERS] * 3


def test_looking_ahead_matters_where_tokens_depend_on_each_other():
    table = Table(torch.tensor([[[0.1, 0.4], [0.25, 0.25]]], dtype=torch.float64))
    assert powers._largest_difference(table, ahead=True) < 1e-12
    masses = (0.1**4 + 0.4**4, 2 * 0.25**4)
    expected = abs(masses[0] / sum(masses) - 0.5)
    assert powers._largest_difference(table, ahead=False) == pytest.approx(expected)


def test_particles_of_a_ramped_exponent_estimate_z_without_bias(monkeypatch):
    monkeypatch.setattr(powers, "RUNS", 500)
    least, bridged = powers.power_smc(0)
    assert [least.verdict, bridged.verdict] == [REPRODUCED, REPRODUCED]
    assert least.turned
    assert bridged.turned
    assert least.ours == 0


def test_a_target_of_another_power_is_biased(monkeypatch):
    """The exact Z is of the planted power, the particles' of the right one."""
    monkeypatch.setattr(powers, "RUNS", 200)
    right = powers.arguide.LogLinear.temperature
    monkeypatch.setattr(powers.arguide.LogLinear, "temperature", lambda model, tau: right(model, 1.05 * tau))
    assert list(powers.power_smc(0))[1].verdict == DIFFERS


def test_the_product_of_guided_factors_is_not_proportional_to_the_joint_weight(monkeypatch):
    normalised, bare = stay_on_topic.claims(0)
    assert [normalised.verdict, bare.verdict] == [DIFFERS, REPRODUCED]
    assert normalised.turned
    assert bare.turned
    monkeypatch.setattr(stay_on_topic, "_guided", stay_on_topic._weight)
    assert next(stay_on_topic.claims(0)).difference == 0


def test_rescaled_scores_keep_the_weights_of_modes_and_multiplied_ones_do_not(monkeypatch):
    monkeypatch.setattr(rescaled_score, "DRAWS", 6000)
    monkeypatch.setattr(rescaled_score, "STEPS", 80)
    claims = list(rescaled_score.claims(0))
    assert [claim.verdict for claim in claims] == [REPRODUCED] * 4
    assert all(claim.turned for claim in claims)
    scaled = rescaled_score.diffusion.scaled
    monkeypatch.setattr(rescaled_score.diffusion, "gaussian_correction", lambda score, k, _variance: scaled(score, k))
    assert [claim.verdict for claim in rescaled_score.claims(0)] == [DIFFERS] * 4
