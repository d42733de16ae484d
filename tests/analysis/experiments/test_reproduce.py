import dataclasses
import json
import multiprocessing
import re

import numpy as np
import pandas as pd
import pytest
import torch
from readable import check_figure, check_table

from analysis import engines, report
from analysis.engines import Engine
from analysis.experiments import EXPERIMENTS, reproduce
from analysis.experiments.base import Experiment, Settings
from analysis.figures import pictures, style
from analysis.files import run_folder
from analysis.frames import Chapter, Plot, Verdict, tidy

TWO = Engine("processes", 2)
DECISIVE = ("scale_factors", "classifier")
LONG = {"families", "temperature", "correction", "coherent", "langevin", "causes", "text", "real_data", "classifier"}


def panel(frame, ax):
    ax.plot(frame["scale"], frame["value"])
    return ax


def experiment(name, runs, *, interrupt=False, title="A title"):
    def run(settings, track):
        runs.append(name)
        if interrupt and runs.count(name) == 1:
            raise KeyboardInterrupt
        return tidy({"quantity": "q", "scale": float(i), "value": i} for i in track(range(3)))

    return Experiment(
        name=name,
        title=title,
        claim="“claim”",
        run=run,
        verdict=lambda frame: Verdict("m", "1", "v"),
        plots=(Plot(f"{name}_plot", (panel,), "A caption"),),
    )


def bar(title):
    return lambda items: items


def test_an_interrupted_run_is_resumed(tmp_path, monkeypatch):
    runs = []
    monkeypatch.setattr(reproduce, "EXPERIMENTS", (experiment("one", runs), experiment("two", runs, interrupt=True)))
    settings = Settings()
    run_folder.claim(tmp_path / "out", reproduce.config(settings))
    with pytest.raises(KeyboardInterrupt):
        list(reproduce.chapters(tmp_path / "out", settings, bar))
    assert [path.name for path in (tmp_path / "out/experiments").iterdir()] == ["one.parquet"]
    run_folder.claim(tmp_path / "out", reproduce.config(settings))
    done = list(reproduce.chapters(tmp_path / "out", settings, bar))
    assert runs == ["one", "two", "two"]
    assert [chapter.found for chapter in done] == [True, False]
    page = reproduce.publish(tmp_path / "out", done)
    assert page.exists()
    assert list(pd.read_parquet(tmp_path / "out/results.parquet")["experiment"].unique()) == ["one", "two"]


@pytest.mark.slow
def test_chapters_of_several_processes_are_the_same_to_the_bit(tmp_path, monkeypatch):
    """Two short chapters; a third one is found on disk and does not run again."""
    some = tuple(each for each in EXPERIMENTS if each.name in ("scale_factors", "fidelity"))
    monkeypatch.setattr(reproduce, "EXPERIMENTS", some)
    settings, frames, bars = Settings(quick=True), {}, []
    for jobs in (1, 2):
        folder = tmp_path / str(jobs)
        run_folder.claim(folder, reproduce.config(settings))
        done = list(reproduce.chapters(folder, settings, lambda title: bars.append(title) or list, Engine("processes", jobs)))
        assert [chapter.found for chapter in done] == [False, False]
        frames[jobs] = [chapter.frame for chapter in done]
    for one, two in zip(frames[1], frames[2], strict=True):
        pd.testing.assert_frame_equal(one.reset_index(drop=True), two.reset_index(drop=True), check_exact=True)
    assert bars == [*(each.title for each in some), "Chapters"]
    assert [chapter.found for chapter in reproduce.chapters(folder, settings, bar, TWO)] == [True, True]


@pytest.mark.slow
def test_an_error_in_a_process_is_raised_and_nothing_is_left_running(tmp_path, monkeypatch):
    """The chapter beside it takes much longer."""
    some = tuple(each for each in EXPERIMENTS if each.name in ("whole_texts", "families"))
    monkeypatch.setattr(reproduce, "EXPERIMENTS", some)
    settings = Settings(text=tmp_path / "missing.csv", quick=True)
    run_folder.claim(tmp_path / "out", {})
    with pytest.raises(ValueError, match="missing"):
        list(reproduce.chapters(tmp_path / "out", settings, bar, TWO))
    assert multiprocessing.active_children() == []


def test_an_error_of_a_chapter_in_another_process_is_not_tried_again(tmp_path, monkeypatch):
    runs = []
    monkeypatch.setattr(reproduce, "EXPERIMENTS", (experiment("one", runs), experiment("two", runs)))
    monkeypatch.setattr(engines, "_pool", lambda jobs: engines._in_turn())

    def alone(folder, settings, name):
        raise ValueError(f"{name} failed")

    monkeypatch.setattr(reproduce, "_alone", alone)
    run_folder.claim(tmp_path / "out", {})
    with pytest.raises(ValueError, match="failed"):
        list(reproduce.chapters(tmp_path / "out", Settings(), bar, TWO))
    assert runs == []


def test_a_chapter_in_a_process_of_its_own_is_silent_and_on_one_thread(tmp_path, monkeypatch):
    seen, threads = [], torch.get_num_threads()

    def run(settings, track):
        seen.append((torch.get_num_threads(), list(track(range(2)))))
        return tidy([{"quantity": "q", "value": 1.0}])

    monkeypatch.setattr(reproduce, "EXPERIMENTS", (dataclasses.replace(experiment("one", []), run=run),))
    monkeypatch.setattr(reproduce.loading, "silence", lambda: seen.append("silent"))
    run_folder.claim(tmp_path / "out", {})
    torch.set_num_threads(2)
    try:
        reproduce._alone(tmp_path / "out", Settings(), "one")
    finally:
        torch.set_num_threads(threads)
    assert seen == ["silent", (1, [0, 1])]
    assert [chapter.found for chapter in reproduce.chapters(tmp_path / "out", Settings(), bar)] == [True]


def test_a_report_is_self_contained_and_escaped(tmp_path, monkeypatch):
    runs = []
    monkeypatch.setattr(reproduce, "EXPERIMENTS", (experiment("one", runs, title="A <b> & title"),))
    hostile = tmp_path / "<script>alert(1)<_script>.csv"
    hostile.write_text("")
    settings = Settings(text=hostile)
    run_folder.claim(tmp_path / "out", reproduce.config(settings))
    page = reproduce.publish(tmp_path / "out", list(reproduce.chapters(tmp_path / "out", settings, bar))).read_text()
    assert "<script" not in page
    assert "A &lt;b&gt; &amp; title" in page
    assert set(re.findall(r'(?:src|href)="(?!data:|#)([^"]*)', page)) == {report.SOURCE, "explore.html"}
    assert (tmp_path / "out" / "explore.html").is_file()


def test_a_folder_of_another_run_or_of_other_files_is_refused(tmp_path):
    run_folder.claim(tmp_path / "out", reproduce.config(Settings(seed=1)))
    run_folder.claim(tmp_path / "out", reproduce.config(Settings(seed=1)))
    with pytest.raises(ValueError, match="seed 1 → 2"):
        run_folder.claim(tmp_path / "out", reproduce.config(Settings(seed=2)))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("precious")
    for fresh in (False, True):
        with pytest.raises(ValueError, match="not empty"):
            run_folder.claim(tmp_path / "mine", {}, own=reproduce.own(), fresh=fresh)
    assert (tmp_path / "mine/thesis.tex").read_text() == "precious"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write"):
        run_folder.claim(tmp_path / "file" / "out", {})


def test_a_fresh_run_deletes_a_runs_files_and_nothing_else(tmp_path):
    run_folder.claim(tmp_path, {"seed": 0})
    (tmp_path / f"experiments/{EXPERIMENTS[0].name}.parquet").write_text("")
    (tmp_path / "figures/mine.png").write_text("kept")
    (tmp_path / "notes.txt").write_text("kept")
    run_folder.claim(tmp_path, {"seed": 1}, parts=(), own=reproduce.own(), fresh=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["figures", "mine.png", "notes.txt", "run.json"]
    assert run_folder.read_record(tmp_path)["config"] == {"seed": 1}


def test_a_run_json_of_another_program_is_refused(tmp_path):
    (tmp_path / "run.json").write_text("[]")
    (tmp_path / "report.html").write_text("theirs")
    with pytest.raises(ValueError, match="not empty"):
        run_folder.claim(tmp_path, {}, own=reproduce.own(), fresh=True)
    assert (tmp_path / "report.html").read_text() == "theirs"


def test_a_changed_text_is_another_run(tmp_path):
    text = tmp_path / "a.tsv"
    text.write_text("x\tone")
    before = reproduce.config(Settings(text=text))
    text.write_text("x\ttwo")
    assert reproduce.config(Settings(text=text)) != before
    assert str(tmp_path) not in str(before)


def test_an_unreadable_frame_is_computed_again(tmp_path, monkeypatch):
    runs = []
    monkeypatch.setattr(reproduce, "EXPERIMENTS", (experiment("one", runs),))
    run_folder.claim(tmp_path / "out", {})
    (tmp_path / "out/experiments/one.parquet").write_text("torn")
    assert len(next(reproduce.chapters(tmp_path / "out", Settings(), bar)).frame) == 3
    assert runs == ["one"]


@pytest.mark.slow
def test_decisive_numbers_agree_with_the_argument():
    frames = {e.name: e.run(Settings(quick=True, seed=1), lambda items: items) for e in EXPERIMENTS if e.name in DECISIVE}
    factors = frames["scale_factors"]
    assert factors[factors["quantity"] == "identity_error"]["value"].max() < 1e-10
    tv = factors[(factors["quantity"] == "tv") & (factors["scale"] > 1)].groupby("law")["value"].max()
    assert tv["coupled"] > 0.1
    assert tv.drop("coupled").max() < 1e-12
    classifier = frames["classifier"]
    mean = classifier[(classifier["quantity"] == "mean") & (classifier["scale"] == 2.0)].set_index("family")["value"]
    assert abs(mean["noise-aware classifier"] - mean["classifier-free"]) < 1e-9
    spread = classifier[(classifier["quantity"] == "variance") & (classifier["scale"] == 2.0)].set_index("family")["value"]
    assert spread["classifier of clean data"] < 0.5 * spread["classifier-free"]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    run_folder.write_text(tmp_path / "a.txt", "old")

    def broken(path):
        path.write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        run_folder.write(tmp_path / "a.txt", broken)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(each, id=each.name, marks=pytest.mark.slow if each.name in LONG else ()) for each in EXPERIMENTS],
)
def test_an_experiment_gives_frame_verdict_and_figures(experiment, tmp_path):
    frame = experiment.run(Settings(quick=True), lambda items: items)
    assert {"law", "family", "quantity", "value", "std_error"} <= set(frame)
    assert frame[["family", "quantity", "std_error"]].notna().all(axis=None)
    assert (frame["std_error"] >= 0).all()
    run_folder.write_frame(tmp_path / "frame.parquet", frame)
    stored = pd.read_parquet(tmp_path / "frame.parquet")
    assert experiment.verdict(stored) == experiment.verdict(frame)
    assert all(experiment.verdict(frame))
    assert Chapter(experiment, stored, True).source
    for grid in experiment.tables:
        check_table(*grid.filled(stored))
    for plot in experiment.plots:
        check_figure(style.draw(plot, stored))
        first, second = (drawn(tmp_path / f"{plot.name}.png", plot, stored, seed) for seed in (1, 2))
        assert len(first) > 10_000
        assert first == second, plot.name


def drawn(path, plot, frame, seed):
    """Return the bytes of a figure, which must not depend on random numbers of the process."""
    np.random.seed(seed)  # noqa: NPY002
    pictures.save_plot(path, plot, frame)
    return path.read_bytes()


def test_the_record_of_a_run_names_its_settings_and_versions(tmp_path):
    run_folder.claim(tmp_path, reproduce.config(Settings(seed=3)))
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["config"]["seed"] == 3
    assert {"torch", "transformers", "numpy", "arguide", "python"} <= set(record["versions"])
