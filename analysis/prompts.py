"""Files of prompts: text, .csv, .parquet or .jsonl, with a negative and a scale for every row if they have such columns."""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from analysis.completions import Request

OWN = ("index", "sample", "completion", "tokens")  # columns that the completions' file adds
TEXTS = ("prompt", "negative")


def read_prompts(path: Path) -> pd.DataFrame:
    """Return a frame with a column `prompt`, and all other columns of the file.

    Args:
        path: `.txt` with one prompt a line (empty lines are left out), or `.csv`, `.parquet` or `.jsonl` with a column
            `prompt`, and perhaps `negative` and `scale`; where those are missing, the command's own hold.

    Raises:
        ValueError: a file that is empty, malformed or of another kind, or a column that does not fit.
    """
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".txt": _read_lines,
        ".csv": _read_csv,
        ".parquet": pd.read_parquet,
        ".jsonl": read_jsonl,
    }
    if path.suffix not in readers:
        raise ValueError(f"{path.name}: a file of prompts must end in {', '.join(readers)}")
    if not path.is_file():
        raise ValueError(f"no file {path}")
    try:
        frame = readers[path.suffix](path).reset_index(drop=True)
    except (ValueError, OSError) as error:
        reason = (str(error).splitlines() or ["it is empty"])[0]
        raise ValueError(f"{path.name}: not a readable {path.suffix} file ({reason})") from error
    _check(path, frame)
    return frame


def requests(frame: pd.DataFrame, negative: str | None, scale: float) -> list[Request]:
    """Return a request a row, with this negative and scale where the row has none."""
    missing = pd.Series([None] * len(frame), dtype=object)
    negatives = frame.get("negative", missing).tolist()
    scales = frame.get("scale", missing).tolist()
    return [
        Request(prompt, negative if pd.isna(away) else away, scale if pd.isna(own) else float(own))
        for prompt, away, own in zip(frame["prompt"].tolist(), negatives, scales, strict=True)
    ]


def digest(path: Path) -> str:
    """Return what tells a file from others and from other versions of itself."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _read_lines(path: Path) -> pd.DataFrame:
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return pd.DataFrame({"prompt": [line for line in lines if line.strip()]})


def _read_csv(path: Path) -> pd.DataFrame:
    """Read the texts as they stand, "NA" too; an empty cell is no negative, but an empty prompt."""
    frame = pd.read_csv(path, encoding="utf-8-sig")
    columns = [name for name in TEXTS if name in frame]
    texts = pd.read_csv(path, usecols=columns, dtype=str, keep_default_na=False, encoding="utf-8-sig").astype(object)
    if "negative" in texts:
        texts["negative"] = texts["negative"].map(lambda text: text or None)
    frame[columns] = texts[columns]
    return frame


def read_jsonl(path: Path) -> pd.DataFrame:
    """Read line by line, so that a text that looks like a number or a date stays a text."""
    rows: list[Any] = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("every line must be an object")
    return pd.DataFrame(rows)


def _check(path: Path, frame: pd.DataFrame) -> None:
    if frame.empty:
        raise ValueError(f"{path.name}: the file has no prompts")
    names = list(map(str, frame.columns))
    if "prompt" not in names:
        raise ValueError(f"{path.name}: no column 'prompt'; it has {', '.join(names[:20])}")
    if taken := [name for name in OWN if name in names]:
        raise ValueError(f"{path.name}: the output has a column {taken[0]!r} of its own; rename the one in the file")
    for name, optional in zip(TEXTS, (False, True), strict=True):
        for i, value in enumerate(frame[name].tolist() if name in names else []):
            if not (isinstance(value, str) or (optional and _missing(value))):
                raise ValueError(f"{path.name}: row {i + 1} has no text in the column {name!r}")
    for i, value in enumerate(frame["scale"].tolist() if "scale" in names else []):
        if not (_missing(value) or (isinstance(value, int | float) and math.isfinite(value))):
            raise ValueError(f"{path.name}: row {i + 1} has the scale {value!r}, not a finite number")
    try:
        pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:  # found at the end otherwise, with the work done
        raise ValueError(f"{path.name}: a column cannot be written to parquet ({str(error).splitlines()[0]})") from error


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
