"""`arguide generate --prior`: coherent guidance, and exact joint draws with the share of proposals that was kept."""

import json
import math

import pandas as pd
import pytest

COMMAND = ("generate",)
PAIR = ("--prompt", "ab", "--negative", "c", "--max-new-tokens", 6)
JOINT = ("--joint", "--prior", 0.2)


def records(run, model, *options):
    code, out, err = run(model, *options, "--json")
    assert code == 0, err
    return json.loads(out), err


def test_a_prior_changes_the_law_and_one_is_no_guidance(run, model):
    texts = {
        prior: records(run, model, *PAIR, "--scale", 4, "--greedy", *prior)[0][0]["completion"]
        for prior in ((), ("--prior", 0.5), ("--prior", 1))
    }
    alone = records(run, model, *PAIR, "--scale", 1, "--greedy")[0][0]["completion"]
    assert texts["--prior", 1] == alone != texts[()]
    assert len(set(texts.values())) == 3


def test_acceptance_tells_the_share_that_was_kept(run, model):
    found, err = records(run, model, *PAIR, *JOINT, "--scale", 3, "--num-samples", 3)
    assert [record["sample"] for record in found] == [0, 1, 2]
    first = found[0]
    assert 0 < first["acceptance"] <= 1
    assert first["most_kl"] == pytest.approx(-math.log(first["acceptance"]))
    assert first["log_evidence"] == pytest.approx(-first["most_kl"] - 2 * math.log(0.2), abs=1e-5)
    assert first["verdict"] in err
    assert "of the proposals kept" in first["verdict"]
    assert "KL(joint ‖ conditional) ≤" in first["verdict"]
    assert "unconditional" in records(run, model, *PAIR, *JOINT, "--scale", 0.5)[0][0]["verdict"]


def test_all_proposals_are_kept_at_a_scale_of_one(run, model):
    found, _ = records(run, model, *PAIR, *JOINT, "--scale", 1)
    assert found[0]["acceptance"] == 1
    assert found[0]["most_kl"] == 0


def test_a_file_takes_a_prior(run, model, tmp_path):
    pd.DataFrame({"prompt": ["ab", "cd"], "negative": ["x", "y"], "scale": [1.5, 3.0]}).to_csv(tmp_path / "in.csv", index=False)
    given = ("--prompts", tmp_path / "in.csv", "--max-new-tokens", 4)
    assert run(model, *given, "--out", tmp_path / "one.parquet", "--prior", 0.3)[0] == 0
    assert run(model, *given, "--out", tmp_path / "two.parquet", *JOINT)[0] == 0
    frame = pd.read_parquet(tmp_path / "two.parquet")
    assert list(frame.columns)[-5:] == ["log_evidence", "std_error", "acceptance", "most_kl", "verdict"]
    assert frame["acceptance"].between(0, 1).all()
    assert len(pd.read_parquet(tmp_path / "one.parquet")) == 2


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("--prior must be in (0, 1], got 0", (*PAIR, "--prior", 0)),
        ("--prior must be in (0, 1], got 1.5", (*PAIR, "--prior", 1.5)),
        ("--prior needs a negative for every prompt", ("--prompt", "ab", "--prior", 0.5)),
        ("leave --power out", (*PAIR, *JOINT, "--power", 2)),
        ("--cap must be", (*PAIR, *JOINT, "--cap", "stop")),
        ("at least two --particles", (*PAIR, *JOINT, "--particles", 1)),
        ("finite and at least 0 for acceptance, got -1", (*PAIR, *JOINT, "--scale", -1)),
        ("plausibility 0", (*PAIR, *JOINT, "--plausibility", 0.5)),
        ("the share of accepted proposals A must be at least 0.001", (*PAIR, "--joint", "--prior", 1e-9, "--scale", 20)),
    ],
)
def test_what_does_not_fit_is_refused(fails, model, words, options):
    assert words in fails(model, *options)
