"""Train and compare both wings on one data set."""

from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.cli import options
from analysis.cli.options import Address, Device, Json, Name, Seed, Shard, running
from analysis.cli.train import DATA
from analysis.files import paths

SAMPLES = "Training and sampling"
rows, drawing = map(options.group, ("The data", SAMPLES))
MODELS = "A folder of models to load instead of training, of the same data, with the names that a study gives (pixels-0)."


def study(
    data: Annotated[str, options.named(DATA)],
    out: Annotated[Path, options.path("Folder of the report; an unfinished study there is resumed.")] = Path("study"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Train a tenth of the steps with two seeds: to see that it runs.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete an earlier study in the folder first.")] = False,
    text_column: Annotated[str | None, rows(help="The column of the texts, for a study of texts.")] = None,
    image_column: Annotated[str | None, rows(help="The column of the images, for a study of images.")] = None,
    label_column: Annotated[str, rows(help="The column of the labels.")] = "label",
    max_labels: Annotated[
        int, rows(help="Keep this many of the commonest labels; by default 8 of texts, 10 of images.", min=0)
    ] = 0,
    image_size: Annotated[int, rows(help="Scale images to this many pixels per side.", min=2)] = 8,
    text_length: Annotated[int | None, rows(help="Keep this many characters of every text.", min=1)] = None,
    scales: Annotated[str, drawing(help="The values of γ, separated by commas.")] = "0,1,1.25,1.5,2,3,5,7.5,10",
    seeds: Annotated[int, drawing(help="Repetitions: everything is trained and sampled again.", min=2)] = 4,
    samples: Annotated[int, drawing(help="Samples per label, scale and seed.", min=2)] = 32,
    effort: Annotated[float, drawing(help="Factor on the steps of every training.")] = 1.0,
    models: Annotated[str | None, options.named(MODELS, SAMPLES)] = None,
    jobs: Annotated[int, running(help="Processes; by default one per core, and at most 8.", min=0, max=1024)] = 0,
    engine: Name = "processes",
    address: Address = None,
    shard: Shard = None,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Train both wings on one data set, and compare their samples: joint and sequential guidance, and diffusion."""
    if text_column and image_column:
        raise ValueError("give either --text-column or --image-column")
    if device != "cpu":
        raise ValueError(f"--device must be cpu for a study, whose small networks run fastest there, got device {device!r}")
    paths.check_data(data)
    options.check_memory(image_size**2, image_size=image_size)
    options.check_memory(1000 * seeds, seeds=seeds)  # every seed has tasks of some kilobytes
    options.check_memory(samples, samples=samples)
    if models is not None and not Path(models).is_dir():
        raise ValueError(f"no folder {models}")
    runs, part = options.engine(engine, jobs, address), options.shard(shard, fresh=fresh)

    from analysis.cli import display
    from analysis.learning import datasets as sources
    from analysis.study.findings.conclusion import conclude
    from analysis.study.plan import Plan
    from analysis.study.run import prepare, publish, run
    from analysis.text import loading

    column, images = sources.kind_of(data, text_column, image_column)
    source = sources.Source(data, column, label_column, max_labels or (10 if images else 8), image_size, text_length)
    effort, seeds = (0.1, 2) if quick else (effort, seeds)
    chosen = tuple(options.distinct(options.scales_of(scales)))
    plan = Plan(source, images, chosen, seeds, samples, effort, seed, models, quick)
    loading.silence()

    def track(what: str, items: Any, total: int) -> Any:
        return display.bar(what)(items, total=total)

    if part is not None:
        prepare(plan, out, shared=True)
        display.shard(part, run(plan, out, track, runs, part), as_json=json)
        return
    page, chapters = publish(plan, out, track, runs, fresh=fresh)
    display.report(f"A study of {data}", page, chapters, conclude(chapters), as_json=json)
