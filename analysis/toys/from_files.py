r"""Toys from files: exact laws of real data.

* `.npy`: a joint table [y, x_1, …, x_T];
* `.csv`, `.parquet` of discrete columns, one of them the label: a `Table` of counts;
* `.csv`, `.parquet`, `.json`, `.jsonl` of a text and a label column, or lines "label<tab>text": a `MarkovChain` of
  characters a class.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.files import paths, tables
from analysis.toys import checks
from analysis.toys.chain import MarkovChain
from analysis.toys.table import Table

MAX_CELLS = 20_000_000
END = "\x03"


def read_table(path: Path, *, label_column: str | None = None, smoothing: float = 0.0) -> Table:
    """Return the table in a file.

    Args:
        path: `.npy`, `.csv` or `.parquet`.
        label_column: the column of y; every other column is a variable, in their order. For `.csv` and `.parquet`.
        smoothing: added to the count of every cell.

    Raises:
        ValueError: a file that is empty, malformed or not of these kinds, a missing column, too many cells.
    """
    if path.suffix == ".npy":
        return Table(_load_npy(path))
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{path.name}: a file must end in .npy, .csv or .parquet")
    frame = tables.read(path)
    if label_column is None:
        raise ValueError(
            f"{path.name}: say which column is the label with --label-column; it has {', '.join(frame.columns[:20])}"
        )
    tables.check_columns(path.name, frame, label_column)
    return _count_table(path, frame, label_column, smoothing)


def read_chain(
    path: Path,
    *,
    text_column: str = "text",
    label_column: str = "label",
    smoothing: float = 5.0,
    length: int | None = None,
    least: int = 20,
) -> MarkovChain:
    """Return character chains by counts, one a label, and the pooled one as p(x).

    Every text ends in a state that is never left, so all texts of up to `length` − 1 characters are sequences of one
    length. Text is stripped and lower-cased; characters seen fewer than `least` times become "□".

    Args:
        path: `.csv`, `.parquet`, `.json` or `.jsonl` with the two columns, or a text file of lines "label<tab>text".
        smoothing: strength of the pooled chain as a prior, p(j | i, y) = (n_y(i, j) + smoothing·p(j | i)) / (n_y(i) +
            smoothing): where a label has seen nothing it says what all labels say. Pooled counts are raised by 0.1 each.
        length: T; one more than the longest text by default.

    Raises:
        ValueError: a file that is empty or malformed, a missing column, a row without a text or a label.
    """
    frame = tables.read(path, lines=("label", "text"))
    tables.check_columns(path.name, frame, text_column, label_column)
    _check_smoothing(smoothing)
    checks.integer("least", least, 0), checks.integer("length", 1 if length is None else length)
    every = tables.labels(path.name, label_column, frame[label_column].tolist())
    texts, names = map(pd.Series, tables.texts(path.name, text_column, frame[text_column].tolist(), every))
    texts = texts.str.lower()
    seen = texts.str.split("").explode().value_counts().drop("", errors="ignore")
    alphabet = [*sorted(seen[seen >= least].index), "□", END]
    code = {char: i for i, char in enumerate(alphabet)}
    rare, end = code["□"], code[END]
    labels = sorted(names.unique())
    counts = np.zeros((len(labels), len(alphabet) + 1, len(alphabet)))
    for label, text in zip(names.map(labels.index), texts, strict=True):
        codes = [len(alphabet), *(code.get(char, rare) for char in text), end]
        np.add.at(counts[label], (codes[:-1], codes[1:]), 1)
    longest = int(texts.str.len().max())
    pooled = _smoothed(torch.from_numpy(counts.sum(0)), 0.1, end)
    chains = _smoothed(torch.from_numpy(counts), smoothing * pooled, end)
    return MarkovChain(
        chains[:, -1],
        chains[:, :-1],
        longest + 1 if length is None else length,
        unconditional=(pooled[-1], pooled[:-1]),
        labels=tuple(labels),
    )


def digits_table(pixels: int = 10, smoothing: float = 0.02) -> tuple[Table, Tensor]:
    """Return a table of real 8×8 digits and the pixels it uses: y = digit, x_t = pixel brighter than 7 of 16, in raster order.

    Every cell's count is raised by `smoothing`. The pixels are chosen greedily, each to raise the information that the set
    holds on the digit most, I(x_S; y) of the counts: neighbours that repeat each other are passed over.

    Source: scikit-learn `load_digits` (1,797 images of the UCI optical digits).
    """
    from sklearn.datasets import load_digits

    checks.integer("pixels", pixels, 1, 64)

    data = load_digits()
    bright = (data.data > 7).astype(np.int64)
    chosen: list[int] = []
    for _ in range(pixels):
        gains = {p: _information(bright[:, [*chosen, p]], data.target) for p in range(64) if p not in chosen}
        chosen.append(max(gains, key=lambda p: gains[p]))
    chosen.sort()
    frame = pd.DataFrame(bright[:, chosen], columns=[f"pixel {p // 8},{p % 8}" for p in chosen])
    frame["digit"] = data.target
    return _count_table(Path("digits"), frame, "digit", smoothing), torch.tensor(chosen)


def _load_npy(path: Path) -> np.ndarray:
    with paths.readable(path, EOFError, BadZipFile, MemoryError), path.open("rb") as file:  # a header may claim any size
        table = np.load(file, allow_pickle=False)
    if not isinstance(table, np.ndarray) or table.dtype.kind not in "fiu":
        raise ValueError(f"{path.name}: a table of numbers is needed")
    return table.astype(np.float64)


def _count_table(path: Path, frame: pd.DataFrame, label_column: str, smoothing: float) -> Table:
    _check_smoothing(smoothing)
    variables = [name for name in frame.columns if name != label_column]
    if not variables or frame.isna().any(axis=None):
        raise ValueError(f"{path.name}: needs at least one column beside the label, and no missing values")
    names = tables.labels(path.name, label_column, frame[label_column].tolist())
    try:
        coded = {name: _coded(frame[name].tolist()) for name in [label_column, *variables]}
    except TypeError as error:
        raise ValueError(f"{path.name}: a column holds lists or records; columns must be discrete values") from error
    shape = tuple(len(values) for _, values in coded.values())
    if np.prod(shape, dtype=float) > MAX_CELLS:
        raise ValueError(f"{path.name}: the columns span {np.prod(shape, dtype=float):.3g} cells, more than {MAX_CELLS:,}")
    counts = np.full(shape, float(smoothing))
    np.add.at(counts, tuple(codes for codes, _ in coded.values()), 1.0)
    values = [list(coded[name][1]) for name in variables]
    name_of = dict(zip(coded[label_column][0].tolist(), names, strict=True))
    return Table(counts / counts.sum(), labels=[name_of[code] for code in range(shape[0])], values=values)


def _coded(cells: Sequence[Any]) -> tuple[np.ndarray, Sequence[Any]]:
    """Return the code of every cell, and what the codes stand for in order: numbers where all are, texts otherwise."""
    codes, values = pd.factorize(pd.Series(tables.numbers(cells)), sort=True)
    return np.asarray(codes), list(values)


def _check_smoothing(smoothing: float) -> None:
    checks.not_negative("smoothing", smoothing)


def _smoothed(counts: Tensor, smoothing: float | Tensor, end: int) -> Tensor:
    """Return rows of probabilities, [..., V + 1, V]; the end state stays where it is."""
    raised = counts + smoothing
    raised[..., end, :] = 0.0
    raised[..., end, end] = 1.0
    total = raised.sum(-1, keepdim=True)
    return torch.where(total > 0, raised / total, 1 / counts.shape[-1])


def _information(codes: np.ndarray, target: np.ndarray) -> float:
    """Return I(x_S; y) of the counts in nats."""
    cells = codes @ (1 << np.arange(codes.shape[1]))
    _, joint = np.unique(cells * 16 + target, return_counts=True)
    _, cell = np.unique(cells, return_counts=True)
    _, label = np.unique(target, return_counts=True)
    return _entropy(cell) + _entropy(label) - _entropy(joint)


def _entropy(counts: Sequence[int] | np.ndarray) -> float:
    p = np.asarray(counts) / np.sum(counts)
    return float(-(p * np.log(p)).sum())
