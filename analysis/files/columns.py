"""Read labelled data as columns: from a file, a folder of images, or a data set on the hub. Paths are literal, not patterns."""

import glob
import tempfile
from pathlib import Path
from typing import Any

from analysis.files import paths


def load(name: str) -> dict[str, list[Any]]:
    """Return the columns of the training rows.

    Raises:
        ValueError: data that are missing, empty or malformed.
    """
    paths.check_data(name)
    try:
        return (
            _read_file(Path(name)) if Path(name).is_file() else _read_images(name) if Path(name).is_dir() else _read_hub(name)
        )
    except Exception as error:  # `datasets` raises errors of many types
        cause = error.__cause__ or error
        if isinstance(cause, StopIteration) or "corresponds to no data" in str(cause):  # the words of `datasets`
            raise ValueError(f"{name}: no rows") from error
        raise ValueError(f"cannot read the data {name}: {paths.first_line(cause)}") from error


def _read_file(path: Path) -> dict[str, list[Any]]:
    from analysis.files import tables

    return {str(name): cells.tolist() for name, cells in tables.read(path).items()}


def _read_images(folder: str) -> dict[str, list[Any]]:
    """Read a folder without the cache of `datasets`, which misses new contents of a file with its old time.

    `datasets` takes the path for a pattern, so it is escaped; and finds nothing behind a link then, so it is resolved.
    """
    with tempfile.TemporaryDirectory() as cache:
        return _read_hub("imagefolder", data_dir=glob.escape(str(Path(folder).resolve())), cache_dir=cache, keep_in_memory=True)


def _read_hub(name: str, **options: Any) -> dict[str, list[Any]]:
    import datasets

    from analysis.files import tables

    datasets.disable_progress_bars()
    table = datasets.load_dataset(name, split="train", **options)
    for column, feature in table.features.items():
        if isinstance(feature, datasets.Image):  # decoded later, so that an error can name the row
            table = table.cast_column(column, datasets.Image(decode=False))
    names = {column: getattr(feature, "names", None) for column, feature in table.features.items()}
    return {column: tables.named(list(table[column]), names[column]) for column in table.column_names}
