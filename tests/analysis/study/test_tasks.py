"""The tasks of a study: their random numbers, their models and their rows."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from analysis.learning import datasets, label_models
from analysis.study import coherent, controls, samplers, tasks, temperatures
from analysis.study import plan as plans


def test_no_two_samplings_share_their_noise(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(tasks, "evaluator", lambda plan: (None, SimpleNamespace(accuracy=1.0)))
    monkeypatch.setattr(tasks.Models, "causal", lambda *_: None)
    monkeypatch.setattr(tasks, "_drawn", lambda *given: seen.append(given[-1].initial_seed()) or [])
    monkeypatch.setattr(coherent, "accepted", lambda *given: seen.append(given[-1].initial_seed()) or [])
    plan = plans.Plan(datasets.Source("digits", "image"), True)
    for seed, scale in itertools.product(range(3), (1.0, 1.25, 5.0)):
        tasks.sample(seed, scale, plan, tmp_path)
    for seed in range(3):
        tasks.accept(seed, replace(plan, images=False), tmp_path)
    assert len(set(seen)) == len(seen) == 12


def test_every_sampler_has_its_own_models(monkeypatch, tmp_path):
    """Controls read the weaker model of their seed, and the model of the next seed; the last seed's other is the first."""
    seen = []
    loaded = SimpleNamespace(eval=lambda: loaded)
    for kind, owner in (
        ("load", label_models.Causal),
        ("from_pretrained", tasks.Denoiser),
        ("from_pretrained", tasks.Classifier),
    ):
        monkeypatch.setattr(owner, kind, lambda path: seen.append(path.name) or loaded)
    for module in (samplers, coherent, controls):
        for name in ("autoregressive", "denoising", "classifying"):
            monkeypatch.setattr(module, name, lambda *_: [], raising=False)
    plan = plans.Plan(datasets.Source("digits", "image"), True, seeds=3)
    for seed, strange in ((1, 2), (2, 0)):
        seen.clear()
        assert not list(tasks._drawn(plan, tasks.Models(plan, tmp_path, seed), 2.0, None))
        assert seen == [
            *(f"pixels-{seed}", f"pixels-weak-{seed}", f"pixels-{strange}"),
            *(f"denoiser-{seed}", f"denoiser-weak-{seed}", f"denoiser-{strange}"),
            *(f"classifier-{seed}", f"classifier-clean-{seed}"),
        ]


def test_samples_are_measured_and_some_of_the_first_seed_are_kept(monkeypatch, tmp_path):
    """Of ten texts per label eight are kept."""
    texts = [f"{label}{i}" for label in "ab" for i in range(10)]
    drawn = samplers.Drawn(texts, torch.arange(2).repeat_interleave(10), {"log_z": 3.0})
    judge = SimpleNamespace(accuracy=0.9, measures=lambda rows, labels: {"spread": len(rows) / 10})
    monkeypatch.setattr(tasks, "evaluator", lambda plan: (SimpleNamespace(names=("a", "b")), judge))
    monkeypatch.setattr(tasks.Models, "causal", lambda *_: SimpleNamespace(encode=list))
    monkeypatch.setattr(coherent, "log_likelihood", lambda learner, tokens, labels: -labels.double())
    monkeypatch.setattr(samplers, "autoregressive", lambda *_: [("one", drawn)])
    plan = plans.Plan(datasets.Source("names.csv", "text"), False)
    for seed in range(2):
        at_0, cold = tasks.sample(seed, 0.0, plan, tmp_path), tasks.cool(seed, plan, tmp_path)
        for frame, by, values in ((at_0, "scale", [0.0]), (cold, "beta", list(temperatures.BETAS))):
            for quantity, value in {"spread": 2.0, "log_z": 3.0, "log p(x|y)": -0.5}.items():
                rows = frame[frame["quantity"] == quantity]
                assert rows[["family", "seed", "value"]].values.tolist() == [["one", seed, value]] * len(values)
                assert rows[by].tolist() == values
            kept = frame["text"].dropna().tolist() if "text" in frame else []
            assert kept == ([] if seed else (texts[:8] + texts[10:18]) * len(values))


def test_thinned_losses_are_means_of_stretches():
    assert list(tasks._thinned([1.0, 2.0, 3.0, 4.0, 5.0], most=2)) == [(2, 1.5), (4, 3.5), (5, 5.0)]
    assert list(tasks._thinned([1.0, 2.0], most=2)) == [(1, 1.0), (2, 2.0)]


@pytest.mark.parametrize("images", [False, True])
def test_images_are_cooled_in_both_wings(monkeypatch, images):
    monkeypatch.setattr(samplers, "autoregressive", lambda *given: [("factors", given[-1])])
    monkeypatch.setattr(temperatures, "denoising", lambda _, beta, *given: [("scores", beta)])
    plan = plans.Plan(datasets.Source("any", "column"), images)
    models = SimpleNamespace(causal=lambda: None, denoiser=lambda: None)
    assert list(tasks._cooled(plan, models, 1.5, None)) == [("factors", 1.5), ("scores", 1.5)][: 1 + images]
