"""The controls: the models that each of them reads."""

import math

import pytest
import torch

import arguide
import diffusion
from analysis.learning import datasets, learners
from analysis.study import controls, samplers
from arguide import sampling
from diffusion.coherent import ancestral


@pytest.fixture
def three():
    rows = datasets.read_images(datasets.Source("digits", "image", most=3))
    return [learners.new("pixels", rows, learners.Size(16, 1), seed=seed) for seed in range(3)]


def test_each_control_reads_its_own_models(three, monkeypatch):
    """Against the combination of the laws that each model gives alone, after one pixel."""
    learner, weaker, other = three
    labels, token = torch.arange(3), torch.full((3,), 3)
    laws, sample = [], arguide.sample
    monkeypatch.setattr(arguide, "sample", lambda law, *given, **more: laws.append(law) or sample(law, *given, **more))
    families = [name for name, _ in controls.autoregressive(*three, 3.0, 1, torch.Generator().manual_seed(0))]
    assert families == [controls.CLAMPED, controls.WEAKER, controls.OTHER]  # smoothing is of texts alone

    def after(law):
        return law.append(law.start(3), token).log_probs[:, :17]

    alone = lambda model, label: after(samplers.continuation(model, label, 1.0))  # noqa: E731
    none = torch.full_like(labels, 3)
    expected = {
        controls.WEAKER: 3 * alone(learner, labels) - 2 * alone(weaker, labels),
        controls.OTHER: 3 * alone(learner, labels) - 2 * alone(other, none),
    }
    seen = dict(zip(families, map(after, laws), strict=True))
    for family, law in expected.items():
        torch.testing.assert_close(seen[family], law.log_softmax(1), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(seen[controls.WEAKER], seen[controls.OTHER], atol=1e-4)


def test_texts_are_clamped_within_their_ends(names):
    rows = datasets.read_texts(datasets.Source(str(names), "text"))
    learner = learners.new("lm", rows, learners.Size(16, 1), seed=0)
    law = controls.clamped(learner, torch.tensor([0, 1]), 3.0)
    assert isinstance(law, arguide.Ending)
    assert law.model.bound == pytest.approx(math.log(2))
    found = sampling.sample(law, 2, learner.length, generator=torch.Generator().manual_seed(0))
    assert found.x.shape[1] <= learner.length
    families = [
        name for name, _ in controls.autoregressive(learner, learner, learner, 3.0, 1, torch.Generator().manual_seed(0))
    ]
    assert families[-1] == controls.UNSMOOTHED


def scores():
    return lambda x, sigma: (1.0 - x) / (1 + sigma**2), lambda x, sigma: -x / (2 + sigma**2)


def test_clamped_paths_lie_between_plain_guidance_and_the_conditional_law():
    sigmas, (cond, uncond) = diffusion.edm(12, 0.1, 10.0), scores()

    def seeded():
        return torch.Generator().manual_seed(3)

    def paths(bound):
        return controls.clamped_paths(cond, uncond, 3.0, bound, (40, 2), sigmas, seeded())

    def plain(scale):
        field = diffusion.LogLinear.guidance(cond, uncond, scale)
        return diffusion.sample(field, (40, 2), sigmas, step=ancestral, generator=seeded()).x

    torch.testing.assert_close(paths(math.inf), plain(3.0))
    torch.testing.assert_close(paths(-math.inf), plain(1.0))
    assert float(plain(1.0).mean()) + 0.02 < float(paths(0.7).mean()) < float(plain(3.0).mean()) - 0.02
