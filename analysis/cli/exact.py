"""The exact laws of a user's own distribution."""

import json as json_format
import math
from pathlib import Path
from typing import Annotated

import typer

from analysis.cli import options
from analysis.cli.options import Device, Json, Seed

FILE = "A .npy joint table [y, x_1, …, x_T], or .csv/.parquet of discrete columns."


def exact(
    file: Annotated[Path, typer.Argument(parser=options.place, help=FILE)],
    label: Annotated[str, typer.Option(help="The condition y: a label's name; its index in a .npy table.")],
    scale: Annotated[float, typer.Option(help="γ: 0 unconditional, 1 conditional.")],
    temperature: Annotated[float, typer.Option(help="τ, of both laws.")] = 1.0,
    label_column: Annotated[str | None, typer.Option(help="The column of y, for .csv and .parquet.")] = None,
    smoothing: Annotated[float, typer.Option(help="Added to the count of every cell, for .csv and .parquet.")] = 0.0,
    out: Annotated[Path | None, options.path("Write the laws to this new .parquet file, one row an x.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Compute the exact joint and sequential laws of your own distribution, and how far apart they are."""
    del seed  # nothing is drawn here, but every command takes one
    options.check_device(device)
    options.check_file(file)
    options.check_new("--out", out, ".parquet")
    if file.suffix == ".npy" and (label_column is not None or smoothing):
        raise ValueError("--label-column and --smoothing are for .csv and .parquet; a .npy file is a table already")

    from analysis.cli import display
    from analysis.files import run_folder
    from analysis.metrics import scale_factors
    from analysis.toys import read_table

    table = read_table(file, label_column=label_column, smoothing=smoothing)
    name = label if label in table.labels else options.index_of(label, table.labels, numbered=file.suffix == ".npy")
    figures = scale_factors.summary(table, name, scale, temperature=temperature)
    if any(math.isnan(value) for value in figures.values()):
        raise ValueError(f"scale {scale:g} at temperature {temperature:g} is beyond what double precision holds")
    if out is not None:
        frame = scale_factors.laws_frame(table, name, scale, temperature=temperature)
        run_folder.write_frame(out, frame)
    if json:
        finite = {key: value if math.isfinite(value) else str(value) for key, value in figures.items()}
        print(json_format.dumps(finite, indent=2))
        return
    shape = " × ".join(map(str, table.shape))
    title = f"{file.name}: {shape} cells, label {label}, γ = {scale:g}, τ = {temperature:g} (nats)"
    display.table(title, ("quantity", "value"), [(key, f"{value:.6g}") for key, value in figures.items()])
    if out is not None:
        print(f"The laws are in {out}")
