"""Compute the exact laws of a user's own distribution."""

import math
from pathlib import Path
from typing import Annotated

import typer

from analysis.cli import options
from analysis.cli.options import Device, Json, Seed
from analysis.files import paths

FILE = r"A .npy joint table \[y, x_1, …, x_T], or .csv/.parquet of discrete columns."


def exact(
    file: Annotated[Path, typer.Argument(parser=options.place, help=FILE)],
    label: Annotated[str, typer.Option(help="The condition y: the name of a label; its index in a .npy table.")],
    scale: Annotated[float, typer.Option(help="γ: 0 unconditional, 1 conditional.")],
    temperature: Annotated[float, typer.Option(help="τ of both laws.")] = 1.0,
    label_column: Annotated[str | None, typer.Option(help="The column of y, for .csv and .parquet.")] = None,
    smoothing: Annotated[float, typer.Option(help="Added to the count of every cell, for .csv and .parquet.")] = 0.0,
    out: Annotated[Path | None, options.path("Write the laws to this new .parquet file, one row per x.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Compute the exact joint and sequential laws of your own distribution, and their differences."""
    del seed  # nothing is drawn, but every command has this option
    options.check_device(device)
    paths.check_file(file)
    options.check_new("--out", out, ".parquet")
    if file.suffix == ".npy" and (label_column is not None or smoothing):
        raise ValueError("--label-column and --smoothing are for .csv and .parquet; a .npy file is a table already")

    from analysis.cli import display
    from analysis.files import run_folder
    from analysis.metrics import scale_factors
    from analysis.toys import read_table

    table = read_table(file, label_column=label_column, smoothing=smoothing)
    name = label if label in table.labels else _index(label, table.labels, numbered=file.suffix == ".npy")
    figures = scale_factors.summary(table, name, scale, temperature=temperature)
    if out is not None:
        run_folder.write_frame(out, scale_factors.laws_frame(table, name, scale, temperature=temperature))
    if json:
        display.dump({key: value if math.isfinite(value) else str(value) for key, value in figures.items()})
        return
    shape = " × ".join(map(str, table.shape))
    title = f"{file.name}: {shape} cells, label {label}, γ = {scale:g}, τ = {temperature:g} (nats)"
    display.table(title, ("quantity", "value"), [(key, f"{value:.6g}") for key, value in figures.items()])
    if out is not None:
        print(f"The laws are in {out}")


def _index(label: str, labels: tuple[str, ...], *, numbered: bool) -> int:
    """Return the index of a label that is given by its number, where labels are numbered."""
    if not (numbered and label.isdecimal() and int(label) < len(labels)):
        raise ValueError(f"no label {label!r}; the labels are {', '.join(labels[:20])}")
    return int(label)
