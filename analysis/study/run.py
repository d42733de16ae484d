"""Run a study in a folder: its tasks, in processes of their own, then its figures and its report.

A task writes one file when it is finished, so a study that was killed goes on with the tasks that are left.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd

from analysis import report
from analysis.figures.style import save_plot
from analysis.files import run_folder
from analysis.frames import Chapter
from analysis.learning import datasets, learners
from analysis.learning.datasets import Data
from analysis.study import temperature_findings, workers
from analysis.study.guidance_findings import stories
from analysis.study.plan import PROGRAM, Plan, command, model_name, read, trained
from analysis.study.tasks import judged, sampling, training

TITLE = "A study of guidance on learned models"
INTRODUCTION = """
<p>Both wings learn the same data with conditioning dropout: an autoregressive model, and a denoiser where the data are images.
Both are guided with the same scales γ: token by token (sequential) and over the whole sequence (joint, by weighted particles);
by the guided score as it is, and with the weights that make it joint (Feynman–Kac). A classifier that has seen none of the
models says how many samples have the label that was asked for.</p>
"""


def run(plan: Plan, folder: Path, track: Any, jobs: int) -> pd.DataFrame:
    """Run what is left of a study in a folder that `results.claim` has made its own; return all rows."""
    parts = {"training": training(plan), "sampling": sampling(plan)}
    with workers.workers(jobs) as worked:
        for what, tasks in parts.items():
            left = [task for task in tasks if not task.finished(folder)]
            for _ in track(what, worked(left, plan, folder), len(left)):
                pass
            for task in tasks:  # not before its file is there, or a kill between the two would repeat the training
                (folder / "models" / task.name / learners.CHECKPOINT).unlink(missing_ok=True)
    frame = pd.concat([pd.read_parquet(task.path(folder)) for tasks in parts.values() for task in tasks], ignore_index=True)
    return frame.assign(std_error=frame["std_error"].fillna(0.0))


def publish(plan: Plan, folder: Path, track: Any, jobs: int, *, fresh: bool = False) -> tuple[Path, list[Chapter]]:
    """Run a study, and write `results.parquet`, its figures and its report; return the report's path and its chapters."""
    for cached in (read, judged):  # the data may have changed since an earlier study of this process
        cached.cache_clear()
    datasets.check_apart(plan.source, folder)
    rows = read(plan)  # what cannot be read must fail before anything is written or deleted
    if plan.models is not None:
        check_models(plan, rows, folder)
    parts = ("experiments", "figures", "models")
    run_folder.claim(folder, plan.config(), PROGRAM, parts, own=own(), fresh=fresh)
    frame = run(plan, folder, track, jobs)
    chance = pd.DataFrame([{"family": "judge", "quantity": "chance", "value": 1 / len(rows.names), "std_error": 0.0}])
    frame = pd.concat([frame, chance], ignore_index=True)
    told = [*stories(images=plan.images), temperature_findings.story(images=plan.images)]
    chapters = [Chapter(story, frame, False, plan.quick) for story in told]
    mpl.use("agg")
    for chapter in chapters:
        for plot in chapter.experiment.plots:
            save_plot(folder / "figures" / f"{plot.name}.png", plot, frame)
    run_folder.write_frame(folder / "results.parquet", frame)
    page = report.render(folder, chapters, command(plan), TITLE, INTRODUCTION)
    run_folder.write_text(folder / "report.html", page)
    return folder / "report.html", chapters


def check_models(plan: Plan, rows: Data, folder: Path) -> None:
    """Refuse models to load that are none of the study's, that lie in its folder, or that cannot be read.

    Raises:
        ValueError: the same.
    """
    given = {each: place for each in trained(plan) if (place := plan.given(model_name(*each))) is not None}
    run_folder.check_apart(folder, "--models", str(plan.models), *given.values())
    if not given:
        expected = ", ".join(model_name(*each) for each in trained(plan))
        raise ValueError(f"{plan.models} has none of the models of this study; their folders are named {expected}")
    for (kind, _, _), place in given.items():
        learners.load(kind, rows, place)


def own() -> list[str]:
    """Return the names of the files that studies write, whatever their plan."""
    frames = [f"experiments/{name}-*.parquet" for name in (*learners.KINDS, "samples", "temperature")]
    told = [story for images in (True, False) for story in (*stories(images=images), temperature_findings.story(images=images))]
    pictures = [f"figures/{plot.name}.png" for story in told for plot in story.plots]
    models = [f"models/{kind}-*/{name}" for kind in learners.KINDS for name in learners.FILES]
    return [*frames, *dict.fromkeys(pictures), *models, "results.parquet", "report.html"]
