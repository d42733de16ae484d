"""Read files of prompts; a row may have a negative prompt and a scale of its own."""

import math
from pathlib import Path

import pandas as pd
import pyarrow as pa

from analysis.files import paths
from analysis.files.tables import missing, read_texts
from analysis.text.joint_draws import DIAGNOSIS
from analysis.text.tokens import Request

OWN = ("index", "sample", "completion", "tokens")  # columns that the output adds


def read_prompts(path: Path, *, joint: bool = False) -> pd.DataFrame:
    """Return a frame with a column `prompt`, and all other columns of the file.

    Args:
        path: `.txt` with one prompt per line, or a file whose suffix is one of `paths.TABLES`, with a column `prompt` and,
            optionally, `negative` and `scale`; a row without those uses the ones of the command.
        joint: whether the output also has the diagnosis of the joint law, whose columns the file must not have.

    Raises:
        ValueError: a file that is missing, empty, malformed or has another suffix, or an unsuitable column.
    """
    frame = read_texts(path, "prompt", ("negative",))
    for name in (*OWN, *DIAGNOSIS) if joint else OWN:
        if name in frame:
            raise ValueError(f"{path.name}: the output has a column {name!r} of its own; rename the one in the file")
    for i, value in enumerate(frame.get("scale", [])):
        if not (missing(value) or (isinstance(value, int | float) and math.isfinite(value))):
            raise ValueError(f"{path.name}: row {i + 1} has the scale {value!r}, not a finite number")
    try:
        pa.Table.from_pandas(frame)
    except (pa.ArrowException, TypeError, ValueError) as error:  # it would fail at the end, with the work done
        raise ValueError(f"{path.name}: a column cannot be written to parquet ({paths.first_line(error)})") from error
    return frame


def requests(frame: pd.DataFrame, negative: str | None, scale: float) -> list[Request]:
    """Return one request per row.

    Args:
        frame: the prompts, see `read_prompts`.
        negative: the negative prompt of the rows that have none.
        scale: γ of the rows that have none.
    """
    rows = frame.reindex(columns=["prompt", "negative", "scale"]).to_numpy(dtype=object).tolist()
    return [
        Request(prompt, negative if missing(away) else away, scale if missing(own) else float(own))
        for prompt, away, own in rows
    ]
