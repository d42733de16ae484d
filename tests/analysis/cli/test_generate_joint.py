"""`arguide generate --joint`: seeds, verdicts and the options of the joint law."""

import json

import pandas as pd
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

COMMAND = ("generate",)
FEW = ("--max-new-tokens", 6)


JOINT = ("--joint", "--particles", 8, "--repeats", 2, *FEW)


def test_the_joint_law_has_a_verdict(run, model):
    code, out, err = run(model, "--prompt", "ab", "--negative", "c", "--num-samples", 2, "--json", *JOINT)
    records = json.loads(out)
    assert code == 0
    assert [record["sample"] for record in records] == [0, 1]
    assert {"log_evidence", "std_error", "consistent", "verdict"} <= set(records[0])
    assert records[0]["consistent"] is records[0]["verdict"].startswith("no disagreement found")
    assert err.strip() == f"arguide: {records[0]['verdict']}"


def test_the_seed_decides_a_joint_draw(run, model):
    seeds = [run(model, "--prompt", "ab", "--seed", seed, "--json", *JOINT)[1] for seed in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_verdicts_name_their_scale(run, model):
    _, out, err = run(model, "--prompt", "ab", "--compare", "1,2", *JOINT)
    assert "γ = 2" in out
    assert [line.split(": ")[1] for line in err.splitlines()] == ["γ = 1", "γ = 2"]


def test_a_power_draws_the_joint_law(run, model):
    records = [
        json.loads(run(model, "--prompt", "ab", "--scale", 1, "--power", power, "--json", *JOINT[1:], *extra)[1])
        for power, extra in ((2, ()), (1, ("--joint",)))
    ]
    assert records[0][0]["log_evidence"] < -0.1
    assert records[1][0]["log_evidence"] == pytest.approx(0, abs=1e-4)


def test_a_forced_end_has_the_evidence_of_all_texts_that_end(run, model):
    """At γ = 1 of one token, the probability of the end; the mass of all texts is 1 without it."""
    ids = AutoTokenizer.from_pretrained(model)("ab", return_tensors="pt").input_ids
    law = AutoModelForCausalLM.from_pretrained(model)(ids).logits[0, -1].detach().log_softmax(-1)
    for cap, mass in (("force", float(law[2])), ("truncate", 0.0)):
        _, out, _ = run(model, "--prompt", "ab", "--scale", 1, "--cap", cap, "--json", *JOINT[:5], "--max-new-tokens", 1)
        assert json.loads(out)[0]["log_evidence"] == pytest.approx(mass, abs=1e-4)


def test_a_ladder_has_a_verdict(run, model):
    ladder = ("--sampler", "ladder", "--particles", 3, "--sweeps", 8, *FEW, "--json")
    code, out, err = run(model, "--prompt", "ab", "--negative", "c", *ladder)
    (record,) = json.loads(out)
    assert code == 0
    assert "more levels" in record["verdict"]
    assert err.strip() == f"arguide: {record['verdict']}"
    assert json.loads(run(model, "--prompt", "ab", "--negative", "c", *ladder, "--seed", 1)[1]) != [record]


def test_every_sampler_draws_a_coherent_pair(run, model):
    pair = ("--prompt", "ab", "--negative", "c", "--prior", 0.4, "--cap", "force", "--max-new-tokens", 2, "--scale", 2)
    sizes = ("--particles", 60, "--sweeps", 12, "--json")
    exact = json.loads(run(model, *pair, "--sampler", "accept", "--particles", 1000, "--json")[1])[0]
    for sampler in ("particles", "ladder", "accept"):
        code, out, _ = run(model, *pair, "--sampler", sampler, *sizes)
        (record,) = json.loads(out)
        assert code == 0
        error = 4 * (record["std_error"] ** 2 + exact["std_error"] ** 2) ** 0.5
        assert abs(record["log_evidence"] - exact["log_evidence"]) < error < 0.5, sampler


def test_a_file_has_joint_diagnoses(run, model, tmp_path):
    (tmp_path / "in.txt").write_text("ab\ncd\nef\n")
    code, *_ = run(model, "--prompts", tmp_path / "in.txt", "--out", tmp_path / "out.parquet", "--batch-size", 2, *JOINT)
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert code == 0
    assert list(frame.columns)[-4:] == ["log_evidence", "std_error", "consistent", "verdict"]
    assert frame["prompt"].tolist() == ["ab", "cd", "ef"]
    assert frame["log_evidence"].nunique() == 3


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("--power in the place of --temperature", ("--temperature", 0.5)),
        ("--power in the place of --temperature", ("--greedy",)),
        ("two --particles", ("--particles", 1)),
        ("--power must be positive", ("--power", 0)),
        ("--cap must be", ("--cap", "stop")),
        ("--stream prints", ("--stream",)),
        ("--sampler must be one of particles, ladder, accept, got 'mcmc'", ("--sampler", "mcmc")),
        ("give a --prior", ("--sampler", "accept")),
        ("two --sweeps", ("--sampler", "ladder", "--sweeps", 1)),
    ],
)
def test_the_joint_law_refuses_other_options(fails, model, words, options):
    assert words in fails(model, "--prompt", "ab", *JOINT, *options)
