"""The whole argument: every experiment once, picked up where an earlier run stopped, and told as one report."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd

from analysis import report, results
from analysis.experiment import Experiment, Plot, Settings, Track, Verdict
from analysis.experiments import EXPERIMENTS
from analysis.figures import style


class Chapter(NamedTuple):
    """A finished experiment: its frame, and whether it was found on disk."""

    experiment: Experiment
    frame: pd.DataFrame
    found: bool

    @property
    def verdict(self) -> Verdict:
        """The verdict on the frame."""
        return self.experiment.verdict(self.frame)


def config(settings: Settings) -> dict[str, Any]:
    """Return what decides the numbers of a run, ready for JSON."""
    text = str(settings.text.resolve()) if settings.text else None
    return asdict(settings) | {"text": text}


def chapters(folder: Path, settings: Settings, track: Callable[[str], Track]) -> Iterator[Chapter]:
    """Run the experiments in their order and yield each when its frame is on disk.

    Args:
        folder: one that `results.claim` has made this run's.
        track: maps an experiment's title to its progress bar.
    """
    for experiment in EXPERIMENTS:
        path = folder / "experiments" / f"{experiment.name}.parquet"
        found = path.exists()
        if not found:
            frame = experiment.run(settings, track(experiment.title))
            frame.insert(0, "experiment", experiment.name)
            results.write_frame(path, frame)
        yield Chapter(experiment, pd.read_parquet(path), found)


def publish(folder: Path, done: list[Chapter]) -> Path:
    """Write the figures, `results.parquet` and `report.html`; return the report's path."""
    mpl.use("agg")
    for chapter in done:
        for plot in chapter.experiment.plots:
            save_plot(folder / "figures" / f"{plot.name}.png", plot, chapter.frame)
    results.write_frame(folder / "results.parquet", pd.concat([chapter.frame for chapter in done], ignore_index=True))
    results.write_text(folder / "report.html", report.render(folder, done))
    return folder / "report.html"


def save_plot(path: Path, plot: Plot, frame: pd.DataFrame) -> None:
    """Draw a plot and write it as a picture."""
    figure = style.draw(plot, frame)
    results.write(path, partial(figure.savefig, dpi=150))
    plt.close(figure)


def clear(folder: Path) -> None:
    """Delete an earlier run's files from a folder, and nothing else; without `run.json` the folder is no run's."""
    if not (folder / "run.json").exists():
        return
    for name in ("experiments", "figures"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("results.parquet", "report.html", "run.json"):
        (folder / name).unlink(missing_ok=True)
