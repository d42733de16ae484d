"""Run a study in a folder: its tasks, in processes of their own, then its figures and its report.

A finished task leaves one file, so a study that was killed continues with the unfinished tasks, and several machines can share
them: each shard does a part of the trainings, then of the samplings; at the end the plain command writes the report.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import engines, report
from analysis.engines import Engine
from analysis.files import run_folder
from analysis.frames import Chapter
from analysis.learning import datasets, learners
from analysis.learning.datasets import Data
from analysis.study.chapters import stories
from analysis.study.findings.conclusion import conclude
from analysis.study.plan import PROGRAM, Plan, about, command, model_name, read, trained
from analysis.study.tasks import evaluator, sampling, training

OPENING = (
    "A study of guidance on learned models",
    f"""
<p>A test of Sander Dieleman’s post {report.POST} (2022) on models that are trained here. An autoregressive model, and a
denoiser where the data are images, learn the same data with conditioning dropout. Both are guided with the same scales γ:
token by token (sequential) and over the whole sequence (joint, by weighted particles); by the guided score alone, and with the
weights that make its law joint (Feynman–Kac). A classifier that is independent of the models measures how many samples have the
requested label. Words are explained in the <a href="#glossary">glossary</a>.</p>
""",
)


def run(plan: Plan, folder: Path, track: Any, engine: Engine, shard: tuple[int, int] | None = None) -> str:
    """Run the unfinished tasks that can run now, and return those that are left to other shards, "" for none.

    Args:
        plan: of the study.
        folder: one that `run_folder.claim` has given to this study.
        track: (title, items, number of items) ↦ the items, for a progress bar.
        engine: the way to run the tasks.
        shard: (i, n) to do part i of n, None to do all.
    """
    with engines.engine(*engine) as work:
        for title, tasks in (("training", training(plan)), ("sampling", sampling(plan))):
            own = engines.share(tasks, shard)
            left = [task for task in own if not task.finished(folder)]
            for _ in track(title, work([partial(task.work, plan, folder) for task in left]), len(left)):
                pass
            for task in own:  # only once its file is there: a kill between the two would repeat the training
                (folder / "models" / task.name / learners.CHECKPOINT).unlink(missing_ok=True)
            if shard is not None and (open_ := sum(not task.finished(folder) for task in tasks)):
                return f"{open_} of {len(tasks)} {title}s"
    return ""


def frame_of(plan: Plan, folder: Path) -> pd.DataFrame:
    """Return the rows of all tasks, which are finished."""
    tasks = [*training(plan), *sampling(plan)]
    frame = pd.concat([pd.read_parquet(task.path(folder)) for task in tasks], ignore_index=True)
    return frame.assign(std_error=frame["std_error"].fillna(0.0))


def prepare(plan: Plan, folder: Path, *, fresh: bool = False, shared: bool = False) -> Data:
    """Check the data and the models of a study, claim its folder, and return the data.

    Args:
        plan: of the study.
        folder: of the results.
        fresh: whether to delete an earlier study in the folder first.
        shared: whether other processes may work in the folder, whose temporary files must stay.

    Raises:
        ValueError: the data or models cannot be read or do not fit, or the folder cannot be written or holds other files.
    """
    for cached in (read, evaluator):  # the data may have changed since an earlier study of this process
        cached.cache_clear()
    datasets.check_apart(plan.source, folder)
    rows = read(plan)  # unreadable data must fail before any file is written or deleted
    if plan.models is not None:
        check_models(plan, rows, folder)
    parts = ("experiments", "figures", "models")
    run_folder.claim(folder, plan.config(), PROGRAM, parts, own=own(), fresh=fresh, shared=shared)
    return rows


def publish(plan: Plan, folder: Path, track: Any, engine: Engine, *, fresh: bool = False) -> tuple[Path, list[Chapter]]:
    """Run a study, and write its figures, `results.parquet` and its report; return the path of the report and the chapters.

    Args:
        plan: of the study.
        folder: of the results.
        track: as in `run`.
        engine: the way to run the tasks.
        fresh: whether to delete an earlier study in the folder first.

    Raises:
        ValueError: as `prepare`, or an engine that does not work.
    """
    rows = prepare(plan, folder, fresh=fresh)
    run(plan, folder, track, engine)
    chance = pd.DataFrame([{"family": "evaluator", "quantity": "chance", "value": 1 / len(rows.names), "std_error": 0.0}])
    frame = pd.concat([frame_of(plan, folder), chance], ignore_index=True)
    chapters = [Chapter(story, frame, False, plan.quick) for story in stories(images=plan.images, about=about(plan))]
    made_by, found = command(plan), conclude(chapters)
    return report.publish(folder, chapters, frame, made_by, opening=OPENING, conclusion=found), chapters


def check_models(plan: Plan, rows: Data, folder: Path) -> None:
    """Check the models that a study loads.

    Args:
        plan: of the study.
        rows: the data.
        folder: of the results.

    Raises:
        ValueError: no model has a name of the study's, or one lies in the folder of the results or cannot be read.
    """
    given = {each: place for each in trained(plan) if (place := plan.given(model_name(*each))) is not None}
    run_folder.check_apart(folder, "--models", str(plan.models), *given.values())
    if not given:
        expected = ", ".join(model_name(*each) for each in trained(plan))
        raise ValueError(f"{plan.models} has none of the models of this study; its folders must be named {expected}")
    for (kind, _, _), place in given.items():
        learners.load(kind, rows, place)


def own() -> list[str]:
    """Return the names of the files that a study writes, whatever its plan."""
    frames = [
        f"experiments/{name}-*.parquet" for name in (*learners.KINDS, "samples", "accepted", "incoherence", "temperature")
    ]
    plots = [plot for images in (True, False) for story in stories(images=images, about="") for plot in story.plots]
    pictures = dict.fromkeys(f"figures/{plot.name}.png" for plot in plots)
    models = [f"models/{kind}-*/{name}" for kind in learners.KINDS for name in learners.FILES]
    return [*frames, *pictures, *models, "results.parquet", "explore.html", "report.html"]
