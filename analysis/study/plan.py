"""Plan a study: its models, its samples, and the command that repeats it."""

from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from analysis import report
from analysis.files import run_folder
from analysis.learning import datasets, learners
from analysis.learning.datasets import Data, Source
from arguide.training import Recipe

PROGRAM = "arguide study"
SCALES = (0.0, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0)
HARDEST = 1e6  # times the usual number of training steps: a billion steps
PLAIN, LATE, BLIND, WEAK = "without dropout", "dropout at the end", "clean", "weak"
WEAKNESS = 0.1  # share of the training steps of a weaker model


@dataclass(frozen=True)
class Plan:
    """The plan of a study.

    Attributes:
        source: the data.
        images: whether the data are images; texts otherwise.
        scales: γ of the samples.
        seeds: number of repetitions of training and sampling; the spread over them gives the errors.
        samples: per label, scale and seed.
        effort: multiplies the steps of every training.
        seed: the first seed.
        models: a folder of models to load in place of training, where it has one of the name.
        quick: whether the run is only a check that everything works; it has no verdicts then.

    Raises:
        ValueError: fewer than two seeds or samples, or an effort out of range.
    """

    source: Source
    images: bool
    scales: tuple[float, ...] = SCALES
    seeds: int = 4
    samples: int = 32
    effort: float = 1.0
    seed: int = 0
    models: str | None = None
    quick: bool = False

    def __post_init__(self) -> None:
        for name in ("seeds", "samples"):
            if getattr(self, name) < 2:
                raise ValueError(f"--{name} must be 2 at least, got {getattr(self, name)}")
        if not 0 < self.effort <= HARDEST:
            raise ValueError(f"--effort must be positive, up to {HARDEST:g}, got {self.effort:g}; try 1")

    def config(self) -> dict[str, Any]:
        """Return the settings that decide the numbers, ready for JSON."""
        found = {name: self.given(name) for name in (model_name(*each) for each in trained(self))}
        given = {name: run_folder.digest(place / "model.safetensors") for name, place in found.items() if place is not None}
        return asdict(self) | {"source": datasets.identity(self.source), "scales": list(self.scales), "models": given}

    def given(self, name: str) -> Path | None:
        """Return the folder of the model of this name to load, None if there is none."""
        place = None if self.models is None else Path(self.models) / name
        return place if place is not None and (place / "model.safetensors").is_file() else None


def trained(plan: Plan) -> list[tuple[str, str, int]]:
    """Return kind, variant and seed of every model.

    The variants of dropout are needed for one claim only, so they are trained on images alone, with two seeds.
    """
    wings = ("pixels", "denoiser") if plan.images else ("lm",)
    kinds = [(kind, variant) for variant in ("", WEAK) for kind in wings]
    kinds += [("classifier", variant) for variant in ("", BLIND) if plan.images]
    every = [(kind, variant, plan.seed + s) for s in range(plan.seeds) for kind, variant in kinds]
    return every + [("pixels", variant, plan.seed + s) for s in range(2) for variant in (PLAIN, LATE) if plan.images]


def model_name(kind: str, variant: str, seed: int) -> str:
    """Return the name of a model's folder.

    Args:
        kind: of `learners.KINDS`.
        variant: of its training, "" for the usual one.
        seed: of its training.
    """
    return "-".join([kind, *variant.split(), str(seed)])


def recipe_of(kind: str, variant: str, plan: Plan) -> Recipe:
    """Return the recipe of a model.

    Args:
        kind: of `learners.KINDS`.
        variant: of its training, "" for the usual one.
        plan: of the study.
    """
    recipe, _ = learners.usual(kind, read(plan))
    recipe = replace(recipe, steps=max(2, round(recipe.steps * plan.effort)))
    if variant == WEAK:
        return replace(recipe, steps=max(2, round(recipe.steps * WEAKNESS)))
    if variant == PLAIN:
        return replace(recipe, dropout=0.0)
    return replace(recipe, dropout_from=0.8) if variant == LATE else recipe


def other(plan: Plan, seed: int) -> int:
    """Return the seed after this one, the first after the last."""
    return plan.seed + (seed - plan.seed + 1) % plan.seeds


@cache
def read(plan: Plan) -> Data:
    """Return the data, which are the same for all seeds and scales; they are read once per process."""
    found = (datasets.read_images if plan.images else datasets.read_texts)(plan.source, seed=plan.seed)
    datasets.check_varied(plan.source, found)
    return found


def about(plan: Plan) -> str:
    """Return the data, the models, and the numbers of seeds and samples, for readers of a report."""
    models = "pixels and a denoiser" if plan.images else "characters"
    name = run_folder.shown(plan.source.data)
    return f"{name}: models of {models}, {plan.seeds} seeds, {plan.samples} samples per label and scale"


def command(plan: Plan) -> str:
    """Return the command that repeats a study."""
    source = plan.source
    column = None if source.data == datasets.DIGITS else source.column
    options = {
        "--data": run_folder.shown(source.data),
        f"--{'image' if plan.images else 'text'}-column": column,
        "--label-column": None if source.label == "label" else source.label,
        "--max-labels": source.most,
        "--image-size": source.size if plan.images else None,
        "--text-length": None if plan.images else source.letters,
        "--scales": ",".join(f"{scale:g}" for scale in plan.scales),
        "--effort": None if plan.effort == 1 or plan.quick else f"{plan.effort:g}",
        "--models": plan.models and Path(plan.models).name,
        "--quick": plan.quick,
        "--seeds": None if plan.quick else f"{plan.seeds}",
        "--samples": f"{plan.samples}",
        "--seed": f"{plan.seed}",
    }
    return report.shell(PROGRAM, options)
