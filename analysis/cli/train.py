"""Training with conditioning dropout."""

import json as json_format
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from analysis.cli import options
from analysis.cli.options import Device, Json, Seed
from analysis.files import paths

KIND = "lm (texts), pixels, denoiser or classifier (images)."
DATA = "A .parquet, .csv, .json or .jsonl file, a folder of images, a name on the hub, or digits."
NETWORK = "Of a denoiser: mlp, residual layers, the default; or unet."
INIT = "A model to go on from: a folder that train has left, or, of lm, any model of texts, from a folder or the hub."
LATE = "Share of the steps before conditioning dropout begins; 0.8 is dropout in finetuning only."


def train(
    kind: Annotated[str, typer.Argument(help=KIND)],
    data: Annotated[str, options.named(DATA)],
    out: Annotated[Path, options.path("Folder of the model; an unfinished training there is picked up.")],
    text_column: Annotated[str, typer.Option(help="The column of the texts.")] = "text",
    image_column: Annotated[str, typer.Option(help="The column of the images.")] = "image",
    label_column: Annotated[str, typer.Option(help="The column of the labels.")] = "label",
    max_labels: Annotated[int | None, typer.Option(help="Keep so many labels, the commonest.", min=2)] = None,
    image_size: Annotated[int, typer.Option(help="Scale images to this many pixels a side.", min=2)] = 8,
    steps: Annotated[int | None, typer.Option(help="Steps of the optimizer; by default what its kind needs.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows a step.", min=1)] = None,
    rate: Annotated[float | None, typer.Option(help="The highest learning rate; a tenth with --init.")] = None,
    init: Annotated[str | None, options.named(INIT)] = None,
    width: Annotated[int | None, typer.Option(help="Width of the network.", min=8)] = None,
    depth: Annotated[int | None, typer.Option(help="Layers of the network.", min=1)] = None,
    network: Annotated[str | None, typer.Option(help=NETWORK)] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Share of the labels that are dropped; 0.15, none for classifiers.")
    ] = None,
    dropout_from: Annotated[float, typer.Option(help=LATE)] = 0.0,
    clean: Annotated[bool, typer.Option("--clean", help="A classifier of clean data, which never sees noise.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete an unfinished or finished training in the folder first.")
    ] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Train one network as a conditional and an unconditional model; a training that was killed goes on where it was."""
    paths.check_data(data)
    options.check_sizes(image_size=image_size, width=width, depth=depth, batch_size=batch_size)
    if kind == "lm":
        options.check_model(init)
    elif init is not None and not Path(init).is_dir():
        raise ValueError(f"no folder {init}")

    import torch

    from analysis.cli import display
    from analysis.learning import datasets as sources
    from analysis.learning import learners, training
    from analysis.text import loading

    options.check_kind(kind, learners.KINDS, clean=clean, network=network)
    source = sources.Source(data, text_column if kind == "lm" else image_column, label_column, max_labels, image_size)
    own, size = learners.usual(kind, training.read(kind, source, seed))
    size = learners.UNETS if network == "unet" else size
    recipe = replace(
        own,
        steps=steps or own.steps,
        batch=batch_size or own.batch,
        rate=(own.rate if init is None else own.rate / 10) if rate is None else rate,
        dropout=own.dropout if dropout is None else dropout,
        dropout_from=dropout_from,
    )
    size = replace(size, width=width or size.width, depth=depth or size.depth)
    loading.silence()
    if init is None:
        torch.set_num_threads(1)  # the fastest for networks this small
    job = training.Job(kind, source, recipe, size, seed, noised=not clean, init=init)
    told = training.run(job, out, display.bar(f"train {kind}"), device=loading.find_device(device), fresh=fresh)
    if json:
        print(json_format.dumps(told, indent=2, ensure_ascii=False))
        return
    display.table(f"{kind} from {data}: {out}", ("quantity", "value"), [(name, f"{value}") for name, value in told.items()])
