"""The tasks of a study: trainings and samplings, each of which returns a frame of numbers."""

from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis.files import run_folder
from analysis.learning import learners
from analysis.learning.datasets import Data
from analysis.learning.judge import Judge
from analysis.learning.label_models import Causal
from analysis.study import samplers, temperatures
from analysis.study.plan import BLIND, Plan, model_name, read, recipe_of, trained
from analysis.study.workers import Task
from diffusion.networks import Classifier, Denoiser

SHOWN = 8  # samples of a label that a study keeps to be looked at


def training(plan: Plan) -> list[Task]:
    """Return the trainings."""
    return [Task(model_name(*each), partial(train, *each), model=True) for each in trained(plan)]


def sampling(plan: Plan) -> list[Task]:
    """Return the samplings: one a seed for temperature, and one a seed and scale."""
    seeds = [plan.seed + s for s in range(plan.seeds)]
    cooled = [Task(f"temperature-{seed}", partial(cool, seed)) for seed in seeds]
    return cooled + [Task(f"samples-{seed}-{scale:g}", partial(sample, seed, scale)) for seed in seeds for scale in plan.scales]


def train(kind: str, variant: str, seed: int, plan: Plan, folder: Path) -> pd.DataFrame:
    """Train a model into `folder/models`, or take it from where it is; return its losses on held-out rows, and in training."""
    torch.set_num_threads(1)
    rows = read(plan)
    recipe, size = recipe_of(kind, variant, plan), learners.usual(kind, rows)[1]
    place = folder / "models" / model_name(kind, variant, seed)
    place.mkdir(parents=True, exist_ok=True)
    given = plan.given(place.name)
    if given is None:
        learner = learners.new(kind, rows, size, seed=seed, noised=variant != BLIND)
        losses = learners.train(learner, rows, recipe, seed=seed, checkpoint=place / learners.CHECKPOINT)
    else:
        learner, losses = learners.load(kind, rows, given), []
    told, how = {"seed": seed, "variant": variant or "-"}, recipe if given is None else None
    learners.save(learner, place, learners.card(kind, plan.source, rows, how, told, noised=variant != BLIND))
    case = {"law": kind, "family": variant or "dropout", "seed": seed}
    found = [case | {"quantity": "loss", "step": i, "value": value} for i, value in _thinned(losses)]
    for quantity, labelled in (("held-out loss", True), ("held-out loss, no label", False)):
        if labelled or kind != "classifier":
            value, error = learners.held_loss(learner, rows, labelled=labelled)
            found.append(case | {"quantity": quantity, "value": value, "std_error": error})
    return pd.DataFrame(found)


@cache
def judged(plan: Plan) -> tuple[Data, Judge]:
    """Return the data and their judge; once a process."""
    return read(plan), Judge(read(plan))


def sample(seed: int, scale: float, plan: Plan, folder: Path) -> pd.DataFrame:
    """Sample every family at a scale; return what the judge says of the samples, and some of them."""
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = [{"family": "judge", "quantity": "accuracy", "value": judged(plan)[1].accuracy}]
    generator = torch.Generator().manual_seed((1_000_003 * (seed + 1) + round(1000 * scale)) % 2**63)
    for family, drawn in _drawn(plan, folder, seed, scale, generator):
        found += _measured({"family": family, "scale": scale}, drawn, plan, seed)
    return pd.DataFrame(found).assign(law=run_folder.shown(plan.source.data), seed=seed)


def cool(seed: int, plan: Plan, folder: Path) -> pd.DataFrame:
    """Sample γ = 1 at every inverse temperature by every way to lower it; return what `sample` does."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed((1_000_003 * (seed + 1) - 1) % 2**63)
    found: list[dict[str, Any]] = []
    for beta in temperatures.BETAS:
        for family, drawn in _cooled(plan, folder, seed, beta, generator):
            found += _measured({"family": family, "beta": beta}, drawn, plan, seed)
    return pd.DataFrame(found).assign(law=run_folder.shown(plan.source.data), seed=seed)


def _measured(case: dict[str, Any], drawn: samplers.Drawn, plan: Plan, seed: int) -> Iterator[dict[str, Any]]:
    """Yield what the judge says of samples, what they tell of themselves, and some of the first seed's."""
    rows, judge = judged(plan)
    measured = judge.measures(drawn.rows, drawn.labels) | drawn.told
    yield from (case | {"quantity": name, "value": value} for name, value in measured.items())
    if seed == plan.seed:
        yield from (case | row for row in _shown(drawn, rows.names))


def _drawn(
    plan: Plan, folder: Path, seed: int, scale: float, generator: torch.Generator
) -> Iterator[tuple[str, samplers.Drawn]]:
    yield from samplers.autoregressive(_causal(plan, folder, seed), scale, plan.samples, generator)
    if plan.images:
        denoiser = _denoiser(folder, seed)
        yield from samplers.denoising(denoiser, scale, plan.samples, generator)
        names = {samplers.AWARE: "", samplers.CLEAN: BLIND}
        judges = {
            family: Classifier.from_pretrained(folder / "models" / model_name("classifier", variant, seed)).eval()
            for family, variant in names.items()
        }
        yield from samplers.classifying(denoiser, judges, scale, plan.samples, generator)


def _cooled(
    plan: Plan, folder: Path, seed: int, beta: float, generator: torch.Generator
) -> Iterator[tuple[str, samplers.Drawn]]:
    yield from samplers.autoregressive(_causal(plan, folder, seed), 1.0, plan.samples, generator, beta)
    if plan.images:
        yield from temperatures.denoising(_denoiser(folder, seed), beta, plan.samples, generator)


def _causal(plan: Plan, folder: Path, seed: int) -> Causal:
    return Causal.load(folder / "models" / model_name("pixels" if plan.images else "lm", "", seed))


def _denoiser(folder: Path, seed: int) -> Denoiser:
    return Denoiser.from_pretrained(folder / "models" / model_name("denoiser", "", seed)).eval()


def _shown(drawn: samplers.Drawn, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a sample of every label to look at; more of a text."""
    for label, name in enumerate(names):
        rows = (drawn.labels == label).nonzero()[:, 0].tolist()
        if isinstance(drawn.rows, Tensor):
            image = drawn.rows[rows[0], 0]
            for y, line in enumerate(image.tolist()):
                yield from ({"quantity": "pixel", "label": name, "y": y, "x": x, "value": v} for x, v in enumerate(line))
        else:
            yield from ({"quantity": "text", "label": name, "text": drawn.rows[i]} for i in rows[:SHOWN])


def _thinned(losses: Sequence[float], most: int = 100) -> Iterator[tuple[int, float]]:
    """Yield the means of at most `most` stretches of the losses."""
    width = max(1, len(losses) // most)
    for start in range(0, len(losses), width):
        part = losses[start : start + width]
        yield start + len(part), sum(part) / len(part)
