import dataclasses
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import cli
from analysis.experiments import EXPERIMENTS, reproduce


def brute_force(joint, label, scale, temperature):
    """Plain enumeration in probability space: joint and sequential law, log Z."""
    p_x = joint.sum(0)
    p_c = joint[label] / joint[label].sum()

    def power(u, c):
        with np.errstate(divide="ignore", invalid="ignore"):
            value = (u ** (1 - scale) * c**scale) ** (1 / temperature)
        return np.where((c == 0) & (scale != 0) | (u == 0), 0.0, value) if scale else u ** (1 / temperature)

    tilt = power(p_x, p_c)
    q = np.ones(())
    for t in range(1, p_x.ndim + 1):
        later = tuple(range(t, p_x.ndim))
        u, c = p_x.sum(later), p_c.sum(later)
        before_u, before_c = u.sum(-1, keepdims=True), c.sum(-1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = power(np.nan_to_num(u / before_u), np.nan_to_num(c / before_c))
            q = q[..., None] * np.nan_to_num(factor / factor.sum(-1, keepdims=True))
    return tilt / tilt.sum(), q, np.log(tilt.sum())


def kl(p, q):
    kept = p > 0
    return float((p[kept] * np.log(p[kept] / q[kept])).sum())


def random_table(seed, labels, size, length, zeros):
    rng = np.random.default_rng(seed)
    joint = rng.gamma(0.5, size=(labels, *(size,) * length)) + 1e-3
    if zeros:
        joint[rng.random(joint.shape) < 0.3] = 0.0
    return joint / joint.sum()


CASES = [
    (seed, *case)
    for seed, case in enumerate(
        itertools.product([(2, 1), (2, 8), (3, 4), (5, 3)], [False, True], [(0.0, 1.0), (0.7, 0.3), (3.0, 1.0), (10.0, 3.0)])
    )
]


@pytest.mark.parametrize(("seed", "shape", "zeros", "law"), CASES)
def test_exact_agrees_with_plain_enumeration(run, tmp_path, seed, shape, zeros, law):
    joint = random_table(seed, 3, *shape, zeros)
    np.save(tmp_path / "table.npy", joint)
    options = ["--label", 1, "--scale", law[0], "--temperature", law[1], "--json", "--out", tmp_path / "laws.parquet"]
    code, out, err = run("exact", tmp_path / "table.npy", *options)
    assert (code, err) == (0, "")
    p, q, log_z = brute_force(joint, 1, *law)
    expected = {
        "log_z": log_z,
        "kl_sequential_joint": kl(q, p),
        "kl_joint_sequential": kl(p, q),
        "tv": abs(p - q).sum() / 2,
        "entropy_joint": -kl(p, np.ones_like(p)),
        "entropy_sequential": -kl(q, np.ones_like(q)),
        "entropy_conditional": -kl(joint[1] / joint[1].sum(), np.ones_like(p)),
    }
    assert json.loads(out) == pytest.approx(expected, abs=1e-9)
    laws = pd.read_parquet(tmp_path / "laws.parquet")
    names = [f"x_{t + 1}" for t in range(shape[1])]
    assert list(laws) == [*names, "p_uncond", "p_cond", "p_joint", "p_sequential", "log_s", "log_s_prime"]
    x = tuple(laws[name].to_numpy() for name in names)
    p_x = joint.sum(0)
    for column, wanted in {"p_uncond": p_x, "p_cond": joint[1] / joint[1].sum(), "p_joint": p, "p_sequential": q}.items():
        np.testing.assert_allclose(laws[column], wanted[x], atol=1e-12)
    reached = (p_x[x] > 0) & (p[x] > 0)
    np.testing.assert_allclose(laws["log_s"][reached], np.log(p[x][reached] / p_x[x][reached]), atol=1e-9)
    assert laws["log_s"][p_x[x] == 0].isna().all()
    assert laws["log_s_prime"][p_x[x] > 0].notna().all()


@pytest.mark.parametrize("scale", [-1.0, -0.3])
def test_exact_allows_negative_scales_of_proper_tilts(run, tmp_path, scale):
    joint = random_table(7, 2, 4, 3, zeros=False)
    np.save(tmp_path / "table.npy", joint)
    code, out, _ = run("exact", tmp_path / "table.npy", "--label", "0", "--scale", scale, "--json")
    p, q, log_z = brute_force(joint, 0, scale, 1.0)
    assert code == 0
    assert json.loads(out)["log_z"] == pytest.approx(log_z, abs=1e-9)
    assert json.loads(out)["kl_sequential_joint"] == pytest.approx(kl(q, p), abs=1e-9)


def test_a_csv_has_names_of_labels_and_values(run, tmp_path):
    frame = pd.DataFrame({"size": ["s", "l", "s", "l"], "kind": ["ham", "ham", "spam", "spam"], "n": [1, 2, 2, 2]})
    frame.to_csv(tmp_path / "d.csv", index=False)
    out_file = tmp_path / "laws.parquet"
    code, out, _ = run(
        "exact", tmp_path / "d.csv", "--label-column", "kind", "--label", "spam", "--scale", 2, "--out", out_file
    )
    assert code == 0
    assert "kl_sequential_joint" in out
    assert out.splitlines()[-1] == f"The laws are in {out_file}"
    assert set(pd.read_parquet(out_file)["x_1"]) == {"s", "l"}


GOOD = np.full((2, 2, 2), 1 / 8)
BAD_TABLES = {
    "negative": np.where(np.arange(8).reshape(2, 2, 2) == 0, -1 / 8, 9 / 56),
    "nan": np.where(np.arange(8).reshape(2, 2, 2) == 0, np.nan, 1 / 8),
    "unnormalised": 2 * GOOD,
    "no variable": np.array([0.5, 0.5]),
    "objects": np.array([[{}, {}], [{}, {}]]),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table_is_one_line(run, tmp_path, name):
    np.save(tmp_path / "bad.npy", BAD_TABLES[name], allow_pickle=True)
    code, out, err = run("exact", tmp_path / "bad.npy", "--label", 0, "--scale", 2, "--out", tmp_path / "laws.parquet")
    assert code == 2
    assert out == ""
    assert err.startswith("arguide: ")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "laws.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--label", "7", "--scale", "2"], "no label '7'"),
        (["--label", "-1", "--scale", "2"], "no label '-1'"),
        (["--label", "0", "--scale", "nan"], "finite"),
        (["--label", "0", "--scale", "inf"], "finite"),
        (["--label", "0", "--scale", "2", "--temperature", "0"], "temperature"),
        (["--label", "0", "--scale", "two"], "--scale"),
        (["--label", "0"], "--scale"),
        (["--label", "0", "--scale", "2", "--out", "laws.txt"], ".parquet"),
        (["--label", "0", "--scale", "2", "--out", "missing/laws.parquet"], "cannot write"),
        (["--label", "0", "--scale", "2", "--out", "taken.parquet"], "exists already"),
        (["--label", "0", "--scale", "2", "--nonsense"], "--nonsense"),
        (["--label", "0", "--scale", "2", "--label-column", "y"], "--label-column and --smoothing"),
        (["--label", "0", "--scale", "2", "--smoothing", "1"], "--label-column and --smoothing"),
    ],
)
def test_bad_options_are_one_line(run, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    np.save("table.npy", GOOD)
    Path("taken.parquet").write_text("mine")
    code, out, err = run("exact", "table.npy", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert says in err
    assert Path("taken.parquet").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.npy", "taken.parquet"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("empty.npy", b""), ("cut.npy", b"\x93NUMPY\x01\x00"), ("empty.csv", b""), ("bad.parquet", b"PAR1"), ("data.xyz", b"1")],
)
def test_a_malformed_file_is_one_line(run, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    column = [] if name.endswith(".npy") else ["--label-column", "y"]
    code, _, err = run("exact", tmp_path / name, "--label", 0, "--scale", 2, *column)
    assert (code, len(err.splitlines())) == (2, 1)
    assert name in err


def test_other_errors_are_one_line(run, tmp_path):
    joint = np.array([[[0.0, 0.25], [0.25, 0.0]], [[0.125, 0.125], [0.125, 0.125]]])
    np.save(tmp_path / "zeros.npy", joint)
    for arguments, says in (
        (["exact", tmp_path / "none.npy", "--label", 0, "--scale", 2], "no file"),
        (["exact", tmp_path / "zeros.npy", "--label", 0, "--scale", -1], "improper tilt"),
        (["frobnicate"], "frobnicate"),
        (["reproduce", "--device", "nowhere"], "device"),
    ):
        code, out, err = run(*arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert says in err


def test_reproduce_resumes_after_an_interrupt(run, tmp_path, monkeypatch):
    fast = tuple(e for e in EXPERIMENTS if e.name == "fidelity")
    stopped = dataclasses.replace(fast[0], name="stopped", run=lambda settings, track: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(reproduce, "EXPERIMENTS", (*fast, stopped))
    code, _, err = run("reproduce", "--quick", "--jobs", 1, "--out", tmp_path / "out")
    assert code == 130
    assert err.splitlines()[-1].startswith("arguide: interrupted")
    assert (tmp_path / "out/experiments/fidelity.parquet").exists()
    monkeypatch.setattr(reproduce, "EXPERIMENTS", fast)
    code, out, _ = run("reproduce", "--quick", "--out", tmp_path / "out", "--json")
    assert code == 0
    assert "nats" in json.loads(out)["headline"]["fidelity"]["number"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *("report.html", "explore.html", "results.parquet", "run.json", "figures", "experiments")
    }
    code, _, err = run("reproduce", "--out", tmp_path / "out")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "quick True → False" in err


def test_a_malformed_text_fails_first(run, tmp_path):
    (tmp_path / "bad.tsv").write_text("no tab here")
    code, _, err = run("reproduce", "--text", tmp_path / "bad.tsv", "--out", tmp_path / "out")
    assert (code, len(err.splitlines())) == (2, 1)
    assert not (tmp_path / "out").exists()


def test_a_model_in_the_folder_of_the_output_is_refused(run, model, tmp_path):
    shutil.copytree(model, tmp_path / "out" / "model")
    code, _, err = run("reproduce", "--model", tmp_path / "out" / "model", "--out", tmp_path / "out")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "--model" in err
    assert "choose another --out" in err


def test_labels_of_a_csv_are_no_indices(run, tmp_path):
    pd.DataFrame({"x": [0, 1, 0, 1], "y": [3, 3, 7, 7]}).to_csv(tmp_path / "d.csv", index=False)
    assert run("exact", tmp_path / "d.csv", "--label-column", "y", "--label", 3, "--scale", 2)[0] == 0
    code, _, err = run("exact", tmp_path / "d.csv", "--label-column", "y", "--label", 0, "--scale", 2)
    assert code == 2
    assert "3, 7" in err


@pytest.mark.parametrize("options", [["--scale", "1e308"], ["--scale", "2", "--temperature", "1e-320"]])
def test_an_overflow_is_an_error(run, tmp_path, options):
    np.save(tmp_path / "t.npy", random_table(3, 2, 3, 2, zeros=False))
    code, out, err = run("exact", tmp_path / "t.npy", "--label", 1, *options)
    assert (code, out, len(err.splitlines())) == (2, "", 1)


def test_help_imports_nothing_slow():
    code = (
        "import sys; sys.argv = ['arguide', '--help']\nfrom analysis.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'pandas', 'seaborn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("text", "line"), [("\n \nwhat it is\nmore", "what it is"), ("\n", "ValueError"), ("", "ValueError")])
def test_an_error_is_its_first_line_with_text(fails, monkeypatch, text, line):
    def app(**_):
        raise ValueError(text)

    monkeypatch.setattr(cli, "app", app)
    assert fails() == f"arguide: {line}\n"
