"""The columns of labelled data, as lists: of a file, of a folder of images, or of a data set on the hub. Paths are literal."""

import glob
import tempfile
from pathlib import Path
from typing import Any

SUFFIXES = (".parquet", ".csv", ".json", ".jsonl")
TEXTS = (".txt", ".csv", ".parquet", ".jsonl")  # of texts without labels


def check(name: str) -> None:
    """Refuse data that are not there, before anything slow; a name on the hub is looked up later.

    Raises:
        ValueError: no name, no such file, or a file of another kind.
    """
    path = Path(name)
    if not name:
        raise ValueError("--data must name a file, a folder or a data set on the hub, got an empty text; try digits")
    if path.suffix in SUFFIXES and not path.is_file():
        raise ValueError(f"no file {name}")
    if local(name) and not path.exists():
        raise ValueError(f"no file or folder {name}")
    if path.is_file() and path.suffix not in SUFFIXES:
        raise ValueError(f"{name}: data are read from {', '.join(SUFFIXES)}, a folder of images, or the hub")


def local(name: str) -> bool:
    """Whether a name can only be a path: a name on the hub has at most one slash, and begins with neither "." nor "~"."""
    path = Path(name)
    return path.is_absolute() or name.startswith((".", "~")) or len(path.parts) > 2


def load(name: str) -> dict[str, list[Any]]:
    """Return the columns of the rows that are for training.

    Raises:
        ValueError: data that are missing, empty or malformed.
    """
    check(name)
    try:
        return _of_file(Path(name)) if Path(name).is_file() else _of_images(name) if Path(name).is_dir() else _of_hub(name)
    except Exception as error:  # datasets raises errors of many types
        cause = error.__cause__ or error
        if isinstance(cause, StopIteration) or "corresponds to no data" in str(cause):  # as datasets says it
            raise ValueError(f"{name}: no rows") from error
        reason = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise ValueError(f"cannot read the data {name}: {reason}") from error


def _of_file(path: Path) -> dict[str, list[Any]]:
    from analysis.files import tables

    return {str(name): cells.tolist() for name, cells in tables.read(path).items()}


def _of_images(folder: str) -> dict[str, list[Any]]:
    """Read a folder anew every time: a cache of `datasets` does not see a file with new contents and its old time.

    A pattern finds nothing behind a link, and an escaped name is a pattern: a link is resolved first.
    """
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        options = {"data_dir": glob.escape(str(Path(folder).resolve())), "cache_dir": cache, "keep_in_memory": True}
        return _of_table(datasets.load_dataset("imagefolder", split="train", **options))


def _of_hub(name: str) -> dict[str, list[Any]]:
    import datasets

    datasets.disable_progress_bars()
    return _of_table(datasets.load_dataset(name, split="train"))


def _of_table(table: Any) -> dict[str, list[Any]]:
    import datasets

    for column, feature in table.features.items():
        if isinstance(feature, datasets.Image):  # decoded later, to tell which row cannot be
            table = table.cast_column(column, datasets.Image(decode=False))
    return {column: _named(list(table[column]), table.features[column]) for column in table.column_names}


def _named(cells: list[Any], feature: Any) -> list[Any]:
    """Return the names of labels that `datasets` has stored as numbers, and other cells as they are."""
    names = getattr(feature, "names", None)
    return cells if names is None else [None if cell is None or cell < 0 else names[cell] for cell in cells]
