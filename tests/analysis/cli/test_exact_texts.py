"""`arguide exact --order`: exact laws of a user's own labelled texts."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import read_ngrams
from analysis.learning import toy_stories
from analysis.metrics.mixture_texts import MixtureLaws

TEXTS = ["abc", "abd", "bcd", "ab", "cab", "dab", "abcd", "bad", "dad", "cad"]
LABELS = ["x", "y"] * 5


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "texts.csv"
    columns = {
        "text": TEXTS * 20,
        "label": LABELS * 20,
        "other": TEXTS[::-1] * 20,
        "cased": [*TEXTS, *map(str.upper, TEXTS)] * 10,
    }
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def figures(run, file, *options):
    code, out, err = run("exact", file, "--label", "x", "--scale", 2, "--order", 3, *options, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_figures_are_those_of_the_laws(run, file):
    found, models = figures(run, file), read_ngrams(file, order=3)
    joint, (other, _) = models.joint_guided("x", 2.0), models.sequential_guided("x", 2.0)
    texts = joint.sample(1)
    assert found["log_z"] == pytest.approx(float(joint.log_normalizer))
    assert found["kl_joint_sequential"] == pytest.approx(float(joint.kl(other)))
    assert found["kl_sequential_joint"] == pytest.approx(float(other.kl(joint)))
    assert found["mean_length_joint"] == pytest.approx(float(joint.lengths() @ torch.arange(1.0, 6).double()))
    assert found["log_growth"] < 0
    assert texts.shape == (1, models.length) == (1, 5)


def test_the_total_variation_has_an_interval_that_covers_the_exact_one(run, file):
    """Four standard errors over all texts; a wrong law is farther away."""
    models = read_ngrams(file, order=3)
    joint, (other, _) = models.joint_guided("x", 2.0), models.sequential_guided("x", 2.0)
    codes = np.stack(np.meshgrid(*[np.arange(models.size)] * models.length, indexing="ij"), -1).reshape(-1, models.length)
    ends = (codes == models.size - 1) | (np.cumsum(codes == models.size - 1, 1) == 0)
    whole = codes[ends.all(1) & (codes[:, -1] == models.size - 1)]
    p, q = (law.log_prob(torch.from_numpy(whole)).exp().numpy() for law in (joint, other))
    assert p.sum() == pytest.approx(1)
    found = figures(run, file)
    assert abs(found["tv"] - np.abs(p - q).sum() / 2) < 4 * found["tv_std_error"]
    assert abs(found["tv"] - (p - q).clip(0).max()) > 4 * found["tv_std_error"]


def test_draws_of_every_law_are_printed_and_written(run, file, tmp_path):
    options = ("exact", file, "--label", "x", "--scale", 2, "--order", 3, "--sample", 4, "--out", tmp_path / "draws.parquet")
    code, out, _ = run(*options)
    frame = pd.read_parquet(tmp_path / "draws.parquet")
    assert code == 0
    assert frame["law"].value_counts().to_dict() == {"conditional": 4, "joint": 4, "sequential": 4}
    assert all(text in out for text in frame["text"])
    assert out.splitlines()[-1] == f"The draws are in {tmp_path / 'draws.parquet'}"
    models = read_ngrams(file, order=3)
    expected = models.joint_guided("x", 2.0).log_prob(models.encode(frame["text"].tolist()))
    np.testing.assert_allclose(frame["log_joint"], expected)
    assert figures(run, file, "--sample", 2, "--seed", 1)["texts"] != figures(run, file, "--sample", 2, "--seed", 2)["texts"]


def test_columns_labels_lengths_and_tokenizers_are_options(run, file, model):
    base = figures(run, file)["log_z"]
    assert figures(run, file, "--text-column", "other")["log_z"] != base
    assert figures(run, file, "--length", 3)["log_z"] != base
    assert figures(run, file, "--text-column", "cased")["log_z"] == base  # characters are lower-cased, tokens are not
    assert figures(run, file, "--text-column", "cased", "--tokenizer", model)["log_z"] != base
    assert figures(run, file, "--max-labels", 2)["log_z"] == base


def test_a_mixture_is_drawn_and_its_figures_have_errors(run, file):
    found = figures(run, file, "--mixture", "--sample", 3)
    drawn = MixtureLaws(read_ngrams(file, order=3), "x").sample(2.0, 4000, torch.Generator().manual_seed(0))
    assert found["kl_sequential_joint"] == pytest.approx(drawn.summary()["kl_sequential_joint"].value)
    assert found["kl_sequential_joint_std_error"] == pytest.approx(drawn.summary()["kl_sequential_joint"].std_error)
    assert 0 < found["kept"] < 1
    assert "entropy_conditional_std_error" not in found
    assert {law: len(rows) for law, rows in found["texts"].items()} == {"conditional": 3, "joint": 3, "sequential": 3}
    assert figures(run, file, "--mixture", "--seed", 1)["log_z"] != found["log_z"]


def test_pieces_of_a_tokenizer_are_joined_as_text(run, tmp_path):
    rows = [("Ann had a cat .", "cat"), ("Tom had a dog .", "dog")] * 40
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / "t.csv", index=False)
    toy_stories.tokenizer().save_pretrained(tmp_path / "words")
    options = ("--label", "cat", "--scale", 1, "--order", 4, "--tokenizer", tmp_path / "words", "--sample", 2, "--json")
    code, out, _ = run("exact", tmp_path / "t.csv", *options)
    assert code == 0
    assert "Ann had a cat ." in json.loads(out)["texts"]["conditional"]


def test_a_growing_normalizer_is_reported(run, tmp_path):
    rows = [("ab" * 5, "x")] * 30 + [("b", "y")] * 400 + [("a", "y")] * 400
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / "t.csv", index=False)
    code, out, _ = run("exact", tmp_path / "t.csv", "--label", "x", "--scale", 20, "--order", 2)
    assert code == 0
    assert "has no limit" in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--label", "z"), "no label 'z'; the labels are x, y"),
        (("--label", "0"), "no label '0'"),
        (("--order", -1), "--order"),
        (("--order", 3, "--length", 10**12), "must fit into the memory"),
        (("--text-column", "none"), "no column 'none'"),
        (("--label-column", "none"), "no column 'none'"),
        (("--label-column", "one"), "two labels at least"),
        (("--text-column", "blank"), "is blank"),
        (("--max-labels", 1), "max_labels"),
        (("--smoothing", 1), "--smoothing"),
        (("--out", "laws.parquet"), "--sample"),
        (("--tokenizer", ""), "empty text"),
        (("--order", 0, "--sample", 3), "--order 5"),
        (("--order", 0, "--mixture"), "--order 5"),
        (("--mixture", "--temperature", 2), "no --temperature"),
        (("--mixture", "--scale", -1), "at least 0"),
        (("--scale", 1e12), "try a smaller scale"),
    ],
)
def test_bad_options_are_one_line(run, file, tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    pd.read_csv(file).assign(one="same", blank=" ").to_csv(file, index=False)
    code, out, err = run("exact", file, "--label", "x", "--scale", 2, "--order", 3, *options)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert says in err
    assert [path.name for path in tmp_path.iterdir()] == ["texts.csv"]
