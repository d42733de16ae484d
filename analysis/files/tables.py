"""Read files of labelled rows and of texts: one reader for every command, and one rule for their cells.

A cell of a `.csv` is a text as written, "NA" and "01" too, and an empty cell is missing. A byte-order mark is not part of the
first cell. A label is a text, a number or a truth value. A row without a label or a text is refused; a blank text is left out.
"""

import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.errors import ParserWarning
from pyarrow import parquet

from analysis.files import paths

INTEGER, NUMBER = re.compile(r"[+-]?[0-9]+"), re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
Columns = Mapping[str, Sequence[Any]]


def read(path: Path, *, lines: Sequence[str] = (), texts: Sequence[str] = ()) -> pd.DataFrame:
    """Return the rows of a file as Python values, None where a cell is missing.

    Args:
        path: a file whose suffix is one of `paths.TABLES`, or another one with `lines`.
        lines: the columns of a line of plain text, which tabs separate; blank lines are left out.
        texts: columns of texts as written, where an empty cell is an empty text. The other columns of a `.csv` then get the
            types that pandas finds, not texts.

    Raises:
        ValueError: a file that is missing, empty or malformed.
    """
    readers = {".parquet": _read_parquet, ".json": _read_json, ".jsonl": _read_jsonl}
    read_plain = partial(_read_csv, texts=texts) if path.suffix == ".csv" else partial(_read_lines, columns=lines)
    paths.check_file(path)
    with paths.readable(path, ParserWarning):
        columns = readers.get(path.suffix, read_plain)(path)
    cells = {
        name: [None if missing(cell) or (cell == "" and not texts) else cell for cell in columns[name]] for name in columns
    }
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in cells.items()})
    if frame.empty:
        raise ValueError(f"{path.name}: the file has no {f'{texts[0]}s' if texts else 'rows'}")
    return frame


def read_texts(path: Path, column: str, optional: Sequence[str] = ()) -> pd.DataFrame:
    """Return a frame with a column of texts, and all other columns of the file.

    Args:
        path: `.txt` with one text per line, or a file whose suffix is one of `paths.TABLES`.
        column: the texts, one in every row.
        optional: further columns of texts; a row may lack one, as an empty cell of a `.csv`.

    Raises:
        ValueError: a file that is missing, empty, malformed or has another suffix; no such column; a row without a text.
    """
    paths.check_texts(path)
    frame = read(path, lines=(column,), texts=(column, *optional))
    check_columns(path.name, frame, column)
    check_texts(path.name, column, frame[column])
    for name in frame.columns.intersection(list(optional)):
        if path.suffix == ".csv":
            frame[name] = frame[name].map(lambda text: text or None)
        check_texts(path.name, name, frame[name].dropna())
    return frame


def check_columns(source: str, found: Iterable[Any], *columns: str) -> None:
    """Refuse columns that are missing.

    Args:
        source: the name of the file or data set.
        found: the columns that it has.
        *columns: the columns that it must have.

    Raises:
        ValueError: a missing column; the message names it and the columns that there are.
    """
    names = list(map(str, found))
    for column in columns:
        if column not in names:
            raise ValueError(f"{source}: no column {column!r}; it has {', '.join(names[:20])}")


def check_texts(source: str, column: str, cells: pd.Series) -> None:
    """Refuse cells that are no texts.

    Args:
        source: the name of the file or data set.
        column: the name of the column.
        cells: the cells, with the row number (from 0) as their index.

    Raises:
        ValueError: a cell that is no text; the message names its row.
    """
    for i, cell in cells.items():
        if not isinstance(cell, str):
            raise ValueError(f"{source}: row {int(str(i)) + 1} has no text in the column {column!r}")


def labels(source: str, column: str, cells: Sequence[Any]) -> list[str]:
    """Return the names of labels.

    Args:
        source: the name of the file or data set.
        column: the name of the column.
        cells: the cells of the column.

    Raises:
        ValueError: a cell that is missing, blank, or neither a text nor a number; the message names its row.
    """
    for i, cell in enumerate(cells):
        if missing(cell) or not str(cell).strip():
            raise ValueError(f"{source}: row {i + 1} has no label in the column {column!r}")
        if isinstance(cell, bytes | Mapping) or (isinstance(cell, Sequence) and not isinstance(cell, str)):
            raise ValueError(f"{source}: row {i + 1} of the column {column!r} must be a text or a number, got {cell!r:.40}")
    return list(map(str, cells))


def texts(source: str, column: str, cells: Sequence[Any], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return stripped texts and the names of their labels, without the rows whose text is blank.

    Args:
        source: the name of the file or data set.
        column: the name of the column.
        cells: the cells of the column.
        names: the label of every cell.

    Raises:
        ValueError: a cell that is no text (the message names its row), or blank texts alone.
    """
    check_texts(source, column, pd.Series(cells, dtype=object))
    kept = [(cell.strip(), name) for cell, name in zip(cells, names, strict=True) if cell.strip()]
    if not kept:
        raise ValueError(f"{source}: every text in the column {column!r} is blank")
    return [text for text, _ in kept], [name for _, name in kept]


def numbers(cells: Sequence[Any]) -> list[Any]:
    """Return texts as numbers if each is one and no two become the same number; otherwise return the cells unchanged."""
    distinct = {cell for cell in cells if isinstance(cell, str) and len(cell) < 400}
    for pattern, kind in ((INTEGER, int), (NUMBER, float)):
        if distinct and all(cell in distinct and pattern.fullmatch(cell.strip()) for cell in cells):
            known = {cell: kind(cell) for cell in distinct}
            unlike = len(set(known.values())) == len(distinct) and all(map(_fits, known.values()))
            return [known[cell] for cell in cells] if unlike else list(cells)
    return list(cells)


def missing(cell: Any) -> bool:
    """Return whether a cell holds nothing."""
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and cell != cell)


def _fits(number: float) -> bool:
    """Return whether a number fits into 64 bits."""
    return -(2**63) <= number < 2**63 if isinstance(number, int) else math.isfinite(number)


def _read_lines(path: Path, columns: Sequence[str]) -> Columns:
    rows = [line.split("\t", len(columns) - 1) for line in _lines(path)]
    if any(len(row) != len(columns) for row in rows):
        raise ValueError(f"every line must read {'<tab>'.join(columns)}")
    return {name: [row[i] for row in rows] for i, name in enumerate(columns)}


def _read_csv(path: Path, texts: Sequence[str]) -> Columns:
    found = _csv(path, dtype=str, keep_default_na=False)
    return found | {name: cells for name, cells in _csv(path).items() if name not in texts} if texts else found


def _csv(path: Path, **options: Any) -> dict[str, list[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ParserWarning)  # rows that are longer than the header
        with path.open(encoding="utf-8-sig", newline="") as file:
            frame = pd.read_csv(file, index_col=False, **options)
    return {str(name): frame[name].tolist() for name in frame}


def _read_parquet(path: Path) -> Columns:
    with parquet.ParquetFile(path) as file:  # a data set's reader could take the path for a pattern
        table = file.read()
    names = [name for name in table.column_names if not re.fullmatch("__index_level_[0-9]+__", name)]
    if len(set(names)) < len(names):
        raise ValueError("two columns have one name")
    classes = _classes(table.schema.metadata or {})
    return {name: named(table[name].to_pylist(), classes.get(name)) for name in names}


def _classes(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Return the names of the labels that `datasets` stores as numbers."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {name: feature["names"] for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def named(cells: list[Any], names: Sequence[str] | None) -> list[Any]:
    """Return the names of labels that `datasets` stores as numbers; return the cells unchanged if `names` is None."""
    return (
        cells
        if names is None
        else [names[cell] if isinstance(cell, int) and 0 <= cell < len(names) else None for cell in cells]
    )


def _read_json(path: Path) -> Columns:
    """Return the columns of a list of objects, of an object of columns, or of one object per line."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:
        return _read_jsonl(path)
    if isinstance(found, Mapping) and all(isinstance(cells, Mapping | list) for cells in found.values()):
        found = pd.DataFrame(found).to_dict("records")
    return _columns([found] if isinstance(found, Mapping) else found)


def _read_jsonl(path: Path) -> Columns:
    return _columns([json.loads(line) for line in _lines(path)])


def _lines(path: Path) -> list[str]:
    """Return the lines that are not blank; a line ends at a line feed alone."""
    return [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]


def _columns(rows: Any) -> Columns:
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError("every row must be an object")
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
