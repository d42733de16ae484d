r"""Tidy frames, and the chapters that are read off them: a story with its verdict and its figures.

A tidy frame has one number per row. Its columns: `law` (the distribution), `family` (the sampler or the kind of guidance),
`quantity`, `scale`, `length`, `value`, `std_error` (0 for an exact number), `freedom` (the degrees of freedom of that error,
where few batches or runs give it), and whatever else an experiment varies.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import pandas as pd
from matplotlib.axes import Axes

BANNER = "Quick run: few samples, short trainings, coarse grids. Its numbers show that everything runs. They decide nothing."
COLUMNS = ("law", "family", "quantity", "scale", "length")


class Track(Protocol):
    """A progress bar: returns the items as they are."""

    def __call__(self, items: Iterable[Any], /) -> Iterable[Any]:
        """Return the items, counted as they are taken."""
        ...


class Verdict(NamedTuple):
    """The number that decides the claim, what it measures, and what follows."""

    measure: str
    number: str
    verdict: str


class Plot(NamedTuple):
    """One figure: panels side by side, each a function of (frame, axes), and a caption that says how to read it."""

    name: str
    panels: tuple[Callable[[pd.DataFrame, Axes], Axes], ...]
    caption: str


@dataclass(frozen=True, kw_only=True)
class Story:
    """How a tidy frame is told as a chapter.

    Attributes:
        name: of its files.
        title: of its chapter.
        claim: what the source says, in its words where they are in quotation marks.
        verdict: frame ↦ verdict.
        plots: its figures.
    """

    name: str
    title: str
    claim: str
    verdict: Callable[[pd.DataFrame], Verdict]
    plots: tuple[Plot, ...]


class Chapter(NamedTuple):
    """A finished experiment: its story and frame, whether it was found on disk, and whether it is of a quick run."""

    experiment: Story
    frame: pd.DataFrame
    found: bool
    quick: bool = False

    @property
    def verdict(self) -> Verdict:
        """The verdict on the frame, empty for a quick run, which decides nothing."""
        told = self.experiment.verdict(self.frame)
        return told._replace(verdict="") if self.quick else told


def headline(chapters: Sequence[Chapter]) -> dict[str, Any]:
    """Return the chapters' numbers and verdicts, ready for JSON; a quick run has null for a verdict, and its banner."""
    told = {chapter.experiment.name: chapter.verdict._asdict() for chapter in chapters}
    if not any(chapter.quick for chapter in chapters):
        return {"headline": told}
    return {"quick": BANNER, "headline": {name: each | {"verdict": None} for name, each in told.items()}}


def tidy(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a frame whose common columns come first; a number without `std_error` is exact."""
    frame = pd.DataFrame(list(rows))
    if "std_error" not in frame:
        frame["std_error"] = 0.0
    frame["std_error"] = frame["std_error"].fillna(0.0)
    first = [name for name in COLUMNS if name in frame]
    last = ["value", "std_error"]
    return frame[[*first, *(name for name in frame if name not in (*first, *last)), *last]]


def pick(frame: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """Return the rows whose columns have the wanted values."""
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    return frame
