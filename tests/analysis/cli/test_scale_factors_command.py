"""The command `arguide scale-factors`: its numbers, its files of texts, and its errors."""

import json

import pandas as pd
import pytest
import torch
from tiny import save
from transformers import AutoModelForCausalLM, AutoTokenizer

import arguide
from analysis.cli import display
from analysis.metrics import gap_estimates
from analysis.text import measured_texts

COMMAND = ("scale-factors",)
FEW = ("--max-new-tokens", 4, "--samples", 12, "--particles", 12, "--repeats", 3)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "tiny")


def measured_by(run, *arguments):
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in the output"))


def test_json_has_the_numbers_of_the_library(run, tiny, tmp_path):
    out, picture = tmp_path / "texts.parquet", tmp_path / "factors.png"
    options = ("--prompt", "a dog", "--negative", "", "--scale", 1.5, *FEW, "--seed", 3, "--out", out, "--figure", picture)
    record = measured_by(run, tiny, *options)
    model, words = AutoModelForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)
    given = {"max_new_tokens": 4, "negative_prompt_ids": torch.tensor([[1]])}
    ids = words("a dog", return_tensors="pt").input_ids
    law, base = (arguide.continuation(model, ids, guidance_scale=scale, **given) for scale in (1.5, 0.0))
    plan, generator = gap_estimates.Plan(12, 12, 3), torch.Generator().manual_seed(3)
    expected = gap_estimates.measure(law, base, 4, plan, generator=generator)
    last = expected.lengths.iloc[-1]
    assert record["base"] == "unconditional"
    assert record["log_z"] == pytest.approx(expected.diagnosis.log_evidence)
    assert record["log_z_std_error"] == pytest.approx(expected.diagnosis.std_error)
    assert record["kl_sequential_joint"] == pytest.approx(last.kl)
    assert record["kl_interval"] == pytest.approx([last.kl_low, last.kl_high])
    assert (record["ess"], record["ess_share"]) == pytest.approx((last.ess, last.ess_share))
    assert record["lengths"] == {name: pytest.approx(expected.lengths[name].tolist()) for name in expected.lengths}
    assert record["verdict"] == expected.diagnosis.verdict
    asked = {"prompt": "a dog", "negative": "", "scale": 1.5, "temperature": 1.0, "power": 1.0, "max_new_tokens": 4}
    chat = {"template": True, "system": None, "negative_system": None}
    assert record["law"] == asked | {"cap": "truncate", "chat": chat, "samples": 12, "particles": 12, "repeats": 3}
    assert (record["model"], record["seed"]) == (str(tiny), 3)
    for row, (_, one), tokens in zip(record["sequences"], expected.sequences.iterrows(), expected.tokens, strict=True):
        assert row["text"] == words.decode(tokens, skip_special_tokens=True)
        assert row["tokens"] == one.tokens == len(tokens)
        assert [row[name] for name in ("log_s", "log_s_prime", "log_path")] == pytest.approx(
            [one.log_s, one.log_s_prime, one.log_path]
        )
        assert row["log_s_interval"] == pytest.approx([one.log_s_low, one.log_s_high])
    frame = pd.read_parquet(out)
    assert frame["text"].tolist() == [row["text"] for row in record["sequences"]]
    assert set(frame["base"]) == {"unconditional"}
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["factors.png", "texts.parquet"]


@pytest.mark.parametrize(("scale", "negative"), [(1.5, "cat"), (0.0, "cat"), (1.0, None)])
def test_log_ratios_are_scores_of_both_prompts(run, tiny, tmp_path, scale, negative):
    """Of given texts, up to their own lengths; their quantiles in the record, and in the table."""
    (tmp_path / "texts.txt").write_text("ab\nc\nxyz\n")
    away = () if negative is None else ("--negative", negative)
    options = (tiny, "--prompt", "a dog", *away, "--scale", scale, *FEW, "--texts", tmp_path / "texts.txt")
    record = measured_by(run, *options)
    model, words = AutoModelForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)
    ids, other = (words(text, return_tensors="pt").input_ids for text in ("a dog", negative or "a dog"))
    other = other if negative else other[:, -1:]
    ratios = []
    for text in ("ab", "c", "xyz"):
        own = words(text, add_special_tokens=False, return_tensors="pt").input_ids
        cond, uncond = (arguide.score(model, each, own).joint for each in (ids, other))
        ratios.append(float(cond - uncond))
    assert [row["log_ratio"] for row in record["sequences"]] == pytest.approx(ratios, abs=1e-4)
    low, middle, high = sorted(ratios)
    found = record["log_ratio"]
    assert (found["min"], found["median"], found["max"]) == pytest.approx((low, middle, high), abs=1e-4)
    assert (found["5 %"], found["95 %"]) == pytest.approx((low + 0.1 * (middle - low), high - 0.1 * (high - middle)), abs=1e-4)
    shown = " / ".join(f"{value:.1f}" for value in found.values())
    assert "log p(x|y)/p(x), min/5/50/95 %/max" in (out := run(*options)[1])
    assert shown in out


def test_power_is_one_over_temperature(run, tiny):
    options = (tiny, "--prompt", "a dog", "--scale", 1, *FEW)
    power, tau = (measured_by(run, *options, *given) for given in (("--power", 2), ("--temperature", 0.5)))
    assert power == tau
    assert (power["base"], power["law"]["temperature"], power["law"]["power"]) == ("model", 0.5, 2.0)
    for row in power["sequences"]:  # log s = log p − log Z at β = 2, for log p̃ = 2 log p
        log_p = row["log_s"] + power["log_z"]
        assert log_p < 0
        assert row["log_s_prime"] == pytest.approx(log_p - row["log_path"])
    other = measured_by(run, *options, "--power", 2, "--negative", "")
    assert other["base"] == "unconditional"
    assert other["log_z"] == power["log_z"]
    assert other["sequences"][0]["log_s"] != power["sequences"][0]["log_s"]
    plain = measured_by(run, *options)
    assert plain["kl_sequential_joint"] == pytest.approx(0, abs=1e-5)
    assert all(abs(row["log_s"]) < 1e-5 for row in plain["sequences"])
    assert plain["ess_share"] == pytest.approx(1)


TEXTS = [" cat", "cat", "NA", "12", "x[/b]"]


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet", "jsonl"])
def test_texts_come_from_a_file(run, tiny, tmp_path, kind):
    path, frame = tmp_path / f"texts.{kind}", pd.DataFrame({"text": TEXTS, "n": range(5)})
    if kind == "txt":
        path.write_text("\n".join(TEXTS[:2]) + "\n\n" + "\n".join(TEXTS[2:]) + "\n")
    elif kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    else:
        frame.to_parquet(path)
    options = (tiny, "--prompt", "a dog", "--scale", 2, *FEW, "--max-new-tokens", 5)
    record = measured_by(run, *options, "--texts", path)
    assert [row["text"] for row in record["sequences"]] == TEXTS
    assert [row["tokens"] for row in record["sequences"]] == [4, 3, 2, 2, 5]
    assert record["kl_sequential_joint"] == measured_by(run, *options)["kl_sequential_joint"]


def test_an_end_is_counted_where_it_is_written_or_forced(run, tiny, tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("ab\nab</s>\n")
    options = (tiny, "--prompt", "a dog", "--scale", 2, *FEW, "--texts", path)
    cut, forced = (measured_by(run, *options, "--cap", cap)["sequences"] for cap in ("truncate", "force"))
    assert [(row["tokens"], row["ended"]) for row in cut] == [(2, False), (3, True)]
    assert [(row["tokens"], row["ended"]) for row in forced] == [(3, True), (3, True)]
    assert forced[0]["log_s"] == pytest.approx(forced[1]["log_s"])
    assert cut[1]["log_s_prime"] == pytest.approx(forced[1]["log_s_prime"])  # it ends before the cap


def test_tables_show_texts_unchanged(run, tiny, tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("[/b]\n[red]\n")
    files = ("--texts", path, "--out", tmp_path / "o.parquet")
    code, out, err = run(tiny, "--prompt", "a [b]dog", "--scale", 2, *FEW, "--max-new-tokens", 5, *files)
    assert code == 0
    assert out.splitlines()[-1] == f"The texts are in {tmp_path / 'o.parquet'}"
    assert "KL(sequential ‖ joint)" in out
    assert "[/b]" in out
    assert "[red]" in out
    assert "'a [b]dog'" in out
    assert "scale-factors" in err
    assert "100%" in err


def test_an_estimate_that_has_not_converged_is_marked(run, tiny, tmp_path):
    options = ("--prompt", "a dog", "--scale", 8, "--max-new-tokens", 12, "--samples", 8, "--particles", 8)
    code, out, err = run(tiny, *options, "--figure", tmp_path / "figure.png", "--json")
    assert code == 0
    record = json.loads(out)
    assert not record["consistent"]
    assert f"arguide: log Z is {record['verdict']}" in err.splitlines()[-1]
    assert "more particles" in record["verdict"]


def test_the_seed_decides_the_texts(run, tiny):
    options = (tiny, "--prompt", "a dog", "--scale", 2, *FEW)
    one, again, other = (measured_by(run, *options, "--seed", seed) for seed in (1, 1, 2))
    assert one == again
    assert one["sequences"] != other["sequences"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--temperature", 2, "--power", 2), "either --temperature or --power"),
        (("--temperature", 0), "--temperature must be positive"),
        (("--power", -1), "--power must be positive"),
        (("--power", "nan"), "--power must be positive"),
        (("--scale", "inf"), "--scale must be finite"),
        (("--scale", "1.1e30"), "--scale must be finite, and at most 1e+30"),
        (("--cap", "stop"), "--cap must be one of truncate, force"),
        (("--samples", 1), "--samples"),
        (("--particles", 1), "--particles"),
        (("--repeats", 1), "--repeats"),
        (("--max-new-tokens", 0), "--max-new-tokens"),
        (("--max-new-tokens", 60), "exceed the model's context of 48"),
        (("--negative", "b" * 45, "--max-new-tokens", 6), "the negative has 46 tokens"),
        (("--dtype", "float8"), "--dtype"),
        (("--device", "nowhere"), "no device"),
        (("--out", "a.csv"), "--out must end in .parquet"),
        (("--figure", "a.pdf"), "--figure must end in .png"),
        (("--out", "none/a.parquet"), "no folder none"),
        (("--texts", "none.txt"), "no file"),
        (("--texts", "none.xml"), "no file"),
        (("--texts", __file__), "must end in .txt, .csv, .parquet, .jsonl"),
    ],
)
def test_bad_options_are_one_line(fails, tiny, options, says):
    assert says in fails(tiny, "--prompt", "a", "--scale", 2, *options)


@pytest.mark.parametrize("scale", [-1e30, 1e30])
def test_the_largest_scales_are_accepted(scale):
    assert measured_texts.Target("a", None, scale).scale == scale


def test_prompt_and_scale_are_needed(fails, tiny):
    assert "--prompt" in fails(tiny, "--scale", 2)
    assert "--scale" in fails(tiny, "--prompt", "a")


def test_a_file_is_not_overwritten(fails, tiny, tmp_path):
    for option, name in (("--out", "a.parquet"), ("--figure", "a.png")):
        (tmp_path / name).write_text("mine")
        assert "nothing was overwritten" in fails(tiny, "--prompt", "a", "--scale", 2, option, tmp_path / name)
        assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.txt", "\n \n", "no texts"),
        ("t.csv", "", "not a readable .csv"),
        ("t.csv", "prompt\na\n", "no column 'text'"),
        ("t.csv", 'text,n\n"",1\n', "text 1 must have from 1 to 4 tokens, got 0"),
        ("t.jsonl", '{"text": 2}\n', "row 1 has no text"),
        ("t.jsonl", '{"text": "a"\n', "not a readable .jsonl"),
        ("t.parquet", "PAR1", "not a readable .parquet"),
        ("t.txt", "a\nabcdefgh\n", "text 2 must have from 1 to 4 tokens, got 8"),
        ("t.txt", "a</s>b\n", "text 1 must end with its ending token"),
    ],
)
def test_a_bad_file_of_texts_is_one_line_and_writes_nothing(fails, tiny, tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    options = ("--texts", tmp_path / name, "--out", tmp_path / "out.parquet", "--figure", tmp_path / "out.png")
    assert says in fails(tiny, "--prompt", "a", "--scale", 2, *FEW, *options)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_model_without_an_end_has_none_to_force(fails, run, tmp_path):
    folder = save(tmp_path / "endless", ends=False)
    assert "nothing to force" in fails(folder, "--prompt", "a", "--scale", 2, *FEW, "--cap", "force")
    record = measured_by(run, folder, "--prompt", "a", "--scale", 2, *FEW)
    assert {row["tokens"] for row in record["sequences"]} == {4}


def test_a_real_model_reads_its_own_texts_back(run, data, tmp_path):
    """A tokenizer that begins every text with a space; most samples are tokenized as they were drawn."""
    options = (data / "stories260K", "--prompt", "Lily had a big dog named Max.", "--negative", "", "--scale", 1.5)
    few = ("--max-new-tokens", 8, "--samples", 32, "--particles", 64, "--repeats", 2)
    drawn = measured_by(run, *options, *few, "--out", tmp_path / "texts.parquet")["sequences"]
    read = measured_by(run, *options, *few, "--texts", tmp_path / "texts.parquet")["sequences"]
    same = [(a, b) for a, b in zip(drawn, read, strict=True) if a["tokens"] == b["tokens"] and not a["ended"]]
    assert len(same) > 16
    for a, b in same:
        assert b["log_s_prime"] == pytest.approx(a["log_s_prime"], abs=1e-3)


def test_the_base_follows_from_the_target():
    assert measured_texts.Target("a", None, 1.0, power=2.0).base == "model"
    assert measured_texts.Target("a", "", 1.0).base == measured_texts.Target("a", None, 2.0).base == "unconditional"


def test_a_table_shows_half_the_interval():
    frame = pd.DataFrame({"log_s": [1.0], "log_s_low": [0.75], "log_s_high": [1.25], "log_s_prime": [0.5], "text": ["a  b"]})
    assert display.extremes(frame) == [("1.00 ± 0.25", "0.50", "+0.50", "a b")]


def test_too_little_memory_is_one_line(fails, tiny, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("many lines")

    monkeypatch.setattr(measured_texts, "measure", full)
    said = fails(tiny, "--prompt", "a dog", "--negative", "", "--scale", 1.5, *FEW)
    assert "cpu has too little memory; lower --particles" in said
