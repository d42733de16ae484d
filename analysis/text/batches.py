"""Cut prompts into batches, and name the files of their completions."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.files import run_folder
from analysis.text.completions import Completion
from analysis.text.tokens import Encoded, Request

TRIED = ".tries"  # of the file beside that of a batch, with a byte per process that began it


def batches(prompts: Sequence[Request], size: int) -> list[pd.DataFrame]:
    """Return one frame per batch, with the columns batch, index, prompt, negative and scale."""
    frame = pd.DataFrame(prompts).astype({"prompt": object, "negative": object, "scale": float})
    frame.insert(0, "index", range(len(frame)))
    frame.insert(0, "batch", frame["index"] // size)
    return [rows for _, rows in frame.groupby("batch")]


def completed(index: Sequence[int], prompts: Sequence[Encoded], done: Sequence[Sequence[Completion]]) -> pd.DataFrame:
    """Return the completions of a batch, one row each.

    Args:
        index: the rows of the prompts in their file.
        prompts: the prompts.
        done: the completions of every prompt.
    """
    return pd.DataFrame(
        {"index": row, "sample": sample, "scale": prompt.scale} | completion.record()
        for row, prompt, completions in zip(index, prompts, done, strict=True)
        for sample, completion in enumerate(completions)
    )


def part(folder: Path, batch: int) -> tuple[Path, str]:
    """Return the file of a batch and its identity, which differs between batches and runs."""
    return folder / f"{batch:08}.parquet", run_folder.part_of(folder, str(batch))
