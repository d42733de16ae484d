r"""Toys from files: exact laws of real data.

* `.npy`: a joint table [y, x_1, …, x_T];
* `.csv`, `.parquet` of discrete columns, one of them the label: a `Table` of counts;
* `.csv`, `.parquet`, `.json`, `.jsonl` with a text and a label column, or lines "label<tab>text": `NgramModels` of characters
  or pieces.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.files import paths, tables
from analysis.toys import checks
from analysis.toys.ngrams.models import NgramModels, codes_of
from analysis.toys.table import Table

MAX_CELLS = 20_000_000
RARE = "□"


def read_table(path: Path | str, *, label_column: str | None = None, smoothing: float = 0.0) -> Table:
    """Return the table in a file.

    Args:
        path: `.npy`, `.csv` or `.parquet`.
        label_column: the column of y in a `.csv` or `.parquet` file; every other column is a variable, in their order.
        smoothing: added to the count of every cell.

    Raises:
        ValueError: a file that is empty, malformed or not of these kinds, a missing column, or too many cells.

    Example:
        >>> pandas.DataFrame({"kind": ["ham", "spam", "spam"], "word": list("aab")}).to_csv("data.csv", index=False)
        >>> analysis.read_table("data.csv", label_column="kind").labels
        ('ham', 'spam')
    """
    path = paths.path_of(path)
    if path.suffix == ".npy":
        return Table(_load_npy(path))
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"file must end in .npy, .csv or .parquet, got {path.name}")
    frame = tables.read(path)
    if label_column is None:
        raise ValueError(
            f"{path.name}: label column must be given with --label-column; try one of {', '.join(frame.columns[:20])}"
        )
    tables.check_columns(path.name, frame, label_column)
    return _count_table(path, frame, label_column, smoothing)


def read_ngrams(
    path: Path | str,
    *,
    order: int,
    text_column: str = "text",
    label_column: str = "label",
    length: int | None = None,
    least: int = 20,
    max_labels: int | None = None,
    pieces: Callable[[str], Sequence[str]] | None = None,
    join: Callable[[list[str]], str] = "".join,
) -> NgramModels:
    """Return n-gram models by counts, one per label, and one of all texts as p(x).

    Args:
        path: `.csv`, `.parquet`, `.json` or `.jsonl` with the two columns, or a text file of lines "label<tab>text".
        order: n: the next token depends on the n − 1 tokens before it.
        text_column: the column of the texts.
        label_column: the column of the labels.
        length: T, the largest number of tokens of a text in the laws, with the ending token; one more than the longest text by
            default. Longer texts are counted too.
        least: tokens seen fewer times become "□".
        max_labels: keep the texts of the most frequent labels only.
        pieces: text ↦ its tokens, such as `tokenizer.tokenize`; the characters of the lower-cased text by default.
        join: tokens ↦ their text, such as `tokenizer.convert_tokens_to_string`, or `" ".join` for words.

    Raises:
        ValueError: a file that is empty or malformed, a missing column, a row without a text or a label, a single label, or
            more memory than the machine has.

    Example:
        >>> pandas.DataFrame({"text": ["abc", "bcd", "abd"], "label": ["x", "y", "x"]}).to_csv("texts.csv", index=False)
        >>> models = analysis.read_ngrams("texts.csv", order=2, least=1)
        >>> models.labels, models.length, models.states
        (('x', 'y'), 4, 6)
    """
    checks.integer("least", least, 0), checks.integer("max_labels", 2 if max_labels is None else max_labels, 2)
    texts, names = _labelled_texts(path, text_column, label_column)
    labels = [name for name, _ in Counter(names).most_common(max_labels)]
    if len(labels) < 2:
        raise ValueError(f"{Path(path).name}: column {label_column!r} must have two labels at least, got {labels[0]!r} alone")
    labels.sort()
    kept = [(text, labels.index(name)) for text, name in zip(texts, names, strict=True) if name in labels]
    tokens = [list(text.lower()) if pieces is None else pieces(text) for text, _ in kept]
    codes, alphabet = codes_of(tokens, least, RARE)
    return NgramModels(codes, [y for _, y in kept], order, alphabet=alphabet, length=length, names=labels, join=join)


def digits_table(pixels: int = 10, smoothing: float = 0.02) -> tuple[Table, Tensor]:
    """Return a table of real 8×8 digits, y = digit, x_t = pixel brighter than 7 of 16, and its pixels [T] in raster order.

    The pixels are chosen greedily: each is the one that raises the mutual information I(x_S; y) of the counts most, so that
    neighbours that repeat each other are left out.

    Source: scikit-learn `load_digits`, 1,797 images of the UCI optical digits, https://doi.org/10.24432/C50P49.

    Args:
        pixels: T.
        smoothing: added to the count of every cell.

    Raises:
        ValueError: not from 1 to 64 pixels, or a negative smoothing.

    Example:
        >>> table, pixels = analysis.digits_table(3)
        >>> table.shape, len(table.labels), pixels.shape
        ((2, 2, 2), 10, torch.Size([3]))
    """
    from sklearn.datasets import load_digits
    from sklearn.metrics import mutual_info_score

    checks.integer("pixels", pixels, 1, 64)
    data = load_digits()
    bright = (data.data > 7).astype(np.int64)
    chosen: list[int] = []
    for _ in range(pixels):
        cells = bright[:, chosen] @ (1 << np.arange(len(chosen)))
        gains = {p: mutual_info_score(2 * cells + bright[:, p], data.target) for p in range(64) if p not in chosen}
        chosen.append(max(gains, key=lambda p: gains[p]))
    chosen.sort()
    frame = pd.DataFrame(bright[:, chosen], columns=[f"pixel {p // 8},{p % 8}" for p in chosen])
    frame["digit"] = data.target
    return _count_table(Path("digits"), frame, "digit", smoothing), torch.tensor(chosen)


def _labelled_texts(path: Path | str, text_column: str, label_column: str) -> tuple[list[str], list[str]]:
    """Return the stripped texts of a file and the names of their labels."""
    path = paths.path_of(path)
    frame = tables.read(path, lines=("label", "text"))
    tables.check_columns(path.name, frame, text_column, label_column)
    names = tables.labels(path.name, label_column, frame[label_column].tolist())
    return tables.texts(path.name, text_column, frame[text_column].tolist(), names)


def _load_npy(path: Path) -> np.ndarray:
    with paths.readable(path, EOFError, BadZipFile, MemoryError), path.open("rb") as file:  # a header may claim any size
        table = np.load(file, allow_pickle=False)
    if not isinstance(table, np.ndarray) or table.dtype.kind not in "fiu":
        raise ValueError(f"{path.name}: a table must hold numbers")
    return table.astype(np.float64)


def _count_table(path: Path, frame: pd.DataFrame, label_column: str, smoothing: float) -> Table:
    checks.not_negative("smoothing", smoothing)
    variables = [name for name in frame.columns if name != label_column]
    if not variables or frame.isna().any(axis=None):
        raise ValueError(f"{path.name}: a table must have at least one column beside the label, and no missing values")
    names = tables.labels(path.name, label_column, frame[label_column].tolist())
    columns = {name: tables.numbers(frame[name].tolist()) for name in (label_column, *variables)}
    try:
        codes, values = zip(*(pd.factorize(pd.Series(cells), sort=True) for cells in columns.values()), strict=True)
    except TypeError as error:
        raise ValueError(f"{path.name}: columns must hold discrete values, got lists or records") from error
    shape = tuple(map(len, values))
    cells = math.prod(map(float, shape))
    if cells > MAX_CELLS:
        raise ValueError(f"{path.name}: a table must have at most {MAX_CELLS:,} cells, got {cells:.3g}; try fewer columns")
    counts = np.full(shape, float(smoothing))
    np.add.at(counts, codes, 1.0)
    name_of = dict(zip(codes[0].tolist(), names, strict=True))
    return Table(counts / counts.sum(), labels=[name_of[code] for code in range(shape[0])], values=list(map(list, values[1:])))
