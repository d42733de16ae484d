"""Models that were saved: damaged ones, and ones with code, are refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis.learning import datasets, label_models, learners

SMALL = ("--steps", 6, "--batch-size", 8, "--width", 16, "--depth", 1)


def cut(folder):
    """Cut a model's weights off."""
    place = folder / "model.safetensors"
    place.write_bytes(place.read_bytes()[:-100])


def spoil(text):
    return lambda folder: (folder / "config.json").write_text(text)


def rename(folder):
    """Give a weight another name, so that one is missing and one is too many."""
    weights = load_file(folder / "model.safetensors")
    weights["other"] = weights.pop(next(name for name in weights if name.endswith("weight")))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def add(folder):
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"other": torch.zeros(1)}, folder / "model.safetensors", {"format": "pt"})


HARMS = {"cut": cut, "no JSON": spoil("{"), "a list": spoil("[]"), "renamed": rename, "added": add}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
@pytest.mark.parametrize("kind", ["lm", "denoiser"])
def test_a_damaged_model_is_refused_by_name(fails, names, tmp_path, kind, harm):
    source = datasets.Source(str(names), "text") if kind == "lm" else datasets.Source("digits", "image")
    rows = (datasets.read_texts if kind == "lm" else datasets.read_images)(source)
    place = tmp_path / "models" / f"{kind}-0"
    place.mkdir(parents=True)
    learners.save(learners.new(kind, rows, learners.Size(16, 1), seed=0), place, "")
    assert learners.load(kind, rows, place)
    harm(place)
    options = ("--data", source.data, "--out", tmp_path / "out")
    assert str(place) in fails("train", kind, *options, "--init", place, *SMALL)
    assert str(place) in fails("study", *options, "--models", tmp_path / "models", "--jobs", 1)
    assert not (tmp_path / "out").exists()


def test_a_model_with_its_own_code_is_refused(names, tmp_path):
    rows = datasets.read_texts(datasets.Source(str(names), "text"))
    learners.save(learners.new("lm", rows, learners.Size(16, 1), seed=0), tmp_path, "")
    config = json.loads((tmp_path / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config | own))
    (tmp_path / "own.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(ValueError, match="needs code of its own"):
        label_models.Causal.load(tmp_path)
