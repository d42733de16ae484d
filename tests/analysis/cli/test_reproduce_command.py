"""The command `arguide reproduce`: what it checks, and how it runs the chapters."""

import os

import pytest

from analysis.experiments import reproduce

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
