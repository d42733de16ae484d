"""The samplers of a study draw laws that follow the label, and more so the larger the scale."""

import pytest
import torch

from analysis.learning import learners
from analysis.learning.datasets import Data
from analysis.learning.learners import Size
from analysis.study import samplers
from analysis.study.samplers import CORRECTED, ODE, SDE
from arguide.training import Recipe

APART = 0.25  # between 0 and the mean of a label, in every pixel; the standard deviation is as large
PATTERN = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])


def checkers(n=2000):
    """Two labels: a pattern and its negative under noise that hides them in part."""
    generator, labels = torch.Generator().manual_seed(0), torch.arange(n) % 2
    x = APART * ((1 - 2 * labels)[:, None, None, None] * PATTERN + torch.randn(n, 1, 2, 2, generator=generator))
    return Data(x[200:], labels[200:], ("a", "b"), x[:200], labels[:200])


def adherence(data, scales):
    """Return how far samples of a denoiser of these data are on their label's side, per family and scale."""
    denoiser = learners.new("denoiser", data, Size(32, 2), seed=0)
    learners.train(denoiser, data, Recipe(300, batch=128, rate=5e-3, dropout=0.3, average=0.98), seed=0)
    found = {}
    for scale in scales:
        for family, drawn in samplers.denoising(denoiser, scale, 300, torch.Generator().manual_seed(1)):
            side = (1 - 2 * drawn.labels)[:, None, None, None] * PATTERN
            found[family, scale] = float((drawn.rows * side).mean())
    return found


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(samplers, "STEPS", 16)
    monkeypatch.setattr(samplers, "PARTICLES", 16)


def test_samples_move_to_their_label_as_the_scale_rises(quick):
    """At γ = 0 the label has no effect, at γ = 1 the mean is the label's; weights take back a part of what is beyond it."""
    found = adherence(checkers(), (0.0, 1.0, 2.5))
    for family in (ODE, SDE, CORRECTED):
        assert abs(found[family, 0.0]) < 0.04
        assert found[family, 1.0] == pytest.approx(APART, abs=0.04)
    assert min(found[ODE, 2.5], found[SDE, 2.5]) > APART + 0.05
    assert found[CORRECTED, 1.0] < found[CORRECTED, 2.5] < found[SDE, 2.5]


def test_random_labels_move_no_sample(quick):
    data = checkers()
    order = torch.randperm(len(data.labels), generator=torch.Generator().manual_seed(2))
    found = adherence(data._replace(labels=data.labels[order]), (1.0, 2.5))
    assert max(map(abs, found.values())) < 0.1
