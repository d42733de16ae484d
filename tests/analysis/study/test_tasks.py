"""The tasks of a study: their random numbers, their classifiers and their rows."""

import itertools
from types import SimpleNamespace

from analysis.learning import datasets, label_models
from analysis.study import plan as plans
from analysis.study import samplers, tasks


def test_no_two_samplings_share_their_noise(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(tasks, "evaluator", lambda plan: (None, SimpleNamespace(accuracy=1.0)))
    monkeypatch.setattr(tasks, "_drawn", lambda *given: seen.append(given[-1].initial_seed()) or [])
    plan = plans.Plan(datasets.Source("digits", "image"), True)
    for seed, scale in itertools.product(range(3), (1.0, 1.25, 5.0)):
        tasks.sample(seed, scale, plan, tmp_path)
    assert len(set(seen)) == 9


def test_every_sampler_has_its_own_classifier(monkeypatch, tmp_path):
    seen = {}
    named = SimpleNamespace(from_pretrained=lambda path: SimpleNamespace(eval=lambda: path.name))
    for kind in ("Denoiser", "Classifier"):
        monkeypatch.setattr(tasks, kind, named)
    monkeypatch.setattr(label_models.Causal, "load", lambda path: None)
    for name in ("autoregressive", "denoising"):
        monkeypatch.setattr(samplers, name, lambda *_: [])
    monkeypatch.setattr(samplers, "classifying", lambda _, classifiers, *rest: seen.update(classifiers) or [])
    assert not list(tasks._drawn(plans.Plan(datasets.Source("digits", "image"), True), tmp_path, 1, 2.0, None))
    assert seen == {samplers.AWARE: "classifier-1", samplers.CLEAN: "classifier-clean-1"}


def test_thinned_losses_are_means_of_stretches():
    assert list(tasks._thinned([1.0, 2.0, 3.0, 4.0, 5.0], most=2)) == [(2, 1.5), (4, 3.5), (5, 5.0)]
