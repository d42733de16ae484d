"""Training from the command line: its files, its continuation after a kill, and its errors."""

import json

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from analysis import limits
from analysis.learning import datasets, label_models, learners, toy_stories

SMALL = ("--steps", 6, "--batch-size", 8, "--width", 16, "--depth", 1)


@pytest.mark.parametrize("kind", ["pixels", "denoiser", "classifier"])
def test_a_training_leaves_its_model_card_and_losses(run, tmp_path, kind):
    code, out, err = run("train", kind, "--data", "digits", "--out", tmp_path / "m", *SMALL, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["rows"] + told["held-out rows"] == 1797
    assert {"run.json", "result.json", "losses.parquet", "loss.png", "README.md", "model.safetensors", "config.json"} <= {
        path.name for path in (tmp_path / "m").iterdir()
    }
    assert not (tmp_path / "m" / "checkpoint.pt").exists()
    assert all(path.is_file() for path in (tmp_path / "m").iterdir())
    assert len(pd.read_parquet(tmp_path / "m" / "losses.parquet")) == 6
    again = run("train", kind, "--data", "digits", "--out", tmp_path / "m", *SMALL, "--json")
    assert json.loads(again[1]) == told


def test_a_denoiser_may_be_a_unet(run, tmp_path):
    options = ("--steps", 2, "--batch-size", 4, "--width", 8)
    code, _, err = run("train", "denoiser", "--data", "digits", "--network", "unet", "--out", tmp_path / "m", *options)
    assert code == 0, err
    assert json.loads((tmp_path / "m" / "config.json").read_text())["network"] == "unet"


def test_generate_takes_a_trained_language_model(run, names, tmp_path):
    code, _, err = run("train", "lm", "--data", names, "--out", tmp_path / "m", *SMALL)
    assert code == 0, err
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    learner = label_models.Causal.load(tmp_path / "m")
    assert tokenizer.convert_tokens_to_ids(["<ab>", "<xy>", "<any>"]) == learner.controls.tolist()
    assert model.config.vocab_size == len(tokenizer)
    code, out, err = run("generate", tmp_path / "m", "--prompt", "<ab>", "--negative", "<any>", "--scale", 2, "--json")
    assert code == 0, err
    assert json.loads(out)[0]["scale"] == 2
    texts = ["abab", "xx yx"]
    assert learner.decode(learner.encode(texts).clamp(min=0)) == texts


def test_init_continues_from_a_model_of_its_kind(run, fails, names, tmp_path):
    assert run("train", "lm", "--data", names, "--out", tmp_path / "m", *SMALL)[0] == 0
    more = ("--data", names, "--init", tmp_path / "m", "--rate", 1e-9, *SMALL)
    assert run("train", "lm", "--out", tmp_path / "more", *more)[0] == 0
    before, after = (label_models.Causal.load(tmp_path / name) for name in ("m", "more"))
    for name, weight in before.model.state_dict().items():  # a rate of 1e-9 leaves what was loaded as it was
        torch.testing.assert_close(after.model.state_dict()[name], weight, rtol=0, atol=1e-7)
    assert "got ab, xy" in fails("train", "pixels", "--out", tmp_path / "p", "--data", "digits", *more[2:4])
    assert "holds no denoiser" in fails("train", "denoiser", "--out", tmp_path / "p", "--data", "digits", *more[2:4])
    assert not (tmp_path / "p").exists()


def test_a_pretrained_model_learns_labels(run, fails, names, tmp_path):
    model, tokenizer = toy_stories.train(steps=5), toy_stories.tokenizer()
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    options = ("train", "lm", "--data", names, "--batch-size", 8, "--steps", 4)
    code, _, err = run(*options, "--init", tmp_path / "base", "--out", tmp_path / "m")
    assert code == 0, err
    learner = label_models.Causal.load(tmp_path / "m")
    assert learner.words == len(tokenizer)
    assert learner.model.get_input_embeddings().weight.shape[0] == len(tokenizer) + 3
    assert learner.tokenizer.convert_tokens_to_ids(["<ab>", "<xy>", "<any>"]) == learner.controls.tolist()
    code, _, err = run("generate", tmp_path / "m", "--prompt", "<ab>", "--negative", "<any>", "--scale", 2, "--json")
    assert code == 0, err
    assert "none" in fails(*options, "--init", tmp_path / "none", "--out", tmp_path / "n")
    rows = datasets.Data(["one", "two"] * 4, torch.arange(8) % 2, ("s", "pad"), ["one", "two"], torch.arange(2))
    with pytest.raises(ValueError, match="already has tokens with the names of the labels; give the labels other names"):
        label_models.pretrained(rows, str(tmp_path / "base"))  # whose texts begin with <s>


def test_few_steps_lower_the_loss_of_a_real_model(run, data, tmp_path):
    source = tmp_path / "reviews.parquet"
    frame = pd.read_parquet(data / "pros_cons.parquet").sample(600, random_state=0)
    frame.to_parquet(source)
    options = ("--text-column", frame.columns[0], "--label-column", "label", "--batch-size", 16, "--json")
    told = {}
    for steps in (1, 30):
        init = ("--init", data / "stories260K", "--steps", steps, "--rate", 2e-3, "--out", tmp_path / str(steps))
        code, out, err = run("train", "lm", "--data", source, *options, *init)
        assert code == 0, err
        told[steps] = float(json.loads(out)["held-out loss, nats a sequence"].split()[0])
    assert told[30] < told[1] - 5


def test_a_batch_beyond_the_memory_is_refused_before_anything_is_written(fails, tmp_path, monkeypatch):
    """Every row of a batch has 64 pixels here, or the numbers of one layer if those are more, in 4 bytes each."""
    monkeypatch.setattr(limits, "_memory", lambda: 1e6)
    monkeypatch.setattr(learners, "train", lambda *given, **options: pytest.fail("the training began"))
    options = ("train", "denoiser", "--data", "digits", "--out", tmp_path / "m", "--depth", 1, "--steps", 1, "--batch-size")
    assert "--batch-size 4e+03 must fit into the memory" in fails(*options, 4000, "--width", 16)
    assert "--batch-size 3e+03 must fit into the memory" in fails(*options, 3000, "--width", 96)
    assert not (tmp_path / "m").exists()


def test_a_killed_training_continues_to_the_same_losses(run, fails, names, tmp_path, monkeypatch):
    options = ("train", "lm", "--data", names, "--out", tmp_path / "m", *SMALL)
    fit = learners.fit

    def killed(*args, **given):
        def track(steps):
            for step in steps:
                if step == 4:
                    raise KeyboardInterrupt
                yield step

        return fit(*args, **given | {"every": 2, "track": track})

    monkeypatch.setattr(learners, "fit", killed)
    code, _, err = run(*options)
    assert (code, err.splitlines()[-1]) == (
        130,
        "arguide: interrupted; finished work is kept, and the same command resumes it",
    )
    monkeypatch.setattr(learners, "fit", fit)
    assert (tmp_path / "m" / "checkpoint.pt").exists()
    assert "other settings" in fails(*options, "--seed", 1)
    assert run(*options)[0] == 0
    assert run("train", "lm", "--data", names, "--out", tmp_path / "whole", *SMALL)[0] == 0
    losses = [pd.read_parquet(tmp_path / name / "losses.parquet") for name in ("m", "whole")]
    pd.testing.assert_frame_equal(*losses)
    assert run(*options, "--seed", 1, "--fresh")[0] == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    assert "is not empty" in fails(*options[:5], tmp_path / "other", *SMALL)
    (tmp_path / "broken").mkdir()


def test_a_corrupted_checkpoint_is_refused_by_name(run, fails, names, tmp_path):
    options = ("train", "lm", "--data", names, "--out", tmp_path / "m", *SMALL)
    assert run(*options)[0] == 0
    (tmp_path / "m" / "result.json").unlink()
    (tmp_path / "m" / "checkpoint.pt").write_bytes(b"broken")
    assert "checkpoint.pt is no checkpoint" in fails(*options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("trees", "--data", "digits"), "must be one of lm, pixels, denoiser, classifier"),
        (("lm", "--data", "digits"), "but digits are images"),
        (("pixels", "--data", "digits", "--clean"), "--clean is for a classifier"),
        (("pixels", "--data", "digits", "--network", "unet"), "--network is for a denoiser"),
        (("denoiser", "--data", "digits", "--network", "lm"), "--network must be mlp or unet"),
        (("pixels", "--data", "digits", "--dropout", 2), "dropout must be in [0, 1]"),
        (("classifier", "--data", "digits", "--dropout", 0.2), "--dropout must be 0 for a classifier"),
        (("lm", "--data", "none.csv"), "no file none.csv"),
    ],
)
def test_a_bad_training_fails_in_one_line(fails, tmp_path, options, says):
    assert says in fails("train", *options, "--out", tmp_path / "m")
    assert not (tmp_path / "m").exists()
