"""The plan of a study: its recipes, its command, its models, and what it refuses."""

import shlex
from dataclasses import replace

import pandas as pd
import pytest

from analysis.files import run_folder
from analysis.learning import datasets
from analysis.study import plan as plans
from analysis.study import tasks

SMALL = ("--steps", 6, "--batch-size", 8, "--width", 16, "--depth", 1)


def test_the_command_repeats_a_study(tmp_path):
    """As a shell reads it: names with spaces or $, the whole name on the hub, and of a file no more than its name."""
    source = datasets.Source("org/some-name", "the image", "kind of $", 10, 16)
    told = plans.command(plans.Plan(source, True, (0.0, 1.5), models="a/my models"))
    assert shlex.split(told) == [
        *("arguide", "study", "--data", "org/some-name", "--image-column", "the image", "--label-column", "kind of $"),
        *("--max-labels", "10", "--image-size", "16", "--scales", "0,1.5", "--models", "my models"),
        *("--seeds", "4", "--samples", "32", "--seed", "0"),
    ]
    (tmp_path / "my texts.csv").write_text("")
    told = plans.command(plans.Plan(datasets.Source(str(tmp_path / "my texts.csv"), "text", most=8), False))
    assert told.startswith("arguide study --data 'my texts.csv' --text-column text --max-labels 8 --scales 0,1,")
    assert "--image-size" not in told
    assert "--text-length" not in told
    told = plans.command(plans.Plan(datasets.Source(str(tmp_path / "my texts.csv"), "text", most=8, letters=4), False))
    assert "--text-length 4" in told


def test_plans_out_of_range_are_refused():
    with pytest.raises(ValueError, match="--seeds must be 2 at least, got 1"):
        plans.Plan(datasets.Source("digits", "image"), True, seeds=1)
    with pytest.raises(ValueError, match=r"--effort must be positive, up to 1e\+06, got 0"):
        plans.Plan(datasets.Source("digits", "image"), True, effort=0.0)


def test_a_study_loads_given_models(fails, names, tmp_path):
    plan = plans.Plan(datasets.Source(str(names), "text"), False, effort=0.01)
    trained = tasks.train("lm", "", 0, plan, tmp_path / "one")
    given = replace(plan, models=str(tmp_path / "one" / "models"))
    taken = tasks.train("lm", "", 0, given, tmp_path / "two")
    assert set(trained["quantity"]) - set(taken["quantity"]) == {"loss"}  # nothing is trained
    held = [frame[frame["quantity"] != "loss"].dropna(axis=1).reset_index(drop=True) for frame in (trained, taken)]
    pd.testing.assert_frame_equal(*held)
    assert set(tasks.train("lm", "", 1, given, tmp_path / "two")["quantity"]) == set(trained["quantity"])  # which is not there
    assert "not trained here" in (tmp_path / "two" / "models" / "lm-0" / "README.md").read_text()
    assert list(given.config()["models"]) == ["lm-0"]
    assert plan.config()["models"] == {}
    assert "none of the models" in fails("study", "--data", names, "--out", tmp_path / "x", "--models", tmp_path)


def test_models_to_load_lie_outside_the_results(run, fails, names, tmp_path):
    plan = plans.Plan(datasets.Source(str(names), "text", most=8), False, effort=0.01)
    out = tmp_path / "s"
    run_folder.claim(out, plan.config(), plans.PROGRAM, parts=("models",))
    tasks.train("lm", "", 0, plan, out)
    (tmp_path / "link").symlink_to(out / "models")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "lm-0").symlink_to(out / "models" / "lm-0")
    for models in (out / "models", out / ".." / "s" / "models", tmp_path / "link", tmp_path / "linked"):
        options = ("study", "--data", names, "--models", models, "--out", out, "--effort", 0.01)
        for fresh in ((), ("--fresh",)):
            assert "lies in the folder of --out" in fails(*options, *fresh)
    assert (out / "models" / "lm-0" / "model.safetensors").exists()
    train = ("train", "lm", "--data", names, "--out", tmp_path / "m", *SMALL)
    assert run(*train)[0] == 0
    for fresh in ((), ("--fresh",)):
        assert "lies in the folder of --out" in fails(*train, "--init", tmp_path / "m", *fresh)
    assert (tmp_path / "m" / "model.safetensors").exists()


def test_variants_train_as_their_names_say(tmp_path):
    whole = plans.Plan(datasets.Source("digits", "image", most=2), True)
    default, plain, late = (plans.recipe_of("pixels", variant, whole) for variant in ("", plans.PLAIN, plans.LATE))
    shares = [[recipe.dropout_at(round(part * recipe.steps)) for part in (0, 0.79, 0.81)] for recipe in (default, plain, late)]
    assert shares == [[0.15] * 3, [0.0] * 3, [0.0, 0.0, 0.15]]
    plan = replace(whole, effort=1e-3)
    for variant, noised in (("", True), (plans.BLIND, False)):
        tasks.train("classifier", variant, 0, plan, tmp_path)
        folder = tmp_path / "models" / plans.model_name("classifier", variant, 0)
        assert tasks.Classifier.from_pretrained(folder).noised is noised
        assert f"# classifier of {'noised' if noised else 'clean'} images" in (folder / "README.md").read_text()
