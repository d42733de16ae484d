"""Run every experiment, and write the report."""

from pathlib import Path
from typing import Annotated

import typer

from analysis.cli import options
from analysis.cli.options import Address, Device, Json, Name, Seed, Shard, running
from analysis.files import paths

TEXT = "Labelled text: .csv, .parquet, .json, .jsonl, or lines label<tab>text."


def reproduce(
    out: Annotated[Path, options.path("Folder of the report; an unfinished run there is resumed.")] = Path("report"),
    quick: Annotated[bool, typer.Option("--quick", help="Use coarse grids, about a minute: to see that it runs.")] = False,
    text: Annotated[Path | None, typer.Option(help=TEXT)] = None,
    model: Annotated[str | None, options.named("A language model for the chapter on text; a tiny one by default.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete an earlier run in the folder first.")] = False,
    jobs: Annotated[int, running(help="Processes; by default one per core, and at most 8.", min=0, max=1024)] = 0,
    engine: Name = "processes",
    address: Address = None,
    shard: Shard = None,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Run every experiment, and write report.html, figures/, results.parquet and run.json."""
    if text is not None:
        paths.check_file(text)
    options.check_device(device)
    if model is not None:
        paths.check_model(model)
    runs, part = options.engine(engine, jobs, address), options.shard(shard, fresh=fresh)

    from analysis.cli import display
    from analysis.experiments import EXPERIMENTS
    from analysis.experiments import reproduce as argument
    from analysis.experiments.base import Settings
    from analysis.experiments.conclusion import conclude
    from analysis.files import run_folder
    from analysis.text import loading
    from analysis.toys import read_ngrams

    if text is not None:
        run_folder.check_apart(out, "--text", text)
        read_ngrams(text, order=1)  # an unreadable file must fail before the other chapters run
    if model is not None:
        run_folder.check_apart(out, "--model", model)
        loading.silence()
        loading.Choice(model).load(loading.find_device(device))
    settings = Settings(quick=quick, seed=seed, device=device, text=text, model=model)
    run_folder.claim(out, argument.config(settings), own=argument.own(), fresh=fresh, shared=part is not None)
    if part is not None:
        left = argument.run_left(out, settings, display.bar, runs, part)
        display.shard(part, f"{left} of {len(EXPERIMENTS)} chapters" if left else "", as_json=json)
        return
    done = list(argument.chapters(out, settings, display.bar, runs))
    display.report("Joint against sequential guidance", argument.publish(out, done), done, conclude(done), as_json=json)
