"""One training in a folder of its own: what `arguide train` runs, picks up after a kill, and leaves behind.

The folder holds `run.json` (settings and versions), `checkpoint.pt` while it runs, and in the end the model with its card,
`losses.parquet`, `loss.png` and `result.json`.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from analysis import data, learners, limits, results
from analysis.causal import Causal
from analysis.data import Source
from analysis.figures import study as figures
from analysis.learners import Size
from analysis.loading import Choice
from arguide.training import Recipe

PROGRAM = "arguide train"


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
        return asdict(self) | {"source": data.identity(self.source), "init": init}

    def begin(self, rows: data.Data) -> Any:
        """Return the learner, untrained."""
        if self.init is not None:
            return learners.begun(self.kind, rows, self.init)
        return learners.new(self.kind, rows, self.size, seed=self.seed, noised=self.noised)


def read(kind: str, source: Source, seed: int) -> data.Data:
    """Return what a kind learns from; once a process and content of the source."""
    return _read(kind, source, seed, json.dumps(data.identity(source)))


@cache
def _read(kind: str, source: Source, seed: int, identity: str) -> data.Data:
    del identity  # which makes other contents another reading
    return (data.read_texts if kind == "lm" else data.read_images)(source, seed=seed)


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
        results.check_apart(folder, "--init", job.init)
    data.check_apart(job.source, folder)
    rows = read(job.kind, job.source, job.seed)
    limits.check_memory(f"--batch-size {job.recipe.batch:.3g}", job.recipe.batch * max(_numbers(rows), job.size.width))
    learner = job.begin(rows)
    if fresh:
        clear(folder)
    results.claim(folder, job.config(), PROGRAM, parts=())
    if (folder / "result.json").exists():
        return _finished(folder / "result.json")
    checkpoint = folder / "checkpoint.pt"
    losses = learners.train(learner, rows, job.recipe, seed=job.seed, device=device, checkpoint=checkpoint, track=track)
    told = _told(job, learner, losses, rows)
    learners.save(learner, folder, learners.card(job.kind, job.source, rows, job.recipe, told, noised=job.noised))
    frame = pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses})
    results.write_frame(folder / "losses.parquet", frame)
    results.write(folder / "loss.png", partial(figures.save_losses, frame))
    results.write_text(folder / "result.json", json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    checkpoint.unlink(missing_ok=True)
    return told


def _finished(path: Path) -> dict[str, Any]:
    """Return what a finished training has written.

    Raises:
        ValueError: a file that is truncated, or no mapping.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise ValueError(f"{path} must hold what a training has found, and cannot be read; try --fresh")
    return told


def clear(folder: Path) -> None:
    """Delete what a training of ours has left in a folder, and nothing else."""
    if results.read_record(folder, PROGRAM) is None:
        return
    models = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    own = ("special_tokens_map.json", "labels.json", "README.md", "checkpoint.pt", "losses.parquet", "loss.png", "result.json")
    for name in (*models, *own, "run.json"):
        (folder / name).unlink(missing_ok=True)


def _numbers(rows: data.Data) -> int:
    """Return how many numbers a row has; one at least."""
    return rows.rows[0].numel() if isinstance(rows.rows, torch.Tensor) else 1


def _told(job: Job, learner: Any, losses: list[float], rows: data.Data) -> dict[str, Any]:
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
