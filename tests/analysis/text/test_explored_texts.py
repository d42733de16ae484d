"""Texts for the page: what the command writes is what the measurement has, token by token."""

import json

import pytest
import torch
from tiny import save

from analysis.metrics.gap_estimates import Plan
from analysis.text import explored_texts, loading, measured_texts

COMMAND = ("scale-factors",)
FEW = ("--max-new-tokens", 5, "--samples", 16, "--particles", 16, "--repeats", 3)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "tiny")


def written(run, path, *arguments):
    code, _, err = run(*arguments, "--explore", path, "--json")
    assert code == 0, err
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} in the file"))


def measured_by_length(run, *arguments):
    """Return log Z of every length."""
    return json.loads(run(*arguments, "--json")[1])["lengths"]["log_z"]


def test_sums_of_tokens_are_the_scores_of_the_record(run, tiny, tmp_path):
    code, out, _ = run(tiny, "--prompt", "a <b>", "--scale", 2, *FEW, "--explore", tmp_path / "a.json", "--json")
    record, page = json.loads(out), json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert code == 0
    assert (page["format"], page["version"]) == ("arguide text", 1)  # which the page expects
    assert page["log_z"] == pytest.approx(record["log_z"], abs=1e-6)
    assert page["kl_interval"] == pytest.approx(record["kl_interval"], abs=1e-5)
    assert (page["prompt"], page["negative"], page["scale"], page["temperature"]) == ("a <b>", None, 2.0, 1.0)
    assert (page["model"], page["verdict"], page["consistent"]) == ("tiny", record["verdict"], record["consistent"])
    drawn = [text for text in page["texts"] if text["law"] == "sequential"]
    assert len(drawn) == explored_texts.SHOWN
    for text, row in zip(drawn, record["sequences"], strict=False):
        assert (len(text["tokens"]), text["ended"]) == (row["tokens"], row["ended"])
        assert "\ufffd" in row["text"] or "".join(text["tokens"]) == row["text"]
        target, path, base = (sum(text[name]) for name in ("log_target", "log_normalizer", "log_base"))
        assert path == pytest.approx(row["log_path"], abs=1e-4)
        assert target - path - base == pytest.approx(row["log_s_prime"], abs=1e-4)
        assert target - text["log_z"] - base == pytest.approx(row["log_s"], abs=1e-4)


def test_joint_texts_come_from_the_particles(tiny):
    """Of all runs together by their weights: where one particle has all the weight, every joint text is that particle."""
    loaded = loading.Choice(str(tiny)).load(torch.device("cpu"))
    target = measured_texts.Target("a dog", "", 1.5, max_new_tokens=4)
    measured = measured_texts.measure_texts(loaded, target, Plan(8, 8, 2))
    ends = measured_texts.laws(loaded, target).ends
    rows = {tuple(row) for run in measured.runs for row in run.x.tolist()}
    for tokens in explored_texts.joint_tokens(measured, ends, 0):
        assert any(row[: len(tokens)] == tuple(tokens) for row in rows)
        assert all(token not in ends for token in tokens[:-1])
    sure = torch.full((8,), -torch.inf, dtype=torch.float64).index_fill(0, torch.tensor([3]), 0.0)
    weak = measured.runs[1]._replace(log_evidence=measured.runs[0].log_evidence - 60)
    only = measured._replace(runs=[measured.runs[0]._replace(log_weights=sure), weak])
    found = explored_texts.joint_tokens(only, (), 1)
    assert found == [measured.runs[0].x[3].tolist()] * explored_texts.SHOWN
    again = explored_texts.joint_tokens(measured, ends, 0)
    assert again == explored_texts.joint_tokens(measured, ends, 0)
    assert again != explored_texts.joint_tokens(measured, ends, 1)


def test_a_given_text_and_its_end_are_marked(run, tiny, tmp_path):
    (tmp_path / "texts.txt").write_text("é\nab</s>\n", encoding="utf-8")
    options = ("--prompt", "é", "--scale", 2, *FEW, "--texts", tmp_path / "texts.txt")
    page = written(run, tmp_path / "a.json", tiny, *options)
    assert '"prompt": "é"' in (tmp_path / "a.json").read_text(encoding="utf-8")
    given = [text for text in page["texts"] if text["law"] == "given"]
    assert [text["ended"] for text in given] == [False, True]
    assert given[1]["tokens"] == ["a", "b", ""]
    lengths = measured_by_length(run, tiny, *options)
    assert [text["log_z"] for text in given] == pytest.approx([lengths[1], lengths[-1]], abs=1e-6)  # of 2 tokens, and of T
    assert abs(lengths[1] - lengths[-1]) > 1e-3
    assert {text["law"] for text in page["texts"]} == {"given", "sequential", "joint"}
    assert all(len(text[name]) == len(text["tokens"]) for text in page["texts"] for name in ("log_target", "log_base"))


def test_pieces_join_to_the_text_and_a_silent_token_has_its_name(tiny):
    loaded = loading.Choice(str(tiny)).load(torch.device("cpu"))
    tokens = loaded.tokenizer("a dög ran", add_special_tokens=False).input_ids
    pieces = explored_texts.pieces(loaded, [1], tokens)
    assert len(pieces) == len(tokens)
    assert pieces == ["a", " ", "d", loaded.tokenizer.convert_ids_to_tokens(tokens[3]), "ö", "g", " ", "r", "a", "n"]
    assert explored_texts.pieces(loaded, [1], [tokens[0], 0, tokens[0]]) == ["a", "<pad>", "a"]


def test_the_file_is_new_and_ends_in_json(fails, run, tiny, tmp_path):
    options = (tiny, "--prompt", "a", "--scale", 2, *FEW, "--explore")
    (tmp_path / "mine.json").write_text("mine")
    assert "nothing was overwritten" in fails(*options, tmp_path / "mine.json")
    assert (tmp_path / "mine.json").read_text() == "mine"
    assert "--explore must end in .json" in fails(*options, tmp_path / "a.html")
    assert "no folder" in fails(*options, tmp_path / "none" / "a.json")
    code, out, _ = run(*options, tmp_path / "new.json")
    assert code == 0
    assert f"The texts for the page explore.html are in {tmp_path / 'new.json'}" in "".join(out.splitlines()[-3:])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.json", "new.json"]
