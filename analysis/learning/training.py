"""One training in a folder of its own: what `arguide train` runs, picks up after a kill, and leaves behind.

The folder holds `run.json` (settings and versions), `checkpoint.pt` while it runs, and in the end the model with its card,
`losses.parquet`, `loss.png` and `result.json`.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from analysis import limits
from analysis.figures import study as figures
from analysis.figures.style import save_plot
from analysis.files import run_folder
from analysis.learning import datasets, learners
from analysis.learning.datasets import Source
from analysis.learning.label_models import Causal
from analysis.learning.learners import Size
from analysis.text.loading import Choice
from arguide.training import Recipe

PROGRAM = "arguide train"
LOSSES, RESULT = "losses.parquet", "result.json"
OWN = (RESULT, *learners.FILES, LOSSES, "loss.png")  # without its result a training that is half deleted is not finished


@dataclass(frozen=True)
class Job:
    """What to train: a kind of `learners.KINDS`, on a source, by a recipe.

    noised: whether a classifier sees noise.
    init: a model to go on from, in the place of a new one of a `size`.

    Raises:
        ValueError: dropout for a classifier, which tells labels and is given none.
    """

    kind: str
    source: Source
    recipe: Recipe
    size: Size
    seed: int = 0
    noised: bool = True
    init: str | None = None

    def __post_init__(self) -> None:
        if self.kind == "classifier" and self.recipe.dropout:
            raise ValueError("a classifier is given no labels that could be dropped; leave out --dropout")

    def config(self) -> dict[str, Any]:
        """Return what decides the result, ready for JSON."""
        init = None if self.init is None else Choice(self.init).identity()["model"]
        return asdict(self) | {"source": datasets.identity(self.source), "init": init}

    def begin(self, rows: datasets.Data) -> Any:
        """Return the learner, untrained."""
        if self.init is not None:
            return learners.begun(self.kind, rows, self.init)
        return learners.new(self.kind, rows, self.size, seed=self.seed, noised=self.noised)


def read(kind: str, source: Source, seed: int) -> datasets.Data:
    """Return what a kind learns from; once a process and content of the source."""
    return _read(kind, source, seed, json.dumps(datasets.identity(source)))


@cache
def _read(kind: str, source: Source, seed: int, identity: str) -> datasets.Data:
    del identity  # which makes other contents another reading
    return (datasets.read_texts if kind == "lm" else datasets.read_images)(source, seed=seed)


def run(
    job: Job, folder: Path, track: Callable[[range], Any], *, device: torch.device | str = "cpu", fresh: bool = False
) -> dict[str, Any]:
    """Train, or go on with a training that was killed, or tell of one that is finished.

    Returns:
        What is told of the model: parameters, labels, training and held-out losses.

    Raises:
        ValueError: data that do not fit, a folder of something else, one that holds the data or the model to go on from or lies
            among the data, a checkpoint that cannot be read.
    """
    if job.init is not None:
        run_folder.check_apart(folder, "--init", job.init)
    datasets.check_apart(job.source, folder)
    rows = read(job.kind, job.source, job.seed)
    limits.check_memory(f"--batch-size {job.recipe.batch:.3g}", job.recipe.batch * max(_numbers(rows), job.size.width))
    learner = job.begin(rows)
    run_folder.claim(folder, job.config(), PROGRAM, parts=(), own=OWN, fresh=fresh)
    if (folder / RESULT).exists():
        return _finished(folder)
    checkpoint = folder / learners.CHECKPOINT
    losses = learners.train(learner, rows, job.recipe, seed=job.seed, device=device, checkpoint=checkpoint, track=track)
    told = _told(job, learner, losses, rows)
    learners.save(learner, folder, learners.card(job.kind, job.source, rows, job.recipe, told, noised=job.noised))
    _publish(folder, losses, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    checkpoint.unlink(missing_ok=True)
    return told


def _publish(folder: Path, losses: list[float], told: str) -> None:
    """Write the losses with the digests of the model and of its result, and last the result."""
    frame = pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses})
    save_plot(folder / "loss.png", figures.LOSS, frame)
    files = run_folder.digests(folder, learners.files_of(folder)) | {RESULT: run_folder.digest(told.encode())}
    run_folder.write_frame(folder / LOSSES, run_folder.marked(frame, run_folder.part_of(folder, LOSSES), files))
    run_folder.write_text(folder / RESULT, told)


def _finished(folder: Path) -> dict[str, Any]:
    """Return the result of a finished training.

    Raises:
        ValueError: its files are not what its training has left.
    """
    frame = run_folder.read_marked(folder / LOSSES, run_folder.part_of(folder, LOSSES))
    changed = LOSSES if frame is None else run_folder.damaged(folder, frame)
    if changed is not None:
        raise ValueError(f"{folder / changed} is damaged, or was changed after the training; --fresh trains again")
    told: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))  # whole, for its digest is right
    return told


def _numbers(rows: datasets.Data) -> int:
    """Return how many numbers a row has; one at least."""
    return rows.rows[0].numel() if isinstance(rows.rows, torch.Tensor) else 1


def _told(job: Job, learner: Any, losses: list[float], rows: datasets.Data) -> dict[str, Any]:
    model = learner.model if isinstance(learner, Causal) else learner
    tail = losses[-max(1, len(losses) // 20) :]
    told: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "labels": ", ".join(rows.names),
        "rows": len(rows.labels),
        "held-out rows": len(rows.held_labels),
        "training loss": round(sum(tail) / len(tail), 4),
    }
    unit = ", nats a sequence" if isinstance(learner, Causal) else ""
    for name, labelled in (("held-out loss", True), ("held-out loss without labels", False)):
        if labelled or job.kind != "classifier":
            value, error = learners.held_loss(learner, rows, labelled=labelled)
            told[f"{name}{unit}"] = f"{value:.3f} ± {error:.3f}"
    return told
