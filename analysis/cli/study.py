"""Both wings on one data set."""

import json as json_format
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis import limits
from analysis.cli import options
from analysis.cli.options import Device, Json, Seed
from analysis.cli.train import DATA
from analysis.files import paths

MODELS = "A folder of models to load in the place of training, of the same data, named as a study names its own (pixels-0)."


def study(
    data: Annotated[str, options.named(DATA)],
    out: Annotated[Path, options.path("Folder of the report; an unfinished study there is picked up.")] = Path("study"),
    text_column: Annotated[str | None, typer.Option(help="The column of the texts, for a study of texts.")] = None,
    image_column: Annotated[str | None, typer.Option(help="The column of the images, for a study of images.")] = None,
    label_column: Annotated[str, typer.Option(help="The column of the labels.")] = "label",
    max_labels: Annotated[int, typer.Option(help="Keep so many labels, the commonest; 8 of texts, 10 of images.", min=0)] = 0,
    image_size: Annotated[int, typer.Option(help="Scale images to this many pixels a side.", min=2)] = 8,
    scales: Annotated[str, typer.Option(help="Every γ, with commas.")] = "0,1,1.25,1.5,2,3,5",
    seeds: Annotated[int, typer.Option(help="How often all is trained and sampled anew.", min=2)] = 4,
    samples: Annotated[int, typer.Option(help="Samples a label, at every scale and seed.", min=2)] = 32,
    effort: Annotated[float, typer.Option(help="Multiplies the steps of every training.")] = 1.0,
    models: Annotated[str | None, options.named(MODELS)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the training, two seeds: to see that it runs.")] = False,
    jobs: Annotated[int, typer.Option(help="Processes; as many as cores by default.", min=0, max=1024)] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete an earlier study in the folder first.")] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Train both wings on one data set, and compare what they draw: joint against sequential guidance, and diffusion."""
    if text_column and image_column:
        raise ValueError("give either --text-column or --image-column")
    if device != "cpu":
        raise ValueError(f"a study's small networks run fastest on the cpu, one process each, not on device {device!r}")
    paths.check_data(data)
    limits.check_memory(f"--image-size {image_size:.3g}", image_size**2)
    limits.check_memory(f"--seeds {seeds:.3g}", 1000 * seeds)  # bytes of a task, of which every seed has some
    limits.check_memory(f"--samples {samples:.3g}", samples)
    if models is not None and not Path(models).is_dir():
        raise ValueError(f"no folder {models}")

    from analysis.cli import display
    from analysis.frames import headline
    from analysis.learning import datasets as sources
    from analysis.study.plan import Plan
    from analysis.study.run import publish
    from analysis.text import loading

    column, images = sources.kind_of(data, text_column, image_column)
    source = sources.Source(data, column, label_column, max_labels or (10 if images else 8), image_size)
    effort, seeds = (0.1, 2) if quick else (effort, seeds)
    chosen = tuple(options.apart(options.scales_of(scales)))
    plan = Plan(source, images, chosen, seeds, samples, effort, seed, models, quick)
    loading.silence()

    def track(what: str, items: Any, total: int) -> Any:
        return display.bar(what)(items, total=total)

    page, chapters = publish(plan, out, track, jobs or min(8, os.cpu_count() or 1), fresh=fresh)
    if json:
        print(json_format.dumps({"report": str(page)} | headline(chapters), indent=2, ensure_ascii=False))
        return
    display.chapters(f"A study of {data}", chapters)
    print(f"The report is {page}")
