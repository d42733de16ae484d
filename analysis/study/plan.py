"""The plan of a study: what is trained and sampled, and the command that runs it again."""

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
SCALES = (0.0, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)
HARDEST = 1e6  # times the steps of a training: a billion
PLAIN, LATE, BLIND = "without dropout", "dropout at the end", "clean"


@dataclass(frozen=True)
class Plan:
    """What a study does.

    Attributes:
        source: the data.
        images: whether they are images; texts otherwise.
        scales: γ of the samples.
        seeds: how many times all is trained and sampled; the spread over them is the error.
        samples: of a label, at every scale and seed.
        effort: multiplies the steps of every training.
        seed: the first seed.
        models: a folder whose models are loaded, where it has one of the name, and not trained.
        quick: whether it is to see that everything runs; then it has no verdicts.
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
        if self.seeds < 2:
            raise ValueError(f"a study needs two seeds at least, to tell an error; not {self.seeds}")
        if self.samples < 2 or not 0 < self.effort <= HARDEST:
            got = f"{self.samples} and {self.effort:g}"
            raise ValueError(f"a study needs two samples a label at least, and a positive effort up to {HARDEST:g}, got {got}")

    def config(self) -> dict[str, Any]:
        """Return what decides the numbers, ready for JSON."""
        found = {name: self.given(name) for name in (model_name(*each) for each in trained(self))}
        given = {name: run_folder.digest(place / "model.safetensors") for name, place in found.items() if place is not None}
        own = {"source": datasets.identity(self.source), "scales": list(self.scales), "models": given}
        return asdict(self) | own

    def given(self, name: str) -> Path | None:
        """Return the folder of a model that is there already, if it is."""
        place = None if self.models is None else Path(self.models) / name
        return place if place is not None and (place / "model.safetensors").is_file() else None


def trained(plan: Plan) -> list[tuple[str, str, int]]:
    """Return kind, variant and seed of every model; variants that only the claims need are of images, and of two seeds."""
    kinds = (("pixels", ""), ("denoiser", ""), ("classifier", ""), ("classifier", BLIND)) if plan.images else (("lm", ""),)
    every = [(kind, variant, plan.seed + s) for s in range(plan.seeds) for kind, variant in kinds]
    return every + [("pixels", variant, plan.seed + s) for s in range(2) for variant in (PLAIN, LATE) if plan.images]


def model_name(kind: str, variant: str, seed: int) -> str:
    """Return the name of a model's folder."""
    return "-".join([kind, *variant.split(), str(seed)])


def recipe_of(kind: str, variant: str, plan: Plan) -> Recipe:
    """Return how a variant of a kind is trained."""
    recipe, _ = learners.usual(kind, read(plan))
    recipe = replace(recipe, steps=max(2, round(recipe.steps * plan.effort)))
    if variant == PLAIN:
        return replace(recipe, dropout=0.0)
    return replace(recipe, dropout_from=0.8) if variant == LATE else recipe


@cache
def read(plan: Plan) -> Data:
    """Return the data, which no seed or scale changes; once a process."""
    found = (datasets.read_images if plan.images else datasets.read_texts)(plan.source, seed=plan.seed)
    datasets.check_varied(plan.source, found)
    return found


def command(plan: Plan) -> str:
    """Return the command that makes a study again."""
    source = plan.source
    options: dict[str, object] = {"--data": run_folder.shown(source.data)}
    if source.data != datasets.DIGITS:
        options[f"--{'image' if plan.images else 'text'}-column"] = source.column
    options |= {"--label-column": source.label} if source.label != "label" else {}
    options |= {"--max-labels": f"{source.most}"} if source.most is not None else {}
    options |= {"--image-size": f"{source.size}"} if plan.images else {}
    options |= {"--scales": ",".join(f"{scale:g}" for scale in plan.scales)}
    options |= {"--effort": f"{plan.effort:g}"} if plan.effort != 1 and not plan.quick else {}
    options |= {"--models": Path(plan.models).name} if plan.models else {}
    options |= {"--quick": True} if plan.quick else {"--seeds": f"{plan.seeds}"}
    options |= {"--samples": f"{plan.samples}", "--seed": f"{plan.seed}"}
    return report.shell(PROGRAM, options)
