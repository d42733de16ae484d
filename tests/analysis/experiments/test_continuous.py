"""The chapter on Langevin dynamics: what its models are trained on, how large a run is, and the rows of its figure."""

import dataclasses
import math
from functools import partial

import pandas as pd
import pytest
import torch

from analysis.experiments.base import Settings
from analysis.experiments.continuous import chapter, models
from analysis.frames import pick
from arguide.continuous import log_density


@pytest.fixture(scope="module")
def network():
    """Return a network that was trained for two steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "RECIPE", dataclasses.replace(models.RECIPE, steps=2))
        return models.trained(0)


def test_every_label_has_an_arc_of_its_own():
    """Noise of 0.4 moves the mean distance to the centre of an arc of radius 1 by less than 0.1."""
    points, labels = models.curves(4000, torch.Generator().manual_seed(0))
    assert labels.unique().tolist() == [0, 1]
    for label, centre in enumerate(([-0.5, -0.25], [0.5, 0.25])):
        own, other = (((points[labels == each] - torch.tensor(centre)).norm(dim=1) - 1).abs() for each in (label, 1 - label))
        assert float(own.mean()) < 0.35 < 0.5 < float(other.mean())


def test_the_trained_network_gives_densities_without_gradients(network):
    assert not log_density(partial(network, label=0), torch.zeros(1, 2)).requires_grad


def test_a_quick_run_is_smaller_than_a_full_one(monkeypatch):
    efforts = []

    def part(effort, seed):
        efforts.append(effort)
        return [{"quantity": "mean", "value": 0.0}]

    monkeypatch.setattr(chapter, "_exact", part)
    monkeypatch.setattr(chapter, "_learned", part)
    for quick in (True, False):
        chapter.run(Settings(quick=quick), iter)
    assert efforts[:2] == efforts[:1] * 2
    assert all(few < many for few, many in zip(efforts[0], efforts[2], strict=True))


@pytest.fixture(scope="module")
def learned(network):
    """Return the rows of a tiny run on the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "trained", lambda _seed: network)
        return pd.DataFrame(chapter._learned(chapter.Effort(8, 2, 30, 2, 20), 0))


@pytest.mark.parametrize(("family", "n"), [(chapter.MALA, 30), (chapter.SEQUENTIAL, 20)])
def test_the_figure_shows_the_draws_whose_means_are_given(learned, family, n):
    rows = pick(learned, family=family)
    draws, means = pick(rows, quantity="draw"), pick(rows, quantity="mean").set_index("position")["value"]
    assert len(draws) == n
    assert (draws["x"].mean(), draws["x_2"].mean()) == pytest.approx((means[1], means[2]), abs=1e-6)


def test_the_density_of_the_figure_is_in_shares_of_its_peak(learned):
    rows = pick(learned, quantity="density")
    assert 0.9 < rows["value"].max() <= 1
    assert rows["value"].min() >= 0
    shares = rows["value"] / rows["value"].sum()
    exact = pick(learned, quantity="mean", family=chapter.JOINT).set_index("position")["value"]
    assert math.hypot((shares * rows["x"]).sum() - exact[1], (shares * rows["x_2"]).sum() - exact[2]) < 0.02
