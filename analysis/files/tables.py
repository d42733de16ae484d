"""Files of labelled rows: one reader for every command, and one rule for their cells.

A cell of a `.csv` is a text as it stands, "NA" and "01" too, and an empty cell is missing. A byte-order mark is no part of the
first cell. A label is a text, a number or a truth value. A row without a label or a text is refused; a blank text is left out.
"""

import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.errors import ParserWarning
from pyarrow import parquet

INTEGER, NUMBER = re.compile(r"[+-]?[0-9]+"), re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def read(path: Path) -> pd.DataFrame:
    """Return the rows of a `.csv`, `.parquet`, `.json` or `.jsonl` file as Python values, None where a cell is missing.

    Raises:
        ValueError: a file that is missing, empty, malformed or of another kind.
    """
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".json": _read_json, ".jsonl": _read_jsonl}
    try:
        columns = readers[path.suffix](path)
    except (ValueError, OSError, ParserWarning, RecursionError) as error:
        raise ValueError(f"{path.name}: not a readable {path.suffix} file ({_first_line(error)})") from error
    frame = pd.DataFrame({name: pd.Series([_cell(cell) for cell in cells], dtype=object) for name, cells in columns.items()})
    if frame.empty:
        raise ValueError(f"{path.name}: the file has no rows")
    return frame


def read_lines(path: Path) -> pd.DataFrame:
    """Return the lines "label<tab>text" of a file.

    Raises:
        ValueError: a file that is missing or empty, or another line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path.name}: not readable as UTF-8 text") from error
    rows = [line.split("\t", 1) for line in lines if line.strip()]
    if not rows or any(len(row) != 2 for row in rows):
        raise ValueError(f"{path.name}: every line must read label<tab>text")
    return pd.DataFrame(rows, columns=["label", "text"], dtype=object)


def labels(source: str, column: str, cells: Sequence[Any]) -> list[str]:
    """Return the names of labels.

    Raises:
        ValueError: a cell that is missing, blank, or neither a text nor a number; its row is named.
    """
    for i, cell in enumerate(cells):
        if missing(cell) or not str(cell).strip():
            raise ValueError(f"{source}: row {i + 1} has no label in the column {column!r}")
        if isinstance(cell, bytes | Mapping) or (isinstance(cell, Sequence) and not isinstance(cell, str)):
            raise ValueError(f"{source}: row {i + 1} of the column {column!r} must be a text or a number, got {cell!r:.40}")
    return list(map(str, cells))


def texts(source: str, column: str, cells: Sequence[Any], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return texts and the names of their labels, without the rows whose text is blank.

    Raises:
        ValueError: a cell that is no text, whose row is named, or no text but blank ones.
    """
    for i, cell in enumerate(cells):
        if not isinstance(cell, str):
            raise ValueError(f"{source}: row {i + 1} has no text in the column {column!r}")
    kept = [(cell.strip(), name) for cell, name in zip(cells, names, strict=True) if cell.strip()]
    if not kept:
        raise ValueError(f"{source}: every text in the column {column!r} is blank")
    return [text for text, _ in kept], [name for _, name in kept]


def numbers(cells: Sequence[Any]) -> list[Any]:
    """Return texts as numbers if each is one and no two become the same number, or the cells as they are."""
    distinct = {cell for cell in cells if isinstance(cell, str) and len(cell) < 400}
    for pattern, kind in ((INTEGER, int), (NUMBER, float)):
        if distinct and all(cell in distinct and pattern.fullmatch(cell.strip()) for cell in cells):
            known = {cell: kind(cell) for cell in distinct}
            unlike = len(set(known.values())) == len(distinct) and all(map(_held, known.values()))
            return [known[cell] for cell in cells] if unlike else list(cells)
    return list(cells)


def missing(cell: Any) -> bool:
    """Whether a cell holds nothing."""
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and cell != cell)


def _held(number: float) -> bool:
    """Whether a number fits into 64 bits."""
    return -(2**63) <= number < 2**63 if isinstance(number, int) else math.isfinite(number)


def _cell(cell: Any) -> Any:
    return None if missing(cell) or (isinstance(cell, str) and not cell) else cell


def _read_csv(path: Path) -> Mapping[str, Sequence[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ParserWarning)  # rows that are longer than the header
        with path.open(encoding="utf-8-sig", newline="") as file:
            frame = pd.read_csv(file, dtype=str, keep_default_na=False, index_col=False)
    return {str(name): frame[name].tolist() for name in frame}


def _read_parquet(path: Path) -> Mapping[str, Sequence[Any]]:
    with parquet.ParquetFile(path) as file:  # of this very path, which a reader of data sets could take for a pattern
        table = file.read()
    names = [name for name in table.column_names if not re.fullmatch("__index_level_[0-9]+__", name)]
    if len(set(names)) < len(names):
        raise ValueError("two columns have one name")
    classes = _classes(table.schema.metadata or {})
    return {name: _named(table[name].to_pylist(), classes.get(name)) for name in names}


def _classes(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Return the names of the labels that `datasets` has stored as numbers."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {name: feature["names"] for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _named(cells: list[Any], names: list[str] | None) -> list[Any]:
    if names is None:
        return cells
    return [names[cell] if isinstance(cell, int) and 0 <= cell < len(names) else None for cell in cells]


def _read_json(path: Path) -> Mapping[str, Sequence[Any]]:
    """Return the columns of a list of objects, of an object of columns, or of one object a line."""
    text = path.read_text(encoding="utf-8-sig")
    try:
        found = json.loads(text)
    except ValueError:
        return _read_jsonl(path)
    if isinstance(found, Mapping) and all(isinstance(cells, Mapping | list) for cells in found.values()):
        found = pd.DataFrame(found).to_dict("records")
    return _columns([found] if isinstance(found, Mapping) else found)


def _read_jsonl(path: Path) -> Mapping[str, Sequence[Any]]:
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return _columns([json.loads(line) for line in lines if line.strip()])


def _columns(rows: Any) -> Mapping[str, Sequence[Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError("every row must be an object")
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
