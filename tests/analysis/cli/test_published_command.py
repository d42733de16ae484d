"""The command `arguide published`: its rows, its tables, and its errors."""

import json

import pytest

from analysis.experiments.published import run as published

COMMAND = ("published",)
KEY = ("--only", "2510.14901")


def test_json_is_a_list_of_rows(run):
    code, out, _ = run(*KEY, "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["verdict"] for row in rows] == ["differs", "reproduced", "reproduced"]
    assert {"source", "where", "claim", "published", "ours", "difference", "control", "rule", "note", "command"} <= set(rows[0])


@pytest.mark.slow
def test_two_sources_come_in_the_order_of_the_table(run):
    code, out, err = run(*KEY, "--only", "2506.10971", "--jobs", 2)
    assert code == 0, err
    assert 0 < out.index("https://arxiv.org/abs/2506.10971") < out.index("https://arxiv.org/abs/2510.14901")
    assert out.splitlines()[-1] == "19 claims: 16 reproduced, 2 differs, 1 not decided"
    assert "shares of 25,000 draws" in " ".join(out.split())


def test_the_list_computes_nothing(run):
    code, out, err = run("--list")
    assert (code, err) == (0, "")
    assert "2408.09000" in out
    assert "Bradley and Nakkiran" in out


def test_a_source_of_one_claim_has_a_table(run, monkeypatch):
    row = next(row for row in published.stored() if row["source"] == "2510.14901") | {"where": "the only table"}
    monkeypatch.setattr(published, "rows", lambda *_: [row])
    code, out, err = run(*KEY)
    assert (code, err) == (0, "")
    assert out.splitlines()[1:3] == [row["title"], row["url"]]
    assert "│ the only table " in out
    assert out.splitlines()[-1] == f"1 claims: 1 {row['verdict']}"


def test_rows_are_written_once(run, fails, tmp_path):
    path = tmp_path / "rows.json"
    code, out, _ = run(*KEY, "--out", path)
    assert code == 0
    assert out.splitlines()[-1] == f"The rows are in {path}"
    assert len(json.loads(path.read_text())) == 3
    assert "nothing was overwritten" in fails(*KEY, "--out", path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--only", "nothing"), "no source 'nothing'; the sources are post, 2408.09000"),
        ((*KEY, "--out", "rows.csv"), ".json"),
        ((*KEY, "--device", "cuda"), "--device must be cpu"),
        ((*KEY, "--jobs", "-1"), "--jobs"),
    ],
)
def test_bad_options_are_one_line(fails, options, words):
    assert words in fails(*options)
