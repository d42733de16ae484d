"""Training and studies from the command line: what they leave, how they go on after a kill, and what they conclude."""

import json
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import arguide
from analysis import data, families, findings, learners, study
from analysis.experiment import tidy
from analysis.families import CORRECTED, JOINT, SDE, SEQUENTIAL
from analysis.figures import study as figures

SMALL = ("--steps", 6, "--batch-size", 8, "--width", 16, "--depth", 1)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "names.csv"
    rows = [(text, label) for label, letters in (("ab", "ab"), ("xy", "xy")) for text in spelled(letters)]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)
    return path


def spelled(letters):
    return ["".join(letters[(i >> k) % 2] for k in range(3 + i % 4)) for i in range(64)]


@pytest.mark.parametrize("kind", ["pixels", "denoiser", "classifier"])
def test_training_on_images_leaves_a_model_its_card_and_its_losses(run, tmp_path, kind):
    code, out, err = run("train", kind, "--data", "digits", "--out", tmp_path / "m", *SMALL, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["rows"] + told["held-out rows"] == 1797
    assert {"run.json", "result.json", "losses.parquet", "loss.png", "README.md", "model.safetensors", "config.json"} <= {
        path.name for path in (tmp_path / "m").iterdir()
    }
    assert not (tmp_path / "m" / "checkpoint.pt").exists()
    assert len(pd.read_parquet(tmp_path / "m" / "losses.parquet")) == 6
    again = run("train", kind, "--data", "digits", "--out", tmp_path / "m", *SMALL, "--json")
    assert json.loads(again[1]) == told


def test_a_trained_language_model_is_one_that_generate_takes(run, names, tmp_path):
    code, _, err = run("train", "lm", "--data", names, "--out", tmp_path / "m", *SMALL)
    assert code == 0, err
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    learner = learners.Causal.load(tmp_path / "m")
    assert tokenizer.convert_tokens_to_ids(["<ab>", "<xy>", "<any>"]) == learner.controls.tolist()
    assert model.config.vocab_size == len(tokenizer)
    code, out, err = run("generate", tmp_path / "m", "--prompt", "<ab>", "--negative", "<any>", "--scale", 2, "--json")
    assert code == 0, err
    assert json.loads(out)[0]["scale"] == 2
    texts = ["abab", "xx yx"]
    assert learner.decode(learner.encode(texts).clamp(min=0)) == texts


def test_texts_and_labels_that_look_like_control_tokens_are_texts_and_labels():
    texts = ["<end> good <any>", "<pad> fine", "short", "a longer text than the others"] * 12
    rows = data.Data(texts, torch.arange(48) % 2, ("any", "end"), texts[:4], torch.arange(4) % 2)
    learner = learners.new("lm", rows, learners.Size(16, 1), seed=0)
    assert len(set(learner.controls.tolist())) == 3
    assert learner.tokenizer.convert_tokens_to_ids(["<<any>>", "<<end>>", "<any>"]) == learner.controls.tolist()
    tokens = learner.encode(texts[:3])
    assert learner.decode(tokens.masked_fill(tokens < 0, learner.end)) == texts[:3]
    assert ((tokens == learner.end).sum(1) == 1).all()
    assert not torch.isin(tokens, learner.controls).any()
    cut = learner.encode(["a longer text than the others" * 9])
    assert cut.shape[1] == learner.length
    assert not (cut == learner.end).any()


def test_a_killed_training_is_picked_up_and_another_does_not_mix_in(run, fails, names, tmp_path, monkeypatch):
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
        "arguide: interrupted; what is finished is kept, and the same command picks it up",
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
        (("lm", "--data", "digits"), "digits are images"),
        (("pixels", "--data", "digits", "--clean"), "--clean is for a classifier"),
        (("pixels", "--data", "digits", "--dropout", 2), "dropout is a share"),
        (("lm", "--data", "none.csv"), "no file none.csv"),
    ],
)
def test_what_cannot_be_trained_is_one_line(fails, tmp_path, options, says):
    assert says in fails("train", *options, "--out", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_study_of_texts_from_end_to_end_and_again(run, names, tmp_path):
    small = ("--effort", 0.01, "--scales", "0,2", "--seeds", 2, "--samples", 4)
    options = ("study", "--data", names, "--out", tmp_path / "s", *small, "--jobs", 1)
    code, out, err = run(*options, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert list(told["headline"]) == ["question", "trade"]
    page = (tmp_path / "s" / "report.html").read_text()
    assert "<script" not in page
    assert "arguide study --data names.csv" in page
    frame = pd.read_parquet(tmp_path / "s" / "results.parquet")
    assert set(frame["family"]) >= {SEQUENTIAL, JOINT, "judge"}
    both = frame[frame["quantity"] == "accuracy"].pivot_table(index=["seed", "scale"], columns="family", values="value")
    at_0 = both.xs(0.0, level="scale")
    assert (at_0[JOINT] == at_0[SEQUENTIAL]).all()
    pieces = {path: path.stat().st_mtime_ns for path in (tmp_path / "s" / "experiments").iterdir()}
    lost = sorted(pieces)[0]
    lost.unlink()
    assert run(*options, "--json")[0] == 0
    changed = {path for path in pieces if path.stat().st_mtime_ns != pieces[path]}
    assert changed == {lost}
    code, _, err = run(*options[:-2], "--seed", 1)
    assert code == 2
    assert "other settings" in err


def test_a_killed_study_is_picked_up_to_the_same_results(run, names, tmp_path):
    small = ("--effort", "0.02", "--scales", "0,1.5", "--seeds", "2", "--samples", "3", "--jobs", "1")
    options = ["study", "--data", str(names), *small]
    command = [sys.executable, "-m", "analysis.cli", *options, "--out", str(tmp_path / "s")]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    finished = tmp_path / "s" / "experiments" / "lm-0.parquet"
    while child.poll() is None and not finished.exists():
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    begun = finished.stat().st_mtime_ns
    for name in ("s", "whole"):
        code, _, err = run(*options, "--out", tmp_path / name)
        assert code == 0, err
    assert finished.stat().st_mtime_ns == begun
    pd.testing.assert_frame_equal(*(pd.read_parquet(tmp_path / name / "results.parquet") for name in ("s", "whole")))


def test_a_study_of_awkward_texts(run, tmp_path):
    texts = ["good 🙂", 'so "bad", $5 & $6', "שלום עולם", "<end>", "two\nlines", "y" * 300, "日本語", "étude"] * 12
    pd.DataFrame({"text": texts, "label": [0, 1] * 48}).to_json(tmp_path / "odd.jsonl", orient="records", lines=True)
    small = ("--effort", 0.01, "--scales", "0,1.5", "--seeds", 2, "--samples", 3, "--jobs", 1)
    code, _, err = run("study", "--data", tmp_path / "odd.jsonl", "--out", tmp_path / "s", *small, "--json")
    assert code == 0, err
    assert "arning" not in err


def test_a_cell_of_texts_holds_those_that_fit():
    assert figures.filled(["one", "two", "three"], 10, 2) == "one\ntwo"
    assert figures.filled(["one two three four"], 9, 2) == "one two …"
    assert figures.filled([""], 9, 2) == "(empty)"


def samples(joint, sequential, apart=0.1, seeds=3):
    """Return a frame of a study with the given (accuracy, coverage) at γ = 1.5."""
    rows = []
    for seed in range(seeds):
        for family, (accuracy, coverage) in ((JOINT, joint), (SEQUENTIAL, sequential)):
            case = {"family": family, "scale": 1.5, "seed": seed}
            jitter = 0.004 * (seed - 1) * (1 if family == JOINT else -1)
            rows += [case | {"quantity": "accuracy", "value": accuracy + jitter}]
            rows += [case | {"quantity": name, "value": coverage + jitter} for name in ("coverage", "spread")]
        rows.append({"family": JOINT, "scale": 1.5, "seed": seed, "quantity": "log_z_apart", "value": apart})
    return tidy(rows)


def test_the_question_is_answered_either_way():
    assert findings.question(samples((0.9, 0.5), (0.9, 0.8))).verdict.startswith(
        "At equal γ the difference is seen in practice: the joint law is less covering and less spread out."
    )
    assert "more accurate" in findings.question(samples((0.95, 0.8), (0.9, 0.8))).verdict
    assert findings.question(samples((0.9, 0.8), (0.9, 0.8))).verdict.startswith("No difference is seen in practice")
    unreached = findings.question(samples((0.9, 0.5), (0.9, 0.8), apart=3.0))
    assert (unreached.measure, unreached.number) == ("the joint law", "not reached")


def test_equal_accuracy_is_read_between_the_scales():
    rows = []
    for seed in range(2):
        for family, points in ((SEQUENTIAL, [(1.0, 0.5, 1.0), (2.0, 0.9, 0.6)]), (JOINT, [(1.5, 0.7, 0.7), (2.0, 0.95, 0.1)])):
            for scale, accuracy, coverage in points:
                case = {"family": family, "scale": scale, "seed": seed}
                rows += [case | {"quantity": "accuracy", "value": accuracy}, case | {"quantity": "coverage", "value": coverage}]
    mean, _, count = findings.at_accuracy(tidy(rows), "coverage", JOINT, SEQUENTIAL, [1.5, 2.0])
    assert count == 2  # one scale a seed: .95 is an accuracy that the other never has
    assert mean == pytest.approx(0.7 - 0.8)


def test_every_family_draws_what_it_says(monkeypatch):
    """At γ = 1 of an untrained model: the counts, the labels, and weights that are even."""
    monkeypatch.setattr(families, "STEPS", 8)
    digits = data.read_images(data.Source("digits", "image", most=3))
    generator = torch.Generator().manual_seed(0)
    pixels = learners.new("pixels", digits, learners.Size(16, 1), seed=0)
    found = dict(families.autoregressive(pixels, 1.0, 2, generator))
    assert found[SEQUENTIAL].rows.shape == (6, 1, 8, 8)
    assert found[SEQUENTIAL].told["ess_share"] == pytest.approx(1.0, abs=0.2)
    sharp = dict(families.autoregressive(pixels, 1.5, 2, generator))
    assert set(sharp[JOINT].told) == {"ess_share", "ancestors", "log_z", "log_z_apart"}
    denoiser = learners.new("denoiser", digits, learners.Size(16, 1), seed=0)
    found = dict(families.denoising(denoiser, 1.5, 2, generator))
    assert found[CORRECTED].rows.shape == found[SDE].rows.shape == (6, 1, 8, 8)
    assert found[SDE].labels.tolist() == [label for label in range(3) for _ in range(2)]
    assert found[SDE].told["log_path_spread"] > 0


def test_particles_are_chosen_by_weight_and_by_run():
    generator = torch.Generator().manual_seed(0)

    def of(log_evidence, log_weights):
        return arguide.JointSample(*[None] * 9)._replace(
            log_evidence=torch.tensor(log_evidence), log_weights=torch.tensor(log_weights).log_softmax(0)
        )

    even = [of(0.0, [0.0] * 8), of(0.0, [0.0] * 8)]
    assert len(set(families.chosen(even, 16, generator).tolist())) == 16
    heavy = [of(0.0, [0.0] * 8), of(30.0, [0.0] * 7 + [-90.0])]
    picked = set(families.chosen(heavy, 16, generator).tolist())
    assert picked <= set(range(8, 15))


def test_seeds_and_efforts_out_of_range_are_refused():
    with pytest.raises(ValueError, match="two seeds"):
        study.Plan(data.Source("digits", "image"), True, seeds=1)
    with pytest.raises(ValueError, match="positive effort"):
        study.Plan(data.Source("digits", "image"), True, effort=0.0)
