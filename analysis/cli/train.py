"""Train a model with conditioning dropout."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis import limits
from analysis.cli import options
from analysis.cli.options import Device, Json, Seed
from analysis.files import paths

KIND = "lm (texts), pixels, denoiser or classifier (images)."
DATA = "A .csv, .parquet, .jsonl or .json file, a folder of images, a name on the hub, or digits."
NETWORK = "The network of a denoiser: mlp (residual layers, the default) or unet."
INIT = "A model to start from: a folder that train wrote or, for lm, any language model in a folder or on the hub."
LATE = "Share of the steps before conditioning dropout starts; 0.8 restricts dropout to the last fifth."
FRESH = "Delete an unfinished or finished training in the folder first."
DROPOUT = "Share of the labels that are dropped; by default 0.15, and 0 for classifiers."
MODEL = "The model"
rows, model, training_of = map(options.group, ("The data", MODEL, "The training"))


def train(
    kind: Annotated[str, typer.Argument(help=KIND)],
    data: Annotated[str, options.named(DATA)],
    out: Annotated[Path, options.path("Folder of the model; an unfinished training there is resumed.")],
    fresh: Annotated[bool, typer.Option("--fresh", help=FRESH)] = False,
    text_column: Annotated[str, rows(help="The column of the texts.")] = "text",
    image_column: Annotated[str, rows(help="The column of the images.")] = "image",
    label_column: Annotated[str, rows(help="The column of the labels.")] = "label",
    max_labels: Annotated[int | None, rows(help="Keep this many of the commonest labels.", min=2)] = None,
    image_size: Annotated[int, rows(help="Scale images to this many pixels per side.", min=2)] = 8,
    text_length: Annotated[int | None, rows(help="Keep this many characters of every text.", min=1)] = None,
    init: Annotated[str | None, options.named(INIT, MODEL)] = None,
    width: Annotated[int | None, model(help="Width of the network.", min=8)] = None,
    depth: Annotated[int | None, model(help="Layers of the network.", min=1)] = None,
    network: Annotated[str | None, model(help=NETWORK)] = None,
    steps: Annotated[int | None, training_of(help="Steps of the optimizer; the default depends on KIND.", min=1)] = None,
    batch_size: Annotated[int | None, training_of(help="Rows per step.", min=1)] = None,
    rate: Annotated[float | None, training_of(help="The maximum learning rate; with --init the default is a tenth.")] = None,
    dropout: Annotated[float | None, training_of(help=DROPOUT)] = None,
    dropout_from: Annotated[float, training_of(help=LATE)] = 0.0,
    clean: Annotated[bool, training_of("--clean", help="Train a classifier on data without noise.")] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Train one network as a conditional and an unconditional model; the same command resumes a killed training."""
    paths.check_data(data)
    options.check_memory(image_size**2, image_size=image_size)
    limits.check_network(f"--width {width or 1:.3g} and --depth {depth or 1:.3g}", width or 1, depth or 1)
    options.check_memory(batch_size or 1, batch_size=batch_size or 1)
    if init is not None and kind == "lm":
        paths.check_model(init)
    elif init is not None and not Path(init).is_dir():
        raise ValueError(f"no folder {init}")

    import torch

    from analysis.cli import display
    from analysis.learning import datasets as sources
    from analysis.learning import learners, training
    from analysis.text import loading

    _check_kind(kind, learners.KINDS, clean=clean, network=network)
    source = sources.Source(
        data, text_column if kind == "lm" else image_column, label_column, max_labels, image_size, text_length
    )
    own, size = learners.usual(kind, training.read(kind, source, seed))
    size = learners.UNETS if network == "unet" else size
    own = own if init is None else replace(own, rate=own.rate / 10)
    recipe = _given(own, steps=steps, batch=batch_size, rate=rate, dropout=dropout, dropout_from=dropout_from)
    size = _given(size, width=width, depth=depth)
    loading.silence()
    if init is None:
        torch.set_num_threads(1)  # fastest for networks of this size
    job = training.Job(kind, source, recipe, size, seed, noised=not clean, init=init)
    result = training.run(job, out, display.bar(f"train {kind}"), device=loading.find_device(device), fresh=fresh)
    if json:
        display.dump(result)
        return
    display.table(f"{kind} from {data}: {out}", ("quantity", "value"), [(name, str(value)) for name, value in result.items()])


def _given(defaults: Any, **options: float | None) -> Any:
    """Return the defaults, replaced by the options that are given."""
    return replace(defaults, **{name: value for name, value in options.items() if value is not None})


def _check_kind(kind: str, kinds: tuple[str, ...], *, clean: bool, network: str | None) -> None:
    """Refuse an unknown kind of model, and options of another kind."""
    if kind not in kinds:
        raise ValueError(f"KIND must be one of {', '.join(kinds)}, got {kind!r}")
    if clean and kind != "classifier":
        raise ValueError(f"--clean is for a classifier, got {kind}; leave it out")
    if network is not None and kind != "denoiser":
        raise ValueError(f"--network is for a denoiser, got {kind}; leave it out")
    if network not in (None, "mlp", "unet"):
        raise ValueError(f"--network must be mlp or unet, got {network!r}")
