"""The whole argument: every experiment, resumed from the finished ones of an earlier run, and one report."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import report
from analysis.experiments import EXPERIMENTS
from analysis.experiments.base import Settings
from analysis.files import run_folder
from analysis.frames import Chapter, Track
from analysis.text.loading import Choice


def config(settings: Settings) -> dict[str, Any]:
    """Return the settings that decide the numbers of a run, ready for JSON."""
    text = settings.text
    name = f"{text.name} (sha256 {run_folder.digest(text)})" if text else None
    model = None if settings.model is None else Choice(settings.model).identity()["model"]
    return asdict(settings) | {"text": name, "model": model}


def chapters(folder: Path, settings: Settings, track: Callable[[str], Track]) -> Iterator[Chapter]:
    """Run the experiments in their order and yield each when its frame is on disk.

    Args:
        folder: the folder of this run, see `analysis.files.run_folder.claim`.
        settings: settings of the run.
        track: maps the title of an experiment to a progress bar.
    """
    for experiment in EXPERIMENTS:
        path, part = folder / "experiments" / f"{experiment.name}.parquet", run_folder.part_of(folder, experiment.name)
        frame = run_folder.read_finished(path, part)
        found = frame is not None
        if frame is None:
            frame = experiment.run(settings, track(experiment.title))
            frame.insert(0, "experiment", experiment.name)
            run_folder.write_frame(path, run_folder.marked(frame, part))
        yield Chapter(experiment, frame, found, settings.quick)


def publish(folder: Path, done: list[Chapter]) -> Path:
    """Write the figures, `results.parquet` and `report.html`; return the path of the report."""
    frame = pd.concat([chapter.frame for chapter in done], ignore_index=True)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return report.publish(folder, done, frame, report.command(record["config"]))


def own() -> list[str]:
    """Return the names of the files that a run writes."""
    frames = [f"experiments/{experiment.name}.parquet" for experiment in EXPERIMENTS]
    pictures = [f"figures/{plot.name}.png" for experiment in EXPERIMENTS for plot in experiment.plots]
    return [*frames, *pictures, "results.parquet", "report.html"]
