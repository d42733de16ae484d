"""The chapter on classifier guidance: closed forms of its scores, and samples that start from the same noise."""

import pytest
import torch

import diffusion
from analysis.experiments import classifier
from analysis.experiments.base import Settings
from analysis.experiments.classifier import AWARE, BLIND, FREE
from analysis.frames import pick
from analysis.toys.example_tables import two_classes


@pytest.mark.parametrize("sigma", [0.3, 3.0])
def test_the_gradient_of_a_clean_classifier_does_not_fade_with_noise(sigma):
    """∇log p(y|x) = 2μ/v · p(other label|x), with p(other label|x) = 1/(1 + e^(2μx/v)), v = 1 + σ² or, without noise, 1."""
    mixture, x, level = two_classes(), torch.linspace(-3, 3, 13, dtype=torch.float64)[:, None], torch.tensor(sigma).double()
    fields, base = classifier.fields(mixture, 3.0), mixture.score(x, level)
    for family, v in ((FREE, 1 + sigma**2), (AWARE, 1 + sigma**2), (BLIND, 1.0)):
        expected = 3 * (2 / v) * torch.sigmoid(-2 * x / v)
        torch.testing.assert_close(fields[family](x, level) - base, expected, atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def starts():
    return []


@pytest.fixture(scope="module")
def frame(starts):
    """Return the frame of a quick run of 80 samples with a twentieth of the steps."""
    sample = diffusion.sample

    def few(field, shape, sigmas, *, generator=None):
        starts.append(round(float(sigmas[0]), 9))
        return sample(field, (80, *shape[1:]), sigmas[::20], generator=generator)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier.diffusion, "sample", few)
        return classifier.run(Settings(quick=True), lambda items: items)


def test_without_guidance_all_scores_draw_the_same_samples_from_the_same_noise(frame):
    for quantity in ("mean", "variance"):
        values = pick(frame, quantity=quantity, scale=0.0)["value"]
        assert len(values) == 3
        assert values.max() - values.min() < 1e-9


def test_every_number_is_measured_once(frame):
    assert not frame.duplicated(["family", "quantity", "scale", "sigma"]).any()


def test_samples_start_where_the_caption_says(frame, starts):
    assert set(frame["scale"].dropna()) == set(classifier.SCALES)
    assert set(starts) == {10.0}
    assert "from N(0, 10²)" in classifier.EXPERIMENT.plots[0].caption


def test_the_mean_gradient_is_that_of_draws(frame):
    mixture, generator = two_classes(), torch.Generator().manual_seed(0)
    x = mixture.sample(20_000, generator=generator) + 3 * torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    pull = pick(frame, quantity="pull", sigma=3.0).set_index("family")["value"]
    for family, v in ((AWARE, 10.0), (BLIND, 1.0)):
        drawn = (2 / v) * torch.sigmoid(-2 * x / v)
        assert abs(float(drawn.mean()) - pull[family]) < 4.5 * float(drawn.std()) / 20_000**0.5
    assert pull[BLIND] > 2 * pull[AWARE]
