"""List the tasks of a study: trainings and samplings, each of which returns a frame of numbers."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from analysis.files import run_folder
from analysis.learning import learners
from analysis.learning.datasets import Data
from analysis.learning.evaluator import Evaluator
from analysis.learning.label_models import Causal
from analysis.study import coherent, controls, samplers, temperatures
from analysis.study.plan import BLIND, WEAK, Plan, model_name, other, read, recipe_of, trained
from analysis.study.samplers import Drawn
from analysis.study.task import Task
from diffusion.networks import Classifier, Denoiser

SHOWN = 8  # texts per label that a study keeps for its report


def training(plan: Plan) -> list[Task]:
    """Return the trainings."""
    return [Task(model_name(*each), partial(train, *each)) for each in trained(plan)]


def sampling(plan: Plan) -> list[Task]:
    """Return the samplings: per seed one for temperature, for acceptance and for incoherence, and one per seed and scale."""
    seeds = [plan.seed + s for s in range(plan.seeds)]
    kinds = (("accepted", accept), ("temperature", cool), ("incoherence", compare))
    whole = [Task(f"{name}-{seed}", partial(run, seed)) for name, run in kinds for seed in seeds]
    return whole + [Task(f"samples-{seed}-{scale:g}", partial(sample, seed, scale)) for seed in seeds for scale in plan.scales]


def train(kind: str, variant: str, seed: int, plan: Plan, folder: Path) -> pd.DataFrame:
    """Train a model into `folder/models`, or copy it from the plan's models; return its training and held-out losses.

    Args:
        kind: of `learners.KINDS`.
        variant: of the training, "" for the usual one.
        seed: of the training.
        plan: of the study.
        folder: of the results.
    """
    rows, noised = read(plan), variant != BLIND
    recipe, size = recipe_of(kind, variant, plan), learners.usual(kind, rows)[1]
    place = folder / "models" / model_name(kind, variant, seed)
    place.mkdir(parents=True, exist_ok=True)
    given = plan.given(place.name)
    if given is None:
        learner = learners.new(kind, rows, size, seed=seed, noised=noised)
        losses = learners.train(learner, rows, recipe, seed=seed, checkpoint=place / learners.CHECKPOINT)
    else:
        learner, losses = learners.load(kind, rows, given), []
    facts, how = {"seed": seed, "variant": variant or "-"}, recipe if given is None else None
    learners.save(learner, place, learners.card(kind, plan.source, rows, how, facts, noised=noised))
    case = {"law": kind, "family": variant or "dropout", "seed": seed}
    found = [{"quantity": "loss", "step": i, "value": value} for i, value in _thinned(losses)]
    for quantity, labelled in (("held-out loss", True), ("held-out loss, no label", False)):
        if labelled or kind != "classifier":
            value, error = learners.held_loss(learner, rows, labelled=labelled)
            found.append({"quantity": quantity, "value": value, "std_error": error})
    return pd.DataFrame([case | row for row in found])


@cache
def evaluator(plan: Plan) -> tuple[Data, Evaluator]:
    """Return the data and their evaluator, which is trained once per process."""
    return read(plan), Evaluator(read(plan))


def sample(seed: int, scale: float, plan: Plan, folder: Path) -> pd.DataFrame:
    """Sample every sampler at one scale; return what the evaluator measures, and some of the samples.

    Args:
        seed: of the models and the samples.
        scale: γ.
        plan: of the study.
        folder: of the results.
    """
    accuracy = {"family": "evaluator", "quantity": "accuracy", "value": evaluator(plan)[1].accuracy}
    drawn = _drawn(plan, Models(plan, folder, seed), scale, _generator(seed, round(1000 * scale)))
    return _measured(plan, folder, seed, [accuracy], (({"family": family, "scale": scale}, each) for family, each in drawn))


def accept(seed: int, plan: Plan, folder: Path) -> pd.DataFrame:
    """Sample the joint law of the coherent pairs at every scale above 0; return the same as `sample`.

    Args:
        seed: of the models and the samples.
        plan: of the study.
        folder: of the results.
    """
    models, generator = Models(plan, folder, seed), _generator(seed, -2)
    scales = [scale for scale in plan.scales if scale > 0]
    drawn = coherent.accepted(models.causal(), scales, plan.samples, generator)
    if plan.images:
        drawn = chain(drawn, coherent.accepted_images(models.denoiser(), scales, plan.samples, generator))
    return _measured(plan, folder, seed, [], (({"family": family, "scale": scale}, each) for scale, family, each in drawn))


def compare(seed: int, plan: Plan, folder: Path) -> pd.DataFrame:
    """Measure the incoherence of the learned pairs.

    Args:
        seed: of the models and the samples.
        plan: of the study.
        folder: of the results.
    """
    models, generator, n = Models(plan, folder, seed), _generator(seed, -3), plan.samples
    found = {coherent.COHERENT: coherent.incoherent_texts(models.causal(), n, generator)}
    if plan.images:
        found[coherent.SCORES] = coherent.incoherent_images(models.denoiser(), n, generator)
    rows = [
        {
            "family": family,
            "quantity": name,
            "value": getattr(value, "value", value),
            "std_error": getattr(value, "std_error", 0.0),
        }
        for family, each in found.items()
        for name, value in each._asdict().items()
    ]
    return pd.DataFrame(rows).assign(law=run_folder.shown(plan.source.data), seed=seed)


def cool(seed: int, plan: Plan, folder: Path) -> pd.DataFrame:
    """Sample γ = 1 at every inverse temperature by every way to lower the temperature; return the same as `sample`.

    Args:
        seed: of the models and the samples.
        plan: of the study.
        folder: of the results.
    """
    models, generator = Models(plan, folder, seed), _generator(seed, -1)
    drawn = ((beta, *each) for beta in temperatures.BETAS for each in _cooled(plan, models, beta, generator))
    return _measured(plan, folder, seed, [], (({"family": family, "beta": beta}, each) for beta, family, each in drawn))


class Models(NamedTuple):
    """The models of one seed of a study, which are loaded when they are asked for."""

    plan: Plan
    folder: Path
    seed: int

    def causal(self, variant: str = "", seed: int | None = None) -> Causal:
        """Return the autoregressive model, a variant of it, or that of another seed."""
        return Causal.load(self._place("pixels" if self.plan.images else "lm", variant, seed))

    def denoiser(self, variant: str = "", seed: int | None = None) -> Denoiser:
        """Return the denoiser, a variant of it, or that of another seed."""
        return Denoiser.from_pretrained(self._place("denoiser", variant, seed)).eval()

    def classifier(self, variant: str = "") -> Classifier:
        """Return the classifier of noised images, or its variant."""
        return Classifier.from_pretrained(self._place("classifier", variant, None)).eval()

    def _place(self, kind: str, variant: str, seed: int | None) -> Path:
        return self.folder / "models" / model_name(kind, variant, self.seed if seed is None else seed)


def _generator(seed: int, key: int) -> torch.Generator:
    return torch.Generator().manual_seed((1_000_003 * (seed + 1) + key) % 2**63)


def _measured(
    plan: Plan, folder: Path, seed: int, found: list[dict[str, Any]], drawn: Iterable[tuple[dict[str, Any], Drawn]]
) -> pd.DataFrame:
    """Return rows with the measures and the diagnostics of samples, and some of the first seed's samples."""
    (data, measurer), learner = evaluator(plan), Models(plan, folder, seed).causal()
    for case, each in drawn:
        likelihood = coherent.log_likelihood(learner, learner.encode(each.rows), each.labels)
        measures = measurer.measures(each.rows, each.labels) | each.diagnostics | {"log p(x|y)": float(likelihood.mean())}
        found += [case | {"quantity": name, "value": value} for name, value in measures.items()]
        if seed == plan.seed:
            found += [case | row for row in _shown(each, data.names)]
    return pd.DataFrame(found).assign(law=run_folder.shown(plan.source.data), seed=seed)


def _drawn(plan: Plan, models: Models, scale: float, generator: torch.Generator) -> Iterator[tuple[str, Drawn]]:
    n, strange = plan.samples, other(plan, models.seed)
    learner = models.causal()
    yield from samplers.autoregressive(learner, scale, n, generator)
    if scale > 0:
        yield from coherent.autoregressive(learner, scale, n, generator)
        yield from controls.autoregressive(learner, models.causal(WEAK), models.causal(seed=strange), scale, n, generator)
    if plan.images:
        denoiser = models.denoiser()
        yield from samplers.denoising(denoiser, scale, n, generator)
        if scale > 0:
            yield from coherent.denoising(denoiser, scale, n, generator)
            yield from controls.denoising(denoiser, models.denoiser(WEAK), models.denoiser(seed=strange), scale, n, generator)
        classifiers = {samplers.AWARE: models.classifier(), samplers.CLEAN: models.classifier(BLIND)}
        yield from samplers.classifying(denoiser, classifiers, scale, n, generator)


def _cooled(plan: Plan, models: Models, beta: float, generator: torch.Generator) -> Iterator[tuple[str, Drawn]]:
    yield from samplers.autoregressive(models.causal(), 1.0, plan.samples, generator, beta)
    if plan.images:
        yield from temperatures.denoising(models.denoiser(), beta, plan.samples, generator)


def _shown(drawn: Drawn, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the pixels of one image per label, or several texts per label, for the report."""
    for label, name in enumerate(names):
        rows = (drawn.labels == label).nonzero()[:, 0].tolist()
        if isinstance(drawn.rows, Tensor):
            for y, line in enumerate(drawn.rows[rows[0], 0].tolist()):
                yield from ({"quantity": "pixel", "label": name, "y": y, "x": x, "value": v} for x, v in enumerate(line))
        else:
            yield from ({"quantity": "text", "label": name, "text": drawn.rows[i]} for i in rows[:SHOWN])


def _thinned(losses: Sequence[float], most: int = 100) -> Iterator[tuple[int, float]]:
    """Yield the last step and the mean of stretches of equal length, about `most` of them."""
    width = max(1, len(losses) // most)
    for start in range(0, len(losses), width):
        part = losses[start : start + width]
        yield start + len(part), sum(part) / len(part)
