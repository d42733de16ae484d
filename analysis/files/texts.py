"""Files of texts: lines, .csv, .parquet or .jsonl, checked before anything is computed from them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.files.columns import TEXTS


def read_texts(path: Path, column: str, optional: Sequence[str] = ()) -> pd.DataFrame:
    """Return a frame with a column of texts, and all other columns of the file.

    Args:
        path: `.txt` with one text a line (empty lines are left out), or `.csv`, `.parquet` or `.jsonl`.
        column: the texts, one in every row. In a `.csv` they are read as they stand, "NA" too.
        optional: further columns of texts; rows may be without one, an empty cell of a `.csv` say.

    Raises:
        ValueError: a file that is empty, malformed or of another kind, no such column, or a row without a text.
    """
    if path.suffix not in TEXTS:
        raise ValueError(f"{path.name}: a file of {column}s must end in {', '.join(TEXTS)}")
    if not path.is_file():
        raise ValueError(f"no file {path}")
    try:
        frame = _read(path, column, optional)
    except (ValueError, OSError) as error:
        reason = (str(error).splitlines() or ["it is empty"])[0]
        raise ValueError(f"{path.name}: not a readable {path.suffix} file ({reason})") from error
    if frame.empty:
        raise ValueError(f"{path.name}: the file has no {column}s")
    names = list(map(str, frame.columns))
    if column not in names:
        raise ValueError(f"{path.name}: no column {column!r}; it has {', '.join(names[:20])}")
    for name in (column, *(name for name in optional if name in names)):
        for i, value in enumerate(frame[name].tolist()):
            if not (isinstance(value, str) or (name != column and missing(value))):
                raise ValueError(f"{path.name}: row {i + 1} has no text in the column {name!r}")
    return frame.reset_index(drop=True)


def missing(value: Any) -> bool:
    """Whether a cell is empty."""
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _read(path: Path, column: str, optional: Sequence[str]) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".csv":
        frame = pd.read_csv(path, encoding="utf-8-sig")
        columns = [name for name in (column, *optional) if name in frame]
        cells = pd.read_csv(path, usecols=columns, dtype=str, keep_default_na=False, encoding="utf-8-sig").astype(object)
        frame[columns] = cells[columns].apply(lambda texts: texts if texts.name == column else texts.map(lambda t: t or None))
        return frame
    lines = [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    if path.suffix == ".txt":
        return pd.DataFrame({column: lines})
    rows = [json.loads(line) for line in lines]  # line by line: a text that looks like a number or a date stays a text
    if not all(isinstance(row, Mapping) for row in rows):
        raise ValueError("every line must be an object")
    return pd.DataFrame(rows)
