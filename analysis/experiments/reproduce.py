"""The whole argument: every experiment, resumed from the finished ones of an earlier run, and one report."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import engines, report
from analysis.engines import Engine
from analysis.experiments import EXPERIMENTS
from analysis.experiments.base import Experiment, Settings
from analysis.experiments.conclusion import conclude
from analysis.files import run_folder
from analysis.frames import Chapter, Track
from analysis.text import loading

HERE = Engine("here")
LONGEST = ("families", "text")  # these chapters start first, so that no core waits for one at the end


def config(settings: Settings) -> dict[str, Any]:
    """Return the settings that decide the numbers of a run, ready for JSON."""
    text = settings.text
    name = f"{text.name} (sha256 {run_folder.digest(text)})" if text else None
    model = None if settings.model is None else loading.Choice(settings.model).identity()["model"]
    return asdict(settings) | {"text": name, "model": model}


def chapters(folder: Path, settings: Settings, track: Callable[[str], Track], engine: Engine = HERE) -> Iterator[Chapter]:
    """Run the experiments and yield each, in their order, when its frame is on disk.

    Args:
        folder: the folder of this run, see `analysis.files.run_folder.claim`.
        settings: settings of the run.
        track: maps the title of an experiment to a progress bar.
        engine: the way to run them; all unfinished experiments run before the first one is yielded, unless it is this process.
    """
    found = {experiment.name: _finished(folder, experiment.name) is not None for experiment in EXPERIMENTS}
    if not engine.here:
        run_left(folder, settings, track, engine)
    for experiment in EXPERIMENTS:
        frame = _finished(folder, experiment.name)
        if frame is None:
            frame = _run(folder, settings, experiment, track(experiment.title))
        yield Chapter(experiment, frame, found[experiment.name], settings.quick)


def run_left(
    folder: Path, settings: Settings, track: Callable[[str], Track], engine: Engine, shard: tuple[int, int] | None = None
) -> int:
    """Run the unfinished experiments of a shard, and return how many are unfinished in all.

    Args:
        folder: as in `chapters`.
        settings: of the run.
        track: as in `chapters`.
        engine: the way to run them.
        shard: (i, n) for part i of n, None for all.
    """
    names = [experiment.name for experiment in EXPERIMENTS]
    left = [name for name in engines.share(names, shard) if _finished(folder, name) is None]
    left.sort(key=lambda name: name not in LONGEST)
    if left:
        with engines.engine(*engine._replace(jobs=min(engine.jobs, len(left)))) as run:
            done = run([partial(_alone, folder, settings, name) for name in left])
            for _ in zip(track("Chapters")(range(len(left))), done, strict=True):
                pass
    return sum(_finished(folder, name) is None for name in names)


def _finished(folder: Path, name: str) -> pd.DataFrame | None:
    """Return the frame of an experiment that this run has finished."""
    return run_folder.read_finished(folder / "experiments" / f"{name}.parquet", run_folder.part_of(folder, name))


def _run(folder: Path, settings: Settings, experiment: Experiment, track: Track) -> pd.DataFrame:
    """Run an experiment, and write its frame."""
    with loading.quiet_thread():
        frame = experiment.run(settings, track)
    frame.insert(0, "experiment", experiment.name)
    path = folder / "experiments" / f"{experiment.name}.parquet"
    run_folder.write_frame(path, run_folder.marked(frame, run_folder.part_of(folder, experiment.name)))
    return frame


def _alone(folder: Path, settings: Settings, name: str) -> None:
    """Run the experiment of a name, without a progress bar."""
    _run(folder, settings, next(each for each in EXPERIMENTS if each.name == name), lambda items: items)


def publish(folder: Path, done: list[Chapter]) -> Path:
    """Write the figures, `results.parquet` and `report.html`; return the path of the report."""
    frame = pd.concat([chapter.frame for chapter in done], ignore_index=True)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return report.publish(folder, done, frame, report.command(record["config"]), conclusion=conclude(done))


def own() -> list[str]:
    """Return the names of the files that a run writes."""
    frames = [f"experiments/{experiment.name}.parquet" for experiment in EXPERIMENTS]
    pictures = [f"figures/{plot.name}.png" for experiment in EXPERIMENTS for plot in experiment.plots]
    return [*frames, *pictures, "results.parquet", "explore.html", "report.html"]
