"""The whole argument: every experiment once, picked up where an earlier run stopped, and told as one report."""

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd

from analysis import report, results
from analysis.experiment import Chapter, Plot, Settings, Track
from analysis.experiments import EXPERIMENTS
from analysis.figures import style
from analysis.loading import Choice


def config(settings: Settings) -> dict[str, Any]:
    """Return what decides the numbers of a run, ready for JSON."""
    text = settings.text
    name = f"{text.name} (sha256 {results.digest(text)})" if text else None
    model = None if settings.model is None else str(Choice(settings.model).identity()["model"])
    if model is not None and Path(str(settings.model)).is_dir():
        model = Path(model).name
    return asdict(settings) | {"text": name, "model": model}


def chapters(folder: Path, settings: Settings, track: Callable[[str], Track]) -> Iterator[Chapter]:
    """Run the experiments in their order and yield each when its frame is on disk.

    Args:
        folder: one that `results.claim` has made this run's.
        track: maps an experiment's title to its progress bar.
    """
    for experiment in EXPERIMENTS:
        path = folder / "experiments" / f"{experiment.name}.parquet"
        frame = _finished(path)
        found = frame is not None
        if frame is None:
            frame = experiment.run(settings, track(experiment.title))
            frame.insert(0, "experiment", experiment.name)
            results.write_frame(path, frame)
        yield Chapter(experiment, frame, found, settings.quick)


def _finished(path: Path) -> pd.DataFrame | None:
    """Return a frame that an earlier run has finished, None where there is none that can be read."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError):
        return None


def publish(folder: Path, done: list[Chapter]) -> Path:
    """Write the figures, `results.parquet` and `report.html`; return the report's path."""
    mpl.use("agg")
    for chapter in done:
        for plot in chapter.experiment.plots:
            save_plot(folder / "figures" / f"{plot.name}.png", plot, chapter.frame)
    results.write_frame(folder / "results.parquet", pd.concat([chapter.frame for chapter in done], ignore_index=True))
    made_by = report.command(json.loads((folder / "run.json").read_text(encoding="utf-8"))["config"])
    results.write_text(folder / "report.html", report.render(folder, done, made_by))
    return folder / "report.html"


def save_plot(path: Path, plot: Plot, frame: pd.DataFrame) -> None:
    """Draw a plot and write it as a picture."""
    figure = style.draw(plot, frame)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # that the font lacks: texts may hold any
        results.write(path, partial(figure.savefig, dpi=150, bbox_inches="tight", pad_inches=0.05))
    plt.close(figure)


def clear(folder: Path) -> None:
    """Delete what a run of ours has written to a folder, and nothing else."""
    if results.read_record(folder) is None:
        return
    frames = [folder / "experiments" / f"{experiment.name}.parquet" for experiment in EXPERIMENTS]
    pictures = [folder / "figures" / f"{plot.name}.png" for experiment in EXPERIMENTS for plot in experiment.plots]
    for path in (*frames, *pictures, *(folder / name for name in ("results.parquet", "report.html", "run.json"))):
        path.unlink(missing_ok=True)
    for part in ("experiments", "figures"):
        if (folder / part).is_dir() and not any((folder / part).iterdir()):
            (folder / part).rmdir()
