r"""The empirical question, with models that learn: both wings trained on one data set, and compared against γ.

A study is a list of tasks, each of which writes one file when it is finished: first the models, one a kind and seed, then
samples, one a seed and scale. Tasks run in processes of their own; a study that was killed goes on with those that are left.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import torch
from torch import Tensor

from analysis import cooling, families, report, temperatures, work
from analysis.figures.style import save_plot
from analysis.files import run_folder
from analysis.findings import stories
from analysis.frames import Chapter
from analysis.learning import datasets, learners
from analysis.learning.datasets import Data, Source
from analysis.learning.label_models import Causal
from analysis.metrics.sample_quality import Judge
from analysis.work import Task
from arguide.training import Recipe
from diffusion.networks import Classifier, Denoiser

PROGRAM = "arguide study"
TITLE = "A study of guidance on learned models"
INTRODUCTION = """
<p>Both wings learn the same data with conditioning dropout: an autoregressive model, and a denoiser where the data are images.
Both are guided with the same scales γ: token by token (sequential) and over the whole sequence (joint, by weighted particles);
by the guided score as it is, and with the weights that make it joint (Feynman–Kac). A classifier that has seen none of the
models says how many samples have the label that was asked for.</p>
"""
SCALES = (0.0, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)
SHOWN = 8  # samples of a label that a study keeps to be looked at
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
        found = {task.name: self.given(task.name) for task in training(self)}
        given = {name: run_folder.digest(place / "model.safetensors") for name, place in found.items() if place is not None}
        own = {"source": datasets.identity(self.source), "scales": list(self.scales), "models": given}
        return asdict(self) | own

    def given(self, name: str) -> Path | None:
        """Return the folder of a model that is there already, if it is."""
        place = None if self.models is None else Path(self.models) / name
        return place if place is not None and (place / "model.safetensors").is_file() else None


def training(plan: Plan) -> list[Task]:
    """Return the trainings."""
    return [Task(model_name(*each), partial(train, *each), model=True) for each in trained(plan)]


def trained(plan: Plan) -> list[tuple[str, str, int]]:
    """Return kind, variant and seed of every model; variants that only the claims need are of images, and of two seeds."""
    kinds = (("pixels", ""), ("denoiser", ""), ("classifier", ""), ("classifier", BLIND)) if plan.images else (("lm", ""),)
    every = [(kind, variant, plan.seed + s) for s in range(plan.seeds) for kind, variant in kinds]
    return every + [("pixels", variant, plan.seed + s) for s in range(2) for variant in (PLAIN, LATE) if plan.images]


def sampling(plan: Plan) -> list[Task]:
    """Return the samplings: one a seed for temperature, and one a seed and scale."""
    seeds = [plan.seed + s for s in range(plan.seeds)]
    cooled = [Task(f"temperature-{seed}", partial(cool, seed)) for seed in seeds]
    return cooled + [Task(f"samples-{seed}-{scale:g}", partial(sample, seed, scale)) for seed in seeds for scale in plan.scales]


def model_name(kind: str, variant: str, seed: int) -> str:
    """Return the name of a model's folder."""
    return "-".join([kind, *variant.split(), str(seed)])


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


def _measured(case: dict[str, Any], drawn: families.Drawn, plan: Plan, seed: int) -> Iterator[dict[str, Any]]:
    """Yield what the judge says of samples, what they tell of themselves, and some of the first seed's."""
    rows, judge = judged(plan)
    measured = judge.measures(drawn.rows, drawn.labels) | drawn.told
    yield from (case | {"quantity": name, "value": value} for name, value in measured.items())
    if seed == plan.seed:
        yield from (case | row for row in _shown(drawn, rows.names))


def _drawn(
    plan: Plan, folder: Path, seed: int, scale: float, generator: torch.Generator
) -> Iterator[tuple[str, families.Drawn]]:
    yield from families.autoregressive(_causal(plan, folder, seed), scale, plan.samples, generator)
    if plan.images:
        denoiser = _denoiser(folder, seed)
        yield from families.denoising(denoiser, scale, plan.samples, generator)
        names = {families.AWARE: "", families.CLEAN: BLIND}
        judges = {
            family: Classifier.from_pretrained(folder / "models" / model_name("classifier", variant, seed)).eval()
            for family, variant in names.items()
        }
        yield from families.classifying(denoiser, judges, scale, plan.samples, generator)


def _cooled(
    plan: Plan, folder: Path, seed: int, beta: float, generator: torch.Generator
) -> Iterator[tuple[str, families.Drawn]]:
    yield from families.autoregressive(_causal(plan, folder, seed), 1.0, plan.samples, generator, beta)
    if plan.images:
        yield from temperatures.denoising(_denoiser(folder, seed), beta, plan.samples, generator)


def _causal(plan: Plan, folder: Path, seed: int) -> Causal:
    return Causal.load(folder / "models" / model_name("pixels" if plan.images else "lm", "", seed))


def _denoiser(folder: Path, seed: int) -> Denoiser:
    return Denoiser.from_pretrained(folder / "models" / model_name("denoiser", "", seed)).eval()


def _shown(drawn: families.Drawn, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a sample of every label to look at; more of a text."""
    for label, name in enumerate(names):
        rows = (drawn.labels == label).nonzero()[:, 0].tolist()
        if isinstance(drawn.rows, Tensor):
            image = drawn.rows[rows[0], 0]
            for y, line in enumerate(image.tolist()):
                yield from ({"quantity": "pixel", "label": name, "y": y, "x": x, "value": v} for x, v in enumerate(line))
        else:
            yield from ({"quantity": "text", "label": name, "text": drawn.rows[i]} for i in rows[:SHOWN])


def run(plan: Plan, folder: Path, track: Any, jobs: int) -> pd.DataFrame:
    """Run what is left of a study in a folder that `results.claim` has made its own; return all rows."""
    parts = {"training": training(plan), "sampling": sampling(plan)}
    with work.workers(jobs) as worked:
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
    told = [*stories(images=plan.images), cooling.story(images=plan.images)]
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


def own() -> list[str]:
    """Return the names of the files that studies write, whatever their plan."""
    frames = [f"experiments/{name}-*.parquet" for name in (*learners.KINDS, "samples", "temperature")]
    told = [story for images in (True, False) for story in (*stories(images=images), cooling.story(images=images))]
    pictures = [f"figures/{plot.name}.png" for story in told for plot in story.plots]
    models = [f"models/{kind}-*/{name}" for kind in learners.KINDS for name in learners.FILES]
    return [*frames, *dict.fromkeys(pictures), *models, "results.parquet", "report.html"]


def _thinned(losses: Sequence[float], most: int = 100) -> Iterator[tuple[int, float]]:
    """Yield the means of at most `most` stretches of the losses."""
    width = max(1, len(losses) // most)
    for start in range(0, len(losses), width):
        part = losses[start : start + width]
        yield start + len(part), sum(part) / len(part)
