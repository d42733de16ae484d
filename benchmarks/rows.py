"""Rows of finished runs, kept in a file of JSON lines, so that the same command goes on."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from analysis.engines import Run

Row = dict[str, Any]


def kept(file: Path) -> list[Row]:
    """Return the rows of a file; a torn last line, of a run that was killed, is removed from it."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    if lines and not lines[-1].endswith("\n"):
        file.write_text("".join(lines := lines[:-1]))
    return [json.loads(line) for line in lines]


def add(file: Path, run: Run, calls: Sequence[Callable[[], Row]], title: str) -> None:
    """Make the calls, and add each row to the file as it comes.

    Args:
        file: of the rows.
        run: an engine.
        calls: each returns a row.
        title: of the progress bar.
    """
    for row in tqdm(run(calls), total=len(calls), desc=title, unit="run", dynamic_ncols=True, disable=None):
        with file.open("a") as opened:
            opened.write(json.dumps(row) + "\n")
