"""The command `arguide generate`: what it prints, and the options that it refuses."""

import json
from contextlib import nullcontext

import pytest
import torch
from command import completions

from analysis.text import batch_jobs, distributed

COMMAND = ("generate",)
FEW = ("--max-new-tokens", 6)


def test_json_has_one_record_per_sample(run, model):
    code, out, err = run(model, "--prompt", "a", "--prompt", "longer", "--num-samples", 2, *FEW, "--json", "--negative", "x")
    records = json.loads(out)
    assert (code, err) == (0, "")
    assert [(r["prompt"], r["sample"]) for r in records] == [("a", 0), ("a", 1), ("longer", 0), ("longer", 1)]
    assert all(list(r) == ["prompt", "negative", "scale", "sample", "completion", "tokens"] for r in records)
    assert {(r["negative"], r["scale"]) for r in records} == {("x", 1.5)}
    assert all(0 <= r["tokens"] <= 6 for r in records)
    assert len({r["completion"] for r in records}) > 1


def test_titles_distinguish_several_completions(run, model):
    code, out, _ = run(model, "--prompt", "a [red] dog", "--prompt", "b", "--num-samples", 2, *FEW)
    assert code == 0
    assert "prompt 1: a [red] dog · sample 2" in out
    assert "prompt 2: b · sample 1" in out


@pytest.mark.parametrize(("columns", "table"), [(120, True), (60, False)])
def test_a_wide_terminal_shows_scales_in_columns(run, model, monkeypatch, columns, table):
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, err = run(model, "--prompt", "a dog", "--prompt", "b", "--compare", "1,1.5,2,3", *FEW)
    assert (code, err) == (0, "")
    assert ("┃ γ = 1.5" in out) == table
    assert ("prompt 1: a dog · γ = 1.5" in out) != table
    lines = [line for line in out.splitlines() if line.startswith("│")]
    assert not table or len(lines[0].split("│")) == 6


def test_equal_scales_are_compared_once(run, model):
    _, out, _ = run(model, "--prompt", "a", "--compare", "2,1,2.0", *FEW, "--json")
    assert [record["scale"] for record in json.loads(out)] == [2, 1]


def test_compared_scales_share_the_seed(run, model):
    _, out, _ = run(model, "--prompt", "a", "--prompt", "b", "--compare", "0.5,2", *FEW, "--json")
    records = json.loads(out)
    assert [(r["prompt"], r["scale"]) for r in records] == [("a", 0.5), ("a", 2.0), ("b", 0.5), ("b", 2.0)]
    for scale in (0.5, 2.0):
        alone = completions(run, model, "--prompt", "a", "--prompt", "b", "--scale", scale, *FEW)
        assert [r["completion"] for r in records if r["scale"] == scale] == alone


def test_a_stream_prints_the_same_text(run, model):
    plain = run(model, "--prompt", "a dog", *FEW)
    streamed = run(model, "--prompt", "a dog", *FEW, "--stream")
    assert streamed[0] == 0
    assert streamed[1].strip() == plain[1].strip()


@pytest.mark.parametrize("rank", [0, 1])
def test_of_several_processes_the_first_alone_prints(run, monkeypatch, tmp_path, rank):
    monkeypatch.setattr(distributed, "team", lambda device, **_: nullcontext(distributed.Team(rank, 2, torch.device("cpu"))))
    monkeypatch.setattr(batch_jobs, "complete_file", lambda task, choice, sampling, team, bar, *_: len(list(bar(range(3)))))
    (tmp_path / "p.txt").write_text("one\n")
    code, out, err = run("some/model", "--prompts", tmp_path / "p.txt", "--out", tmp_path / "a.parquet")
    assert code == 0
    assert out == (f"3 completions are in {tmp_path / 'a.parquet'}\n" if rank == 0 else "")
    assert ("100%" in err, "p.txt" in err, bool(err)) == (rank == 0,) * 3


@pytest.mark.parametrize(
    "options",
    [("--json",), ("--compare", "1,2"), ("--num-samples", 2), ("--prompt", "b")],
)
def test_a_stream_needs_one_completion(fails, model, options):
    assert "--stream prints one completion" in fails(model, "--prompt", "a", "--stream", *options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--prompt", "a", "--temperature", 0), "--temperature"),
        (("--prompt", "a", "--top-p", 0), "--top-p"),
        (("--prompt", "a", "--top-k", -1), "top"),
        (("--prompt", "a", "--plausibility", 2), "--plausibility"),
        (("--prompt", "a", "--greedy", "--num-samples", 2), "--greedy"),
        (("--prompt", "a", "--num-samples", 0), "num"),
        (("--prompt", "a", "--max-new-tokens", 0), "max"),
        (("--prompt", "a", "--scale", "nan"), "finite"),
        (("--prompt", "a", "--compare", "1,x"), "finite numbers"),
        (("--prompt", "a", "--compare", ""), "finite numbers"),
        (("--prompt", "\udcff"), "the prompt is not text in UTF-8"),
        (("--prompt", "a", "--negative", "\udcff"), "the negative is not text in UTF-8"),
        (("--prompt", "a", "--dtype", "int8"), "--dtype"),
        (("--prompt", "a", "--device", "nowhere"), "no device"),
        (("--prompt", "a", "--device", "cuda:99"), "no device"),
        (("--prompt", "a", "--prompts", "a.txt", "--out", "b.parquet"), "either --prompt"),
        ((), "either --prompt"),
        (("--prompts", "a.txt"), "go together"),
        (("--prompt", "a", "--out", "b.parquet"), "go together"),
        (("--prompts", "a.txt", "--out", "b.parquet", "--compare", "1,2"), "--compare"),
        (("--prompts", "none.txt", "--out", "b.parquet"), "no file"),
        (("--prompt", "a" * 40), "the prompt has 41 tokens; with 64 new ones they exceed the model's context of 48"),
        (("--prompt", "a", "--negative", "b" * 45, *FEW), "the negative has 46 tokens"),
        (("--prompt", "a", "--prompt", "b" * 45, *FEW), "the prompt 2 has 46 tokens"),
    ],
)
def test_bad_options_are_one_line(fails, model, options, says):
    assert says in fails(model, *options)
