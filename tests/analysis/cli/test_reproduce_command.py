"""The command `arguide reproduce`: what it checks, and how it runs the chapters."""

import os

import pytest

from analysis.experiments import reproduce
from analysis.experiments.base import Settings

COMMAND = ("reproduce",)


@pytest.mark.parametrize(
    ("options", "cores", "jobs"),
    [((), 64, 8), ((), 3, 3), ((), None, 1), (("--jobs", 12), 64, 12)],
)
def test_every_core_up_to_eight_has_a_process(fails, monkeypatch, tmp_path, options, cores, jobs):
    def chapters(out, settings, track, engine):
        raise ValueError(f"{engine.jobs} processes")

    monkeypatch.setattr(reproduce, "chapters", chapters)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert fails("--quick", "--out", tmp_path / "out", *options) == f"arguide: {jobs} processes\n"


@pytest.fixture
def text(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "texts.tsv").write_text("a\tone\nb\ttwo\n")
    return tmp_path / "out" / "texts.tsv"


def test_a_text_in_the_folder_of_the_output_is_refused(fails, text):
    err = fails("--quick", "--text", text, "--out", text.parent)
    assert "--text" in err
    assert "choose another --out" in err


def test_every_option_reaches_the_chapters(run, monkeypatch, model, text, tmp_path):
    seen = []
    monkeypatch.setattr(reproduce, "chapters", lambda out, settings, *_: seen.append((out, settings)) or ())
    monkeypatch.setattr(reproduce, "publish", lambda *_: tmp_path)
    assert run("--quick", "--text", text, "--model", model, "--seed", 3, "--out", tmp_path / "new")[0] == 0
    assert seen == [(tmp_path / "new", Settings(quick=True, seed=3, device="cpu", text=text, model=str(model)))]
