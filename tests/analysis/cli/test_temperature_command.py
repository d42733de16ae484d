"""The command `arguide temperature`: its numbers, its texts, and its errors."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import read_ngrams
from analysis.experiments.temperature import exact
from analysis.metrics.confidence import Estimate
from analysis.metrics.temperature.draws import Matched, Point
from analysis.metrics.temperature.laws import TRANSFORMS, OfTexts
from analysis.text import tempered_texts
from analysis.text.tempered_texts import Pair, nearest

COMMAND = ("temperature",)
WAYS = ("--beta", "1,1.2", "--top-k", "1,3,100", "--top-p", ".4,.9")
FEW = ("--max-new-tokens", 5, "--groups", 2, "--particles", 4)
MERITS = {"log_likelihood", "entropy", "distinct texts", "distinct bigrams", "repeated bigrams", "length"}


def record(run, *arguments):
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in the output"))


@pytest.fixture
def options(model):
    return (model, "--prompt", "a dog", *WAYS, *FEW)


def test_json_has_every_way_and_the_comparisons(run, options, tmp_path):
    found = record(run, *options, "--show", 1, "--out", tmp_path / "texts.parquet")
    settings = {}
    for each in found["merits"]:
        settings.setdefault(each["family"], []).append(each["setting"])
        assert set(each) == {"family", "setting", "converged", "verdict"} | MERITS
        low, high = each["entropy"]["interval"]
        assert low <= each["entropy"]["value"] <= high
    assert settings["joint"] == [1.0, 1.2]
    assert {1.0, 1.2, 20.0} <= set(settings["sequential"])
    assert min(settings["sequential"]) == 1.0  # none is warmer than the model
    assert (settings["top-k"], settings["top-p"]) == ([1.0, 3.0, 100.0], [0.4, 0.9])
    assert [(each["beta"], each["family"]) for each in found["equal_likelihood"]] == [
        (1.2, family) for family in ("sequential", "top-k", "top-p")
    ]
    for each in found["equal_likelihood"]:
        assert each["setting"] is None or MERITS - {"log_likelihood"} <= set(each)
    assert set(found["useless"]) == {"answer", "reason"}
    assert found["law"]["prompt"] == "a dog"
    assert (found["law"]["groups"], found["law"]["particles"], found["law"]["betas"]) == (2, 4, [1.0, 1.2])
    (shown,) = found["texts"]
    assert shown["beta"] == 1.2
    assert "p^1.2" in shown["texts"]
    texts = pd.read_parquet(tmp_path / "texts.parquet")
    sizes = texts.groupby(["family", "setting"]).size()
    assert sizes["joint", 1.2] == 2 * 16
    assert sizes["top-k", 3.0] == 4 * 2 * 16
    first = texts[(texts["family"] == "joint") & (texts["setting"] == 1.2)]["text"].iloc[0]
    assert shown["texts"]["p^1.2"] == [first.strip()]


def test_at_one_all_ways_are_the_model(run, options):
    found = {(each["family"], each["setting"]): each for each in record(run, *options)["merits"]}
    joint, plain = found["joint", 1.0], found["sequential", 1.0]
    for each in (joint, plain):  # E[log p] = −H of the model's own texts
        assert each["entropy"]["value"] == pytest.approx(-each["log_likelihood"]["value"], abs=1e-3)
    greedy = found["top-k", 1.0]
    assert greedy["entropy"]["value"] == pytest.approx(0, abs=1e-6)
    assert greedy["distinct texts"]["value"] == 1 / 16


def test_ladders_draw_the_power(run, options):
    found = record(run, *options, "--sampler", "ladder", "--sweeps", 16)
    (power,) = (each for each in found["merits"] if (each["family"], each["setting"]) == ("joint", 1.2))
    assert "ladder" in power["verdict"]
    assert (found["law"]["sampler"], found["law"]["sweeps"]) == ("ladder", 16)


def test_a_table_shows_the_ways_side_by_side(run, options, tmp_path):
    code, out, err = run(*options, "--out", tmp_path / "o.parquet")
    assert code == 0
    assert out.splitlines()[-1] == f"The texts are in {tmp_path / 'o.parquet'}"
    for text in (
        "'a dog', T = 5",
        "1/1.2",
        "top-k 3",
        "top-p",
        "p^1.2",
        "At equal likelihood",
        "Texts as likely as those of p^1.2",
    ):
        assert text in out
    assert "useless where the sequential one works" in out
    assert "├─" in out  # a line between two texts
    assert "100%" in err


def test_the_seed_decides_the_texts(run, options):
    one, again, other = (record(run, *options, "--seed", seed)["merits"] for seed in (1, 1, 2))
    assert one == again
    assert one != other


def points_of(likelihoods):
    groups = [dict.fromkeys(MERITS, torch.zeros(4)) | {"log_likelihood": torch.full((4,), at)} for at in likelihoods]
    return [Point("sequential", float(i), values, torch.zeros(64, 5)) for i, values in enumerate(groups)]


def test_a_difference_within_rounding_is_none():
    (point,) = points_of([-3.0])
    gaps = {"entropy": Estimate(0.5, 0.1, 3.0), "length": Estimate(1e-12, 0.0, 3.0)}
    found = Pair(point, "sequential", Matched(1.5, gaps)).differences()
    assert {name: each.mean for name, each in found.items()} == {"entropy": 0.5, "length": 0.0}
    assert Pair(point, "sequential", None).differences() == {}


def test_texts_of_another_way_are_shown_only_where_it_is_as_likely():
    (point,), others = points_of([-3.0]), points_of([-9.0, -3.5, -1.0])
    assert nearest(Pair(point, "sequential", Matched(1.5, {})), others) is others[1]
    assert nearest(Pair(point, "sequential", None), others) is None


def test_a_truncation_that_keeps_all_is_the_plain_law(monkeypatch):
    """Half way between a narrow truncation and the plain law: k is 50 there, the whole vocabulary, and p is 1."""
    likelihoods = {("joint", 2.0): -2.0, ("sequential", 1.0): -3.0, ("top-k", 10.0): -1.0, ("top-p", 0.5): -1.0}

    def measured(_, family, setting, *__):
        (point,) = points_of([likelihoods.get((family, setting), -9.0)])
        return point._replace(family=family, setting=setting)

    monkeypatch.setattr(tempered_texts, "encode", lambda *_, **__: [None])
    monkeypatch.setattr(tempered_texts, "measure", measured)
    loaded = SimpleNamespace(model=SimpleNamespace(device="cpu"), tokenizer=range(50))
    found = tempered_texts.measure_texts(loaded, tempered_texts.Target("", (2.0,), (10.0,), (0.5,)), None)
    assert {pair.family: pair.matched.setting for pair in found.pairs if pair.family != "sequential"} == {
        "top-k": 30,
        "top-p": 0.75,
    }


@pytest.mark.parametrize(("sampler", "option"), [("particles", "--particles"), ("ladder", "--groups")])
def test_too_little_memory_is_one_line(run, options, monkeypatch, sampler, option):
    def full(*_):
        raise torch.OutOfMemoryError("many lines")

    monkeypatch.setattr(tempered_texts, "measure", full)
    code, _, err = run(*options, "--sampler", sampler)  # with a progress bar
    assert (code, err.splitlines()[-1]) == (2, f"arguide: cpu has too little memory; lower {option}")


@pytest.mark.slow
def test_without_a_model_the_laws_are_exact(run):
    found = record(run, "--beta", "2", "--top-k", "1,2,50", "--top-p", ".65")
    ways = {(each["law"], each["family"], each["setting"]): each for each in found["equal_likelihood"]}
    assert ("coupled", "top-k", 50.0) not in ways  # it keeps every token
    cold = ways["coupled", "sequential", 2.0]
    assert cold["equal entropy"] - cold["entropy"] == pytest.approx(cold["lost"])
    assert cold["lost"] > 0.01
    assert 1 < cold["effective_beta"] < 2
    assert ways["independent x_t", "sequential", 2.0]["effective_beta"] == pytest.approx(2)
    reached = {(each["law"], each["way"]): each for each in found["reached"]}
    ode = reached["Gaussian", "score × β, ODE"]
    closed = 1 / (2500 * (1 / 2501) ** 2)  # a/(σ_max²(a/(a+σ_max²))^β)
    assert ode["beta"]["interval"][0] * 0.97 < closed < ode["beta"]["interval"][1] * 1.03
    assert ode["terrible"]["answer"] == "true"
    low, high = reached["Gaussian", "score × β, SDE"]["beta"]["interval"]
    assert low * 0.97 < 3 < high * 1.03
    assert found["useless"]["independent x_t"]["answer"] == "no difference that would matter"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--beta", "0"), "--beta must be positive"),
        (("--beta", "2,-1"), "--beta must be positive"),
        (("--beta", "nan"), "--beta must be finite numbers"),
        (("--beta", "a"), "--beta must be finite numbers"),
        (("--top-k", "0"), "--top-k must be whole numbers of at least 1, got 0; try 1,5,50"),
        (("--top-k", "1.5"), "--top-k must be whole numbers"),
        (("--top-p", "0"), "--top-p must be in (0, 1], got 0; try .5,.9"),
        (("--top-p", ".5,1.1"), "--top-p must be in (0, 1], got 1.1"),
        (("--groups", 1), "--groups"),
        (("--particles", 1), "--particles"),
        (("--max-new-tokens", 0), "--max-new-tokens"),
        (("--max-new-tokens", 60), "exceed the model's context"),
        (("--cap", "stop"), "--cap must be one of truncate, force"),
        (("--sampler", "beams"), "--sampler must be particles or ladder, got 'beams'"),
        (("--sweeps", 15), "--sweeps"),
        (("--device", "nowhere"), "no device"),
        (("--out", "a.csv"), "--out must end in .parquet"),
    ],
)
def test_bad_options_are_one_line(fails, model, given, says):
    assert says in fails(model, "--prompt", "a", *given)


def test_a_model_needs_a_text(fails, model):
    assert "give --prompt" in fails(model)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--prompt", "a"), "--prompt is for the texts of a model"),
        (("--out", "a.parquet"), "--out is for the texts of a model"),
        (("--device", "cuda"), "--device must be cpu for exact laws"),
        (("--beta", "0"), "--beta must be positive"),
    ],
)
def test_options_of_texts_need_a_model(fails, given, says):
    assert says in fails(*given)


def own(run, file, *options):
    return record(run, "--file", file, *WAYS, *options)


def test_a_table_of_ones_own_has_all_ways(run, tmp_path):
    """A table of two tokens: top-k 1 and a label's own law by hand."""
    joint = np.array([[[0.20, 0.15], [0.10, 0.05]], [[0.05, 0.10], [0.15, 0.20]]])
    np.save(tmp_path / "t.npy", joint)
    found = {(each["family"], each["setting"]): each for each in own(run, tmp_path / "t.npy", "--label", 1)["equal_likelihood"]}
    law = joint[1] / joint[1].sum()
    assert found["top-k", 1.0]["log_likelihood"] == pytest.approx(np.log(law[1, 1]))
    power = law**1.2 / (law**1.2).sum(1, keepdims=True) * (law.sum(1) ** 1.2 / (law.sum(1) ** 1.2).sum())[:, None]
    assert found["sequential", 1.2]["log_likelihood"] == pytest.approx((power * np.log(law)).sum())
    whole = own(run, tmp_path / "t.npy")["equal_likelihood"]
    assert {each["law"] for each in whole} == {"t.npy"}
    assert whole[0]["log_likelihood"] == pytest.approx((joint.sum(0) * np.log(joint.sum(0))).sum())
    assert ("top-k", 100.0) not in found


def test_texts_of_ones_own_have_all_ways(run, tmp_path):
    rows = {"text": ["abc", "abd", "cab", "ba"] * 20, "kind": ["x", "y"] * 40}
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    options = ("--order", 2, "--label-column", "kind")
    every = own(run, tmp_path / "t.csv", *options)
    assert set(every["useless"]) == {"t.csv"}
    assert every["reached"] == []
    of_label = own(run, tmp_path / "t.csv", *options, "--label", "x")
    laws = OfTexts(read_ngrams(tmp_path / "t.csv", order=2, label_column="kind"), "x")
    found = {(each["family"], each["setting"]): each for each in of_label["equal_likelihood"]}
    expected = laws.merits(laws.transformed(TRANSFORMS["top-p"](0.9)))
    assert found["top-p", 0.9]["entropy"] == pytest.approx(expected["entropy"])
    code, out, _ = run("--file", tmp_path / "t.csv", *options, *WAYS)
    assert code == 0
    assert "t.csv" in out
    assert "β that is reached" not in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--label", "z"), "no label 'z'"),
        (("--prompt", "a"), "--prompt is for the texts of a model"),
        (("--order", 2, "--text-column", "none"), "no column 'none'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(run, tmp_path, options, says):
    pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]}).to_csv(tmp_path / "t.csv", index=False)
    code, out, err = run("--file", tmp_path / "t.csv", "--label-column", "label", *options)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert says in err


def test_files_and_models_exclude_each_other(run, model, tmp_path):
    for options, says in (((model, "--file", tmp_path), "leave one of them out"), (("--order", 3), "laws of a --file")):
        code, _, err = run(*options)
        assert (code, len(err.splitlines())) == (2, 1)
        assert says in err


def test_a_table_that_is_not_there_is_named(fails, tmp_path):
    assert fails("--file", tmp_path / "none.npy") == f"arguide: no file {tmp_path / 'none.npy'}\n"


@pytest.mark.parametrize("options", [(), ("--file", "t.npy")])
def test_json_never_has_a_number_that_is_not_finite(fails, monkeypatch, tmp_path, options):
    monkeypatch.chdir(tmp_path)
    np.save("t.npy", np.full((2, 2), 1 / 4))
    for name in ("run", "own"):
        monkeypatch.setattr(exact, name, lambda *_, **__: None)
    monkeypatch.setattr(exact, "record", lambda *_: {"value": float("nan")})
    assert "not JSON compliant" in fails(*options, "--json")
