"""Files of prompts: text, .csv, .parquet or .jsonl, with a negative and a scale for every row if they have such columns."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from analysis.files.tables import missing, read_texts
from analysis.text.completions import TOLD, Request

OWN = ("index", "sample", "completion", "tokens")  # columns that the completions' file adds


def read_prompts(path: Path, *, joint: bool = False) -> pd.DataFrame:
    """Return a frame with a column `prompt`, and all other columns of the file.

    Args:
        path: `.txt` with one prompt a line (empty lines are left out), or `.csv`, `.parquet` or `.jsonl` with a column
            `prompt`, and perhaps `negative` and `scale`; where those are missing, the command's own hold.
        joint: whether the output will tell of the joint law too, in columns that the file must not have.

    Raises:
        ValueError: a file that is empty, malformed or of another kind, or a column that does not fit.
    """
    frame = read_texts(path, "prompt", ("negative",))
    _check(path, frame, (*OWN, *TOLD) if joint else OWN)
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


def _check(path: Path, frame: pd.DataFrame, own: Sequence[str]) -> None:
    names = list(map(str, frame.columns))
    if taken := [name for name in own if name in names]:
        raise ValueError(f"{path.name}: the output has a column {taken[0]!r} of its own; rename the one in the file")
    for i, value in enumerate(frame["scale"].tolist() if "scale" in names else []):
        if not (missing(value) or (isinstance(value, int | float) and math.isfinite(value))):
            raise ValueError(f"{path.name}: row {i + 1} has the scale {value!r}, not a finite number")
    try:
        pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:  # found at the end otherwise, with the work done
        raise ValueError(f"{path.name}: a column cannot be written to parquet ({str(error).splitlines()[0]})") from error
