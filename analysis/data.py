"""Labelled data to learn from: images or texts of any source that `datasets` reads, with rows held out."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pyarrow import parquet
from torch import Tensor

from analysis import results

DIGITS = "digits"
FORMATS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json"}
CELLS = {"keep_default_na": False, "na_values": [""]}  # of a .csv: only what is empty is missing, "NA" is a text
HELD, LEAST = 0.15, 10


class Source(NamedTuple):
    """Where data come from.

    data: a file (.parquet, .csv, .json, .jsonl), a folder of images with a folder a label, a name on the hub, or "digits".
    column: of the texts or the images.
    label: the column of the labels.
    most: how many labels to keep, the commonest; None for all.
    size: images are scaled to this many pixels a side.
    """

    data: str
    column: str
    label: str = "label"
    most: int | None = None
    size: int = 8


class Data(NamedTuple):
    """Rows with their labels.

    rows: images [n, 1, size, size] in [−1, 1], or n texts.
    labels: [n], in 0 … K − 1.
    names: of the labels, K.
    held: as many of both that are kept out of training.
    held_labels: [m].
    """

    rows: Any
    labels: Tensor
    names: tuple[str, ...]
    held: Any
    held_labels: Tensor


def kind_of(name: str, text_column: str | None = None, image_column: str | None = None) -> tuple[str, bool]:
    """Return the column to learn from, and whether it holds images.

    Raises:
        ValueError: data that cannot be read, or that have neither a column `image` nor `text` where none is named.
    """
    if name == DIGITS:
        return "image", True
    if text_column or image_column:
        return text_column or image_column or "", image_column is not None
    columns = _load(name).column_names
    for column in ("image", "text"):
        if column in columns:
            return column, column == "image"
    raise ValueError(f"{name}: say with --text-column or --image-column what to learn from; it has {', '.join(columns[:20])}")


def identity(source: Source) -> dict[str, Any]:
    """Return what tells a source from others, ready for JSON."""
    path = Path(source.data)
    return source._asdict() | ({"data": f"{path.name} (sha256 {results.digest(path)})"} if path.is_file() else {})


def read_images(source: Source, *, seed: int = 0) -> Data:
    """Return images, grey, scaled to one size.

    Raises:
        ValueError: no such source or column, cells that are no images, one label only, or too few rows.
    """
    if source.data == DIGITS:
        from sklearn.datasets import load_digits

        found = load_digits()
        values = torch.from_numpy(found.images / 8.0 - 1).float()[:, None]
        return _split(source, values, [str(label) for label in found.target], seed)
    cells, labels = _cells(source)
    try:
        values = torch.stack([_image(cell, source.size) for cell in cells])
    except (TypeError, ValueError, AttributeError, OSError) as error:
        raise ValueError(f"{source.data}: the column {source.column!r} holds no images ({error})") from error
    return _split(source, values, labels, seed)


def read_texts(source: Source, *, seed: int = 0) -> Data:
    """Return texts.

    Raises:
        ValueError: no such source or column, cells that are no texts, one label only, or too few rows.
    """
    if source.data == DIGITS:
        raise ValueError("digits are images; give a file of texts, or a name on the hub")
    cells, labels = _cells(source)
    for i, cell in enumerate(cells):
        if not isinstance(cell, str):
            raise ValueError(f"{source.data}: row {i + 1} has no text in the column {source.column!r}")
    kept = [i for i, cell in enumerate(cells) if cell.strip()]
    return _split(source, [cells[i].strip() for i in kept], [labels[i] for i in kept], seed)


def _cells(source: Source) -> tuple[Sequence[Any], list[str]]:
    """Return the cells of the column, and their labels' names."""
    import datasets

    table = _load(source.data)
    for option, name in (("column", source.column), ("--label-column", source.label)):
        if name not in table.column_names:
            raise ValueError(f"{source.data}: no {option} {name!r}; it has {', '.join(table.column_names[:20])}")
    feature = table.features[source.label]
    cells, labels = list(table[source.column]), list(table[source.label])
    for i, label in enumerate(labels):
        if label in (None, "") or label != label:
            raise ValueError(f"{source.data}: row {i + 1} has no label in the column {source.label!r}")
    if isinstance(feature, datasets.ClassLabel):
        labels = [feature.int2str(label) for label in labels]
    return cells, list(map(str, labels))


def _load(name: str) -> Any:
    """Return the rows of a source that are for training."""
    import datasets

    path = Path(name)
    if path.suffix in FORMATS and not path.is_file():
        raise ValueError(f"no file {name}")
    if path.is_file() and path.suffix not in FORMATS:
        raise ValueError(f"{name}: data are read from {', '.join(FORMATS)}, a folder of images, or the hub")
    datasets.disable_progress_bars()
    try:
        if path.suffix == ".parquet" and not parquet.read_metadata(path).num_rows:
            raise StopIteration
        if path.is_dir():
            return datasets.load_dataset("imagefolder", data_dir=name, split="train")
        if path.is_file():
            cells = CELLS if path.suffix == ".csv" else {}
            return datasets.load_dataset(FORMATS[path.suffix], data_files=name, split="train", **cells)
        return datasets.load_dataset(name, split="train")
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, StopIteration) or "corresponds to no data" in str(cause):  # as datasets says it
            raise ValueError(f"{name}: no rows") from error
        reason = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise ValueError(f"cannot read the data {name}: {reason}") from error


def _image(cell: Any, size: int) -> Tensor:
    from PIL import Image

    picture = cell if isinstance(cell, Image.Image) else Image.fromarray(np.asarray(cell, dtype=np.uint8))
    grey = picture.convert("L").resize((size, size), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(grey, dtype=np.float32) / 127.5 - 1)[None]


def _split(source: Source, rows: Any, labels: Sequence[str], seed: int) -> Data:
    """Keep the commonest labels, and hold out a share of every label's rows."""
    counts = Counter(labels)
    common = sorted(counts, key=lambda name: (-counts[name], name))[: source.most]
    names = tuple(sorted((name for name in common if counts[name] >= LEAST), key=lambda name: (len(name), name)))
    if len(names) < 2:
        raise ValueError(
            f"{source.data}: guidance needs two labels of {LEAST} rows at least; the column {source.label!r} has "
            f"{', '.join(f'{name!r} {n} times' for name, n in counts.most_common(5))}"
        )
    generator = torch.Generator().manual_seed(seed)
    train: list[int] = []
    held: list[int] = []
    every = np.asarray(labels)
    for name in names:
        own = np.flatnonzero(every == name)
        own = own[torch.randperm(len(own), generator=generator).numpy()]
        cut = max(1, round(HELD * len(own)))
        held += own[:cut].tolist()
        train += own[cut:].tolist()
    code = torch.tensor([names.index(name) if name in names else -1 for name in labels])
    parts = [rows[torch.tensor(part)] if isinstance(rows, Tensor) else [rows[i] for i in part] for part in (train, held)]
    return Data(parts[0], code[train], names, parts[1], code[held])
