"""Run one training in its own folder: what `arguide train` does, continues after a kill, and leaves.

The folder holds `run.json` (settings and versions), `checkpoint.pt` during the training, and finally the model with its card,
`losses.parquet`, `loss.png` and `result.json`.
"""

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from analysis import limits
from analysis.figures import study as figures
from analysis.figures.pictures import save_plot
from analysis.files import run_folder
from analysis.frames import Track
from analysis.learning import datasets, learners
from analysis.learning.datasets import Source
from analysis.learning.label_models import Causal
from analysis.learning.learners import Size
from analysis.text.loading import Choice
from arguide.training import Recipe

PROGRAM = "arguide train"
LOSSES, RESULT = "losses.parquet", "result.json"
OWN = (RESULT, *learners.FILES, LOSSES, "loss.png")  # the result goes first: a half-deleted training must not look finished


@dataclass(frozen=True)
class Job:
    """The settings of a training.

    Attributes:
        kind: of `learners.KINDS`.
        source: of the data.
        recipe: steps, batch, rates.
        size: of a newly initialised network.
        seed: of the weights and the training.
        noised: whether a classifier sees noise.
        init: a model to start from, None for a newly initialised one.

    Raises:
        ValueError: dropout for a classifier, whose input holds no labels.
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
            raise ValueError(f"--dropout must be 0 for a classifier, which takes no labels, got {self.recipe.dropout:g}")

    def config(self) -> dict[str, Any]:
        """Return the settings that decide the result, ready for JSON."""
        init = None if self.init is None else Choice(self.init).identity()["model"]
        return asdict(self) | {"source": datasets.identity(self.source), "init": init}

    def begin(self, rows: datasets.Data) -> Any:
        """Return the learner before the training."""
        if self.init is not None:
            return learners.begun(self.kind, rows, self.init)
        return learners.new(self.kind, rows, self.size, seed=self.seed, noised=self.noised)


def read(kind: str, source: Source, seed: int) -> datasets.Data:
    """Return the data of a kind; they are read once per process and content of the source.

    Args:
        kind: of `learners.KINDS`.
        source: of the data.
        seed: of the split.
    """
    return _read(kind, source, seed, json.dumps(datasets.identity(source)))


@cache
def _read(kind: str, source: Source, seed: int, identity: str) -> datasets.Data:
    del identity  # is part of the key of the cache: changed contents are read again
    return (datasets.read_texts if kind == "lm" else datasets.read_images)(source, seed=seed)


def run(job: Job, folder: Path, track: Track, *, device: torch.device | str = "cpu", fresh: bool = False) -> dict[str, Any]:
    """Train, or continue a training that was killed, or read the result of a finished one.

    Args:
        job: the settings.
        folder: of the model.
        track: wraps the steps, for a progress bar.
        device: to train on.
        fresh: whether to delete an earlier training in the folder first.

    Returns:
        Facts on the model, name ↦ value: parameters, labels, training and held-out losses.

    Raises:
        ValueError: the data do not fit, the folder holds other files, the data or the initial model, or lies among the data, or
            the checkpoint cannot be read.
    """
    if job.init is not None:
        run_folder.check_apart(folder, "--init", job.init)
    datasets.check_apart(job.source, folder)
    rows = read(job.kind, job.source, job.seed)
    width = rows.rows[0].numel() if isinstance(rows.rows, torch.Tensor) else 1
    limits.check_memory(f"--batch-size {job.recipe.batch:.3g}", job.recipe.batch * max(width, job.size.width))
    learner = job.begin(rows)
    run_folder.claim(folder, job.config(), PROGRAM, parts=(), own=OWN, fresh=fresh)
    if (folder / RESULT).exists():
        return _finished(folder)
    checkpoint = folder / learners.CHECKPOINT
    losses = learners.train(learner, rows, job.recipe, seed=job.seed, device=device, checkpoint=checkpoint, track=track)
    facts = _facts(job, learner, losses, rows)
    learners.save(learner, folder, learners.card(job.kind, job.source, rows, job.recipe, facts, noised=job.noised))
    _publish(folder, losses, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    checkpoint.unlink(missing_ok=True)
    return facts


def _publish(folder: Path, losses: list[float], result: str) -> None:
    """Write the losses with the digests of the model and of its result, then the result."""
    frame = pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses})
    save_plot(folder / "loss.png", figures.LOSS, frame)
    files = run_folder.digests(folder, learners.files_of(folder)) | {RESULT: run_folder.digest(result.encode())}
    run_folder.write_frame(folder / LOSSES, run_folder.marked(frame, run_folder.part_of(folder, LOSSES), files))
    run_folder.write_text(folder / RESULT, result)


def _finished(folder: Path) -> dict[str, Any]:
    """Return the result of a finished training.

    Raises:
        ValueError: a file is damaged or was changed after the training.
    """
    frame = run_folder.read_marked(folder / LOSSES, run_folder.part_of(folder, LOSSES))
    changed = LOSSES if frame is None else run_folder.damaged(folder, frame)
    if changed is not None:
        raise ValueError(f"{folder / changed} is damaged, or was changed after the training; --fresh trains again")
    return json.loads((folder / RESULT).read_text(encoding="utf-8"))


def _facts(job: Job, learner: Any, losses: list[float], rows: datasets.Data) -> dict[str, Any]:
    model = learner.model if isinstance(learner, Causal) else learner
    tail = losses[-max(1, len(losses) // 20) :]
    facts: dict[str, Any] = {
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
            facts[f"{name}{unit}"] = f"{value:.3f} ± {error:.3f}"
    return facts
