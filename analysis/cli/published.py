"""Compute published numbers again, and print them beside the printed ones."""

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.cli import options
from analysis.cli.options import Address, Device, Json, Name, Seed, running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.frames import Row


def published(
    only: Annotated[
        list[str] | None, typer.Option(metavar="<source>", help="A source by its key, see --list; may be given again.")
    ] = None,
    sources: Annotated[bool, typer.Option("--list", help="Print the sources and their keys, and compute nothing.")] = False,
    out: Annotated[Path | None, options.path("Write the rows to this new .json file.")] = None,
    jobs: Annotated[int, running(help="Processes; by default one per core, and at most 8.", min=0, max=1024)] = 0,
    engine: Name = "processes",
    address: Address = None,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Compute again what papers and packages say of guidance and temperature: published, ours, difference, verdict."""
    options.check_device(device)
    options.check_new("--out", out, ".json")
    runs = options.engine(engine, jobs, address)

    from analysis.cli import display
    from analysis.experiments.published import run
    from analysis.files import run_folder

    chosen = run.chosen(only or [])
    if sources:
        display.table("Sources of `arguide published`", ("key", "source"), [(each.key, each.title) for each in chosen])
        return
    there = [source for source in chosen if not source.missing]
    for source in chosen:
        if source.missing:
            print(f"arguide: {source.key} is left out: {source.missing}", file=sys.stderr)
    found = run.rows(there, seed, display.bar("Sources"), runs)
    if out is not None:
        run_folder.write_text(out, display.as_json(found) + "\n")
    if json:
        display.dump(found)
        return
    for source in there:
        _show([row for row in found if row["source"] == source.key])
    print(f"\n{len(found)} claims: {run.summary(found)}")
    if out is not None:
        print(f"The rows are in {out}")


def _show(rows: "Sequence[Row]") -> None:
    """Print the claims of a source under their places in it; the controls are left to --json."""
    from analysis.cli import display
    from analysis.experiments.published.table import COLUMNS, cells, grouped, notes

    first, columns, shown = rows[0], COLUMNS[:-1], list[tuple[str, ...]]()
    for part in grouped(rows, "where"):
        shown += [(part[0]["where"], *[""] * (len(columns) - 1)), *((f"· {row[0]}", *row[1:-1]) for row in map(cells, part))]
    display.table(f"\n{first['title']}\n{first['url']}", columns, shown)
    for note in notes(rows):
        print(textwrap.fill(note, 100))
