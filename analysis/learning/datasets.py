"""Labelled data to learn from: images or texts of any source that `datasets` reads, with rows held out."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from analysis import limits
from analysis.files import columns, run_folder, tables

DIGITS = "digits"
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
    found = list(columns.load(name))
    for column in ("image", "text"):
        if column in found:
            return column, column == "image"
    raise ValueError(f"{name}: say with --text-column or --image-column what to learn from; it has {', '.join(found[:20])}")


def identity(source: Source) -> dict[str, Any]:
    """Return the identity of a source, ready for JSON: a digest of a file, or of all files in a folder."""
    path = Path(source.data)
    if source.data == DIGITS or not path.exists():
        return source._asdict()
    digest = run_folder.digest(path) if path.is_file() else _digest(path)
    return source._asdict() | {"data": f"{path.absolute().name} (sha256 {digest})"}


def check_apart(source: Source, folder: Path) -> None:
    """Refuse to write into the data, which would become others, and to read data from the folder that is written.

    Raises:
        ValueError: such a folder.
    """
    place = Path(source.data)
    if source.data == DIGITS or not place.exists():
        return
    if place.is_dir() and folder.resolve().is_relative_to(place.resolve()):
        raise ValueError(f"--out must lie outside the folder of --data, {place}, got {folder}; choose another --out")
    run_folder.check_apart(folder, "--data", place)


def read_images(source: Source, *, seed: int = 0) -> Data:
    """Return images, grey, scaled to one size.

    A cell is an image, the bytes of a file of one, `{bytes, path}`, or numbers: [H][W], [H][W][1 or 3], [1 or 3][H][W], or a
    square in one row. Numbers are mapped to [−1, 1] by the least and the largest of the column.

    Raises:
        ValueError: no such source or column, cells that are no images, one label only, or too few rows.
    """
    if source.data == DIGITS:
        from sklearn.datasets import load_digits

        found = load_digits()
        limits.check_memory(f"--image-size {source.size:.3g} of {len(found.images)} images", len(found.images) * source.size**2)
        values = torch.stack([_scaled(image / 8.0 - 1, source.size) for image in found.images])
        return _split(source, values, [str(label) for label in found.target], seed)
    cells, labels = _cells(source)
    limits.check_memory(f"--image-size {source.size:.3g} of {len(cells)} images", len(cells) * source.size**2)
    read = []
    for i, cell in enumerate(cells):
        if cell is None or (isinstance(cell, dict) and not any(cell.values())):
            raise ValueError(f"{source.data}: row {i + 1} has no image in the column {source.column!r}")
        try:
            read.append(_read_image(cell, Path(source.data).parent))
        except Exception as error:  # what PIL raises for files that are broken is of many types
            path = cell.get("path") if isinstance(cell, dict) else None
            row = f"row {i + 1}" + (f", {Path(path).name}" if path else "")
            why = f"{error}" if isinstance(error, ValueError) else "not a file of an image, or not the whole of one"
            raise ValueError(f"{source.data}: the column {source.column!r} holds no images ({row}: {why})") from error
    return _split(source, torch.stack(_on_one_scale(source, read)), labels, seed)


def read_texts(source: Source, *, seed: int = 0) -> Data:
    """Return texts.

    Raises:
        ValueError: no such source or column, cells that are no texts, one label only, or too few rows.
    """
    if source.data == DIGITS:
        raise ValueError("digits are images; give a file of texts, or a name on the hub")
    cells, labels = _cells(source)
    return _split(source, *tables.texts(source.data, source.column, cells, labels), seed)


def check_varied(source: Source, data: Data) -> None:
    """Refuse data whose held-out rows are all alike within every label, to which no spread can be compared.

    Raises:
        ValueError: such data.
    """
    rows = map(tuple, data.held.flatten(1).tolist()) if isinstance(data.held, Tensor) else data.held
    labels = data.held_labels.tolist()
    if len(set(zip(rows, labels, strict=True))) == len(set(labels)):
        raise ValueError(f"{source.data}: the rows held out, {len(labels)} in all, are all alike within their labels")


def _cells(source: Source) -> tuple[Sequence[Any], list[str]]:
    """Return the cells of the column, and their labels' names."""
    table = columns.load(source.data)
    for option, name in (("column", source.column), ("--label-column", source.label)):
        if name not in table:
            raise ValueError(f"{source.data}: no {option} {name!r}; it has {', '.join(list(table)[:20])}")
    return table[source.column], tables.labels(source.data, source.label, table[source.label])


def _digest(folder: Path) -> str:
    """Return the identity of a folder: a digest of the names and contents of its files."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            found.update(f"{path.relative_to(folder)}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()[:16]


def _read_image(cell: Any, folder: Path) -> Any:
    """Return a picture of PIL, or numbers [H, W] or [H, W, 3]; paths are relative to a folder."""
    if isinstance(cell, dict):
        cell = cell.get("bytes") or (folder / cell["path"]).read_bytes()
    if isinstance(cell, bytes):
        from datasets import Image

        return Image().decode_example({"bytes": cell, "path": None})
    try:
        array = np.asarray(cell, dtype=np.float32)
    except (TypeError, ValueError):
        raise ValueError("neither an image nor numbers in rows of one length") from None
    if not np.isfinite(array).all():
        raise ValueError("numbers that are missing or not finite")
    shape, side = array.shape, math.isqrt(array.size)
    if array.size and array.ndim == 1 and side**2 == array.size:
        return array.reshape(side, side)
    if array.ndim == 3 and shape[2] not in (1, 3) and shape[0] in (1, 3):
        array = np.moveaxis(array, 0, 2)
    if not array.size or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,)):
        raise ValueError(f"numbers of the shape {list(shape)}, which is none of an image")
    return array[..., 0] if array.shape[2:] == (1,) else array


def _on_one_scale(source: Source, read: Sequence[Any]) -> list[Tensor]:
    """Return images [1, size, size] in [−1, 1]; numbers by the range of all of them."""
    arrays = [each for each in read if isinstance(each, np.ndarray)]
    low, high = (float(of([of(each) for each in arrays])) if arrays else 0.0 for of in (np.min, np.max))
    if arrays and not low < high:
        raise ValueError(f"{source.data}: every number in the column {source.column!r} is {low:g}")
    return [
        _scaled(_grey(2 * ((each - low) / (high - low)) - 1), source.size)
        if isinstance(each, np.ndarray)
        else _image(each, source.size)
        for each in read
    ]


def _grey(array: Any) -> Any:
    """Return [H, W] of colours [H, W, 3], weighted as PIL does, or what is grey as it is."""
    return array @ np.array([0.299, 0.587, 0.114], dtype=np.float32) if array.ndim == 3 else array


def _scaled(array: Any, size: int) -> Tensor:
    """Return [1, size, size] of [H, W], every number the mean of what it covers."""
    from PIL import Image

    scaled = Image.fromarray(np.asarray(array, dtype=np.float32)).resize((size, size), Image.Resampling.BOX)
    return torch.from_numpy(np.array(scaled))[None]


def _image(picture: Any, size: int) -> Tensor:
    from PIL import Image

    grey = picture.convert("L").resize((size, size), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(grey, dtype=np.float32) / 127.5 - 1)[None]


def _split(source: Source, rows: Any, labels: Sequence[str], seed: int) -> Data:
    """Keep the commonest labels, and hold out a share of every label's rows."""
    if source.most is not None and source.most < 2:
        raise ValueError(f"guidance needs two labels: --max-labels must be two at least, not {source.most}")
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
