r"""Tidy frames, and the chapters that a report makes of them: a story with its verdict and its figures.

A tidy frame has one number per row. Its columns: `law` (the distribution), `family` (the sampler or the kind of guidance),
`quantity`, `scale`, `length`, `value`, `std_error` (0 for an exact number), `freedom` (the degrees of freedom of that error,
where few batches or runs give it), and every other parameter that an experiment varies.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BANNER = "Quick run: few samples, short trainings, coarse grids. Its numbers show that everything runs. They decide nothing."
EMPTY = ("", "–")  # cells that say nothing
COLUMNS = ("law", "family", "quantity", "scale", "length")
Row = dict[str, Any]
Cells = tuple[Sequence[str], Sequence[Sequence[str]]]
Track = Callable[[Iterable[Any]], Iterable[Any]]  # a progress bar: returns the items unchanged


class Verdict(NamedTuple):
    """What was measured, the number that decides the claim, and the conclusion, a paragraph per line."""

    measure: str
    number: str
    verdict: str


class Plot(NamedTuple):
    """One figure: panels side by side, each a function of (frame, axes), and a caption that explains how to read it."""

    name: str
    panels: tuple[Callable[[pd.DataFrame, "Axes"], "Axes"], ...]
    caption: str


class Grid(NamedTuple):
    """One table: a function of the frame that returns its columns and its rows of texts, and a caption.

    A wide table is left out on a terminal. The cells of a verbatim table are texts of users or models, printed as they are.
    """

    cells: Callable[[pd.DataFrame], Cells]
    caption: str
    wide: bool = False
    verbatim: bool = False

    def filled(self, frame: pd.DataFrame) -> Cells:
        """Return the columns and rows without columns that say nothing in any row."""
        columns, rows = self.cells(frame)
        kept = [i for i in range(len(columns)) if any(row[i] not in EMPTY for row in rows)]
        return [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]


@dataclass(frozen=True, kw_only=True)
class Story:
    """How a report presents a tidy frame as a chapter.

    Attributes:
        name: base of the names of its files.
        title: title of the chapter.
        claim: the claim; quotation marks hold the words of `by`.
        verdict: frame ↦ verdict.
        plots: the figures.
        source: the model or toy, the data and the length that its numbers are from, or a function of the frame.
        tables: shown before the figures, and on the terminal.
        by: who claims it.
    """

    name: str
    title: str
    claim: str
    verdict: Callable[[pd.DataFrame], Verdict]
    plots: tuple[Plot, ...]
    source: str | Callable[[pd.DataFrame], str] = ""
    tables: tuple[Grid, ...] = ()
    by: str = "The post"


class Chapter(NamedTuple):
    """A finished experiment: its story and frame, whether the frame was found on disk, and whether the run was quick."""

    experiment: Story
    frame: pd.DataFrame
    found: bool
    quick: bool = False

    @property
    def verdict(self) -> Verdict:
        """The verdict on the frame; its conclusion is empty for a quick run, which decides nothing."""
        verdict = self.experiment.verdict(self.frame)
        return verdict._replace(verdict="") if self.quick else verdict

    @property
    def source(self) -> str:
        """The model or toy, the data and the length that the numbers are computed from."""
        source = self.experiment.source
        return source if isinstance(source, str) else source(self.frame)


def headline(chapters: Sequence[Chapter]) -> Row:
    """Return the chapters' numbers and verdicts, ready for JSON; a quick run has its banner, and null for every verdict."""
    verdicts = {chapter.experiment.name: chapter.verdict._asdict() | {"source": chapter.source} for chapter in chapters}
    if not any(chapter.quick for chapter in chapters):
        return {"headline": verdicts}
    return {"quick": BANNER, "headline": {name: each | {"verdict": None} for name, each in verdicts.items()}}


def tidy(rows: Iterable[Row]) -> pd.DataFrame:
    """Return rows as a frame whose common columns come first; a number without `std_error` is exact."""
    frame = pd.DataFrame(list(rows))
    if "std_error" not in frame:
        frame["std_error"] = 0.0
    frame["std_error"] = frame["std_error"].fillna(0.0)
    first = [name for name in COLUMNS if name in frame]
    last = ["value", "std_error"]
    return frame[[*first, *(name for name in frame if name not in (*first, *last)), *last]]


def per_quantity(case: Row, values: Mapping[str, Any]) -> Iterator[Row]:
    """Yield one row per quantity: the case with the quantity's name and its value."""
    for quantity, value in values.items():
        yield case | {"quantity": quantity, "value": float(value)}


def per_point(case: Row, **columns: Iterable[Any]) -> Iterator[Row]:
    """Yield one row per point of a curve: the case with the point's value in every column, all columns of one length."""
    for point in zip(*columns.values(), strict=True):
        yield case | dict(zip(columns, point, strict=True))


def pick(frame: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """Return the rows whose columns have the wanted values."""
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    return frame
