"""A study from the command line: its results, its continuation after a kill, and its errors."""

import importlib
import json
import signal
import subprocess
import time
from dataclasses import replace

import pandas as pd
import pytest
from coherent_study import study
from command import ARGUIDE

from analysis.cli import display
from analysis.engines import Engine
from analysis.files import run_folder
from analysis.frames import tidy
from analysis.learning import datasets, learners
from analysis.study import plan, task, temperatures
from analysis.study import run as study_run
from analysis.study.findings.conclusion import conclude
from analysis.study.samplers import JOINT, SEQUENTIAL


def test_a_study_repeats_only_lost_tasks(run, names, tmp_path, monkeypatch):
    monkeypatch.setattr(temperatures, "BETAS", (1.0, 2.0))
    small = ("--effort", 0.01, "--scales", "0,2", "--seeds", 2, "--samples", 4)
    options = ("study", "--data", names, "--out", tmp_path / "s", *small, "--jobs", 1)
    code, out, err = run(*options, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert list(told["headline"]) == ["coherent", "question", "trade", "temperature"]
    page = (tmp_path / "s" / "report.html").read_text()
    assert "<script" not in page
    assert "arguide study --data names.csv" in page
    frame = pd.read_parquet(tmp_path / "s" / "results.parquet")
    assert set(frame["family"]) >= {SEQUENTIAL, JOINT, "evaluator"}
    both = frame[frame["quantity"] == "accuracy"].pivot_table(index=["seed", "scale"], columns="family", values="value")
    at_0 = both.xs(0.0, level="scale")
    assert (at_0[JOINT] == at_0[SEQUENTIAL]).all()
    pieces = {path: path.stat().st_mtime_ns for path in (tmp_path / "s" / "experiments").iterdir()}
    lost = sorted(pieces)[0]
    lost.unlink()
    monkeypatch.setattr(study_run.report, "publish", lambda *_, **__: tmp_path / "s" / "report.html")
    assert run(*options, "--json")[0] == 0
    changed = {path for path in pieces if path.stat().st_mtime_ns != pieces[path]}
    assert changed == {lost}
    code, _, err = run(*options[:-2], "--seed", 1)
    assert code == 2
    assert "other settings" in err


def test_a_study_joins_the_rows_of_its_tasks(tmp_path, monkeypatch):
    """A checkpoint that a kill has left behind goes, though its training is not repeated."""
    done = []

    def named(name):
        rows = [{"family": name, "quantity": "accuracy", "value": value} for value in (0.1, 0.2)]
        make = pd.DataFrame if name == "lm-0" else tidy  # losses of a training have no standard error
        return task.Task(name, lambda *_: done.append(name) or make(rows))

    monkeypatch.setattr(study_run, "training", lambda plan: [named("lm-0")])
    monkeypatch.setattr(study_run, "sampling", lambda plan: [named("samples-0-1"), named("samples-0-2")])
    run_folder.claim(tmp_path, {}, plan.PROGRAM, parts=("experiments", "models"))
    checkpoint = tmp_path / "models" / "lm-0" / learners.CHECKPOINT
    checkpoint.parent.mkdir(parents=True)
    for _ in range(2):
        checkpoint.write_text("")
        assert study_run.run(None, tmp_path, lambda title, items, total: items, Engine("here")) == ""
        frame = study_run.frame_of(None, tmp_path)
        assert not checkpoint.exists()
    assert done == ["lm-0", "samples-0-1", "samples-0-2"]
    assert frame["family"].tolist() == [name for name in done for _ in range(2)]
    assert frame["std_error"].tolist() == [0.0] * 6
    assert frame.index.is_unique


def test_a_shard_tells_what_is_left_to_others(tmp_path, monkeypatch):
    """No sampling begins before all trainings are finished."""
    done = []

    def named(*names):
        return [task.Task(name, lambda *_, name=name: done.append(name) or tidy([{"value": 0.5}])) for name in names]

    monkeypatch.setattr(study_run, "training", lambda plan: named("lm-0", "lm-1"))
    monkeypatch.setattr(study_run, "sampling", lambda plan: named("samples-0-1"))
    run_folder.claim(tmp_path, {}, plan.PROGRAM, parts=("experiments", "models"))
    given = None, tmp_path, lambda title, items, total: items, Engine("here")
    assert study_run.run(*given, (1, 2)) == "1 of 2 trainings"
    assert len(done) == 1
    assert study_run.run(*given, (2, 2)) == "1 of 1 samplings"
    assert sorted(done) == ["lm-0", "lm-1"]
    assert study_run.run(*given) == ""


def test_the_report_has_the_conclusion_of_the_study(names, tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(study_run, "run", lambda *_: "")
    monkeypatch.setattr(study_run, "frame_of", lambda *_: study())
    monkeypatch.setattr(study_run.report, "publish", lambda *_, **more: given.update(more) or tmp_path)
    asked = plan.Plan(datasets.Source(str(names), "text"), False)
    _, chapters = study_run.publish(asked, tmp_path / "s", None, Engine("here"))
    assert given["conclusion"] == conclude(chapters)
    assert "differ at every γ above 1" in given["conclusion"][0]
    other = replace(asked, seed=1), tmp_path / "s", None, Engine("here")
    with pytest.raises(ValueError, match="other settings"):
        study_run.publish(*other)
    assert study_run.publish(*other, fresh=True)[0] == tmp_path


def test_equal_rows_are_refused_before_training(fails, tmp_path):
    cells = {"text": ["one", "two"] * 12, "image": [[[i % 2] * 3] * 3 for i in range(24)], "label": ["a", "b"] * 12}
    pd.DataFrame(cells).to_parquet(tmp_path / "alike.parquet")
    for column in ("text", "image"):
        options = ("study", "--data", tmp_path / "alike.parquet", f"--{column}-column", column, "--jobs", 1)
        said = fails(*options, "--effort", 1e-9, "--out", tmp_path / "s")
        assert "must have different rows within a label, got equal ones in all 4 held-out rows" in said
    assert not (tmp_path / "s").exists()


def test_a_repeated_scale_is_sampled_once(run, names, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(study_run, "publish", lambda plan, *_, **__: seen.append(plan.scales) or (tmp_path, []))
    for scales in ("1.5,1.5", "2,1.5,1.50000001,0,-0,2"):
        code, _, err = run("study", "--data", names, "--scales", scales, "--json")
        assert code == 0, err
    assert seen == [(1.5,), (2.0, 1.5, 0.0)]


@pytest.mark.slow
def test_a_killed_study_continues_to_the_same_results(run, names, tmp_path):
    small = ("--effort", "0.02", "--scales", "0,1.5", "--seeds", "2", "--samples", "3", "--jobs", "1")
    options = ["study", "--data", str(names), *small]
    command = [ARGUIDE, *options, "--out", str(tmp_path / "s")]
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


@pytest.mark.slow
def test_a_training_killed_before_its_file_continues(run, names, tmp_path, monkeypatch):
    small = ("--effort", 0.1, "--scales", "0,2", "--seeds", 2, "--samples", 3, "--jobs", 1)
    options = ("study", "--data", names, "--out", tmp_path / "s", *small)
    write, fit, steps = run_folder.write_frame, learners.fit, []

    def killed(path, frame):
        if path.name == "lm-0.parquet":
            raise KeyboardInterrupt
        write(path, frame)

    def counted(*given, **more):
        def track(left):
            steps.append(len(left))
            return left

        return fit(*given, **more | {"every": 20, "track": track})

    monkeypatch.setattr(learners, "fit", counted)
    monkeypatch.setattr(run_folder, "write_frame", killed)
    assert run(*options)[0] == 130
    monkeypatch.setattr(run_folder, "write_frame", write)
    assert run(*options)[0] == 0
    whole = steps[0]
    weak = round(plan.WEAKNESS * whole)
    assert steps == [whole, whole - (whole - 1) // 20 * 20, weak, whole, weak]
    assert not list((tmp_path / "s").rglob("checkpoint.pt"))


@pytest.mark.slow
def test_a_killed_process_fails_in_one_line(fails, names, tmp_path, monkeypatch):
    code = "import os, signal\ndef die(plan, folder): os.kill(os.getpid(), signal.SIGKILL)\n"
    (tmp_path / "dying.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)  # which processes of ours take over
    die = importlib.import_module("dying").die
    monkeypatch.setattr(study_run, "training", lambda plan: [task.Task("lm-0", die)])
    monkeypatch.setattr(display, "bar", lambda what: lambda items, total: items)
    said = fails("study", "--data", names, "--out", tmp_path / "s", "--seeds", 2, "--jobs", 2)
    assert "a process was killed" in said
    assert "the same command resumes" in said


@pytest.mark.slow
def test_a_study_takes_awkward_texts(run, tmp_path):
    texts = ["good 🙂", 'so "bad", $5 & $6', "שלום עולם", "<end>", "two\nlines", "y" * 300, "日本語", "étude"] * 12
    pd.DataFrame({"text": texts, "label": [0, 1] * 48}).to_json(tmp_path / "odd.jsonl", orient="records", lines=True)
    small = ("--effort", 0.01, "--scales", "0,1.5", "--seeds", 2, "--samples", 3, "--jobs", 1)
    code, _, err = run("study", "--data", tmp_path / "odd.jsonl", "--out", tmp_path / "s", *small, "--json")
    assert code == 0, err
    assert "arning" not in err
