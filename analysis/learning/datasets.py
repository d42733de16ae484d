"""Read labelled images or texts of any source that `datasets` reads, and split them into training and held-out rows."""

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
COLOURS = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # the weights of red, green and blue in grey
HELD, LEAST = 0.15, 10  # the share of rows that is held out, and the smallest number of rows per label


class Source(NamedTuple):
    """A source of data.

    Attributes:
        data: a file (.parquet, .csv, .json, .jsonl), a folder of images with one folder per label, a name on the hub, or
            "digits".
        column: of the texts or the images.
        label: the column of the labels.
        most: number of labels to keep, the most frequent ones; None for all.
        size: pixels per side of a scaled image.
        letters: number of characters that are kept of a text, from its beginning; None for all.
    """

    data: str
    column: str
    label: str = "label"
    most: int | None = None
    size: int = 8
    letters: int | None = None


class Data(NamedTuple):
    """Rows with their labels.

    Attributes:
        rows: images [n, 1, size, size] in [−1, 1], or n texts.
        labels: [n], in 0 … K − 1.
        names: of the K labels.
        held: m held-out rows.
        held_labels: [m].
    """

    rows: Any
    labels: Tensor
    names: tuple[str, ...]
    held: Any
    held_labels: Tensor


def kind_of(name: str, text_column: str | None = None, image_column: str | None = None) -> tuple[str, bool]:
    """Return the column to learn from, and whether it holds images.

    Args:
        name: of the data, see `Source`.
        text_column: the column, if it holds texts.
        image_column: the column, if it holds images.

    Raises:
        ValueError: the data cannot be read, or no column is named and none is called `image` or `text`.
    """
    if name == DIGITS:
        return "image", True
    if text_column or image_column:
        return text_column or image_column or "", image_column is not None
    found = list(columns.load(name))
    for column in ("image", "text"):
        if column in found:
            return column, column == "image"
    raise ValueError(
        f"{name} must have a column image or text, got {', '.join(found[:20])}; try --text-column or --image-column"
    )


def identity(source: Source) -> dict[str, Any]:
    """Return the identity of a source, ready for JSON: a digest of a file, or of all files in a folder."""
    path = Path(source.data)
    if source.data == DIGITS or not path.exists():
        return source._asdict()
    digest = run_folder.digest(path) if path.is_file() else _digest(path)
    return source._asdict() | {"data": f"{path.absolute().name} (sha256 {digest})"}


def check_apart(source: Source, folder: Path) -> None:
    """Check that neither the data lie in the folder of the results, nor that folder among the data, which would change them.

    Raises:
        ValueError: one lies in the other.
    """
    place = Path(source.data)
    if source.data == DIGITS or not place.exists():
        return
    if place.is_dir() and folder.resolve().is_relative_to(place.resolve()):
        raise ValueError(f"--out must lie outside the folder of --data, {place}, got {folder}; choose another --out")
    run_folder.check_apart(folder, "--data", place)


def read_images(source: Source, *, seed: int = 0) -> Data:
    """Return grey images, scaled to one size.

    A cell is an image, the bytes of an image file, `{bytes, path}`, or numbers: [H][W], [H][W][1 or 3], [1 or 3][H][W], or all
    pixels of a square in one list. Numbers are mapped to [−1, 1] by the minimum and maximum of the column.

    Raises:
        ValueError: no such source or column, cells that are no images, a single label, or too few rows.
    """
    cells, labels = _cells(source)
    limits.check_memory(f"--image-size {source.size:.3g} of {len(cells)} images", len(cells) * source.size**2)
    read = [_read_cell(source, i, cell) for i, cell in enumerate(cells)]
    return _split(source, torch.stack(_on_one_scale(source, read)), labels, seed)


def read_texts(source: Source, *, seed: int = 0) -> Data:
    """Return texts.

    Raises:
        ValueError: no such source or column, cells that are no texts, a single label, or too few rows.
    """
    if source.data == DIGITS:
        raise ValueError("the data must be texts, but digits are images; try a file of texts, or a name on the hub")
    cells, labels = _cells(source)
    texts, kept = tables.texts(source.data, source.column, cells, labels)
    return _split(source, [text[: source.letters].strip() for text in texts], kept, seed)


def check_varied(source: Source, data: Data) -> None:
    """Check that some label has different held-out rows, without which no spread can be measured.

    Raises:
        ValueError: all held-out rows of every label are equal.
    """
    rows = map(tuple, data.held.flatten(1).tolist()) if isinstance(data.held, Tensor) else data.held
    labels = data.held_labels.tolist()
    if len(set(zip(rows, labels, strict=True))) == len(set(labels)):
        raise ValueError(
            f"{source.data} must have different rows within a label, got equal ones in all {len(labels)} held-out rows"
        )


def _cells(source: Source) -> tuple[Sequence[Any], list[str]]:
    """Return the cells of the column, and the names of their labels."""
    if source.data == DIGITS:
        from sklearn.datasets import load_digits

        found = load_digits()
        return found.images, [str(label) for label in found.target]
    table = columns.load(source.data)
    for option, name in (("column", source.column), ("--label-column", source.label)):
        if name not in table:
            raise ValueError(f"{source.data}: no {option} {name!r}; it has {', '.join(list(table)[:20])}")
    return table[source.column], tables.labels(source.data, source.label, table[source.label])


def _digest(folder: Path) -> str:
    """Return a digest of the names and contents of all files in a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return run_folder.digest("".join(f"{path.relative_to(folder)}\0{run_folder.digest(path)}\n" for path in paths).encode())


def _read_cell(source: Source, i: int, cell: Any) -> Any:
    """Return the image of a row as a picture of PIL, or as numbers [H, W] or [H, W, 3].

    Raises:
        ValueError: the cell is no image; the message names its row.
    """
    if cell is None or (isinstance(cell, dict) and not any(cell.values())):
        raise ValueError(f"{source.data}: row {i + 1} has no image in the column {source.column!r}")
    try:
        return _read_image(cell, Path(source.data).parent)
    except Exception as error:  # PIL raises errors of many types for broken files
        path = cell.get("path") if isinstance(cell, dict) else None
        row = f"row {i + 1}" + (f", {Path(path).name}" if path else "")
        why = f"{error}" if isinstance(error, ValueError) else "not an image file, or only a part of one"
        raise ValueError(
            f"{source.data}: the column {source.column!r} must hold images, got another cell ({row}: {why})"
        ) from error


def _read_image(cell: Any, folder: Path) -> Any:
    """Return a picture or numbers, see `_read_cell`; paths are relative to a folder."""
    if isinstance(cell, dict):
        cell = cell.get("bytes") or (folder / cell["path"]).read_bytes()
    if isinstance(cell, bytes):
        from datasets import Image

        return Image().decode_example({"bytes": cell, "path": None})
    try:
        array = np.asarray(cell, dtype=np.float32)
    except (TypeError, ValueError):
        raise ValueError("neither an image nor numbers in rows of equal length") from None
    if not np.isfinite(array).all():
        raise ValueError("missing or infinite numbers")
    shape, side = array.shape, math.isqrt(array.size)
    if array.ndim == 1 and side**2 == array.size:
        array = array.reshape(side, side)
    if array.ndim == 3 and shape[2] not in (1, 3) and shape[0] in (1, 3):
        array = np.moveaxis(array, 0, 2)
    if not array.size or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,)):
        raise ValueError(f"the shape of an image must be [H, W], [H, W, 1 or 3] or [1 or 3, H, W], got {list(shape)}")
    return array[..., 0] if array.shape[2:] == (1,) else array


def _on_one_scale(source: Source, images: Sequence[Any]) -> list[Tensor]:
    """Return grey images [1, size, size] in [−1, 1]; numbers are scaled by the range of all of them.

    Every pixel is the mean of the area that it covers. Colours have the weights that PIL gives them.
    """
    from PIL import Image

    arrays = [each for each in images if isinstance(each, np.ndarray)]
    low, high = (float(of([of(each) for each in arrays])) if arrays else 0.0 for of in (np.min, np.max))
    if arrays and not low < high:
        raise ValueError(f"{source.data}: the column {source.column!r} must hold different numbers, got {low:g} everywhere")

    def scaled(picture: Any) -> Any:
        return np.array(picture.resize((source.size, source.size), Image.Resampling.BOX), dtype=np.float32)

    def grey(image: Any) -> Any:
        if not isinstance(image, np.ndarray):
            return scaled(image.convert("L")) / 127.5 - 1
        values = 2 * ((image - low) / (high - low)) - 1
        return scaled(Image.fromarray(values @ COLOURS if values.ndim == 3 else values))

    return [torch.from_numpy(grey(image))[None] for image in images]


def _split(source: Source, rows: Any, labels: Sequence[str], seed: int) -> Data:
    """Keep the most frequent labels, and hold out a share of every label's rows."""
    if source.most is not None and source.most < 2:
        raise ValueError(f"--max-labels must be 2 at least, for guidance, got {source.most}")
    counts = Counter(labels)
    common = sorted(counts, key=lambda name: (-counts[name], name))[: source.most]
    names = tuple(sorted((name for name in common if counts[name] >= LEAST), key=lambda name: (len(name), name)))
    if len(names) < 2:
        got = ", ".join(f"{name!r} {n} times" for name, n in counts.most_common(5))
        raise ValueError(f"{source.data}: the column {source.label!r} must have two labels of {LEAST} rows at least, got {got}")
    generator = torch.Generator().manual_seed(seed)
    code = torch.tensor([names.index(name) if name in names else -1 for name in labels])
    train, held = [], []
    for label in range(len(names)):
        own = (code == label).nonzero()[:, 0]
        own = own[torch.randperm(len(own), generator=generator)]
        cut = max(1, round(HELD * len(own)))
        held.append(own[:cut])
        train.append(own[cut:])
    parts = [torch.cat(part) for part in (train, held)]
    kept, rest = (rows[part] if isinstance(rows, Tensor) else [rows[i] for i in part.tolist()] for part in parts)
    return Data(kept, code[parts[0]], names, rest, code[parts[1]])
