"""How a ratio is measured: contestants take turns, and every round gives one ratio.

Times are processor seconds of one thread, which other processes do not add to; what still disturbs one turn (caches, clock)
disturbs its neighbours, so ratios within a round are steadier than times. Several threads wait for each other, so they are
timed by the clock on the wall, and want an idle machine. The median over rounds is the number; the least and the greatest
say how far to trust it.
"""

import gc
import platform
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time
from typing import NamedTuple

import torch

Job = Callable[[], object]
TURN = 0.01


class Ratio(NamedTuple):
    """One row of the table: the time of one job over that of another.

    off: names of two jobs, whose times are first taken off those of `over` and `under`: what they all do does not count then.
    """

    what: str
    over: str
    under: str
    off: tuple[str, str] | None = None


@dataclass(frozen=True)
class Case:
    """Jobs that take turns, and the ratios that are read off them.

    Attributes:
        name: of the group of rows.
        jobs: by name.
        ratios: rows.
    """

    name: str
    jobs: dict[str, Job]
    ratios: tuple[Ratio, ...]


class Row(NamedTuple):
    """A measured ratio: its median, least and greatest over the rounds, and the median seconds of both jobs."""

    case: str
    what: str
    ratio: float
    low: float
    high: float
    over: float
    under: float


def measure(case: Case, rounds: int, advance: Callable[[], object]) -> list[Row]:
    """Time every job once a round, in turn; call `advance` after each round."""
    calls = {name: _calls(job) for name, job in case.jobs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in case.jobs}
    for _ in range(rounds):
        for name, job in case.jobs.items():
            seconds[name].append(_seconds(job, calls[name]))
        advance()
    return [_row(case.name, ratio, seconds) for ratio in case.ratios]


def table(rows: list[Row], rounds: int) -> str:
    """Return the rows as Markdown, with a line that says where they were measured."""
    head = "| | ratio | min–max | times |\n|---|---:|---:|---|"
    lines = [f"| {row.case}: {row.what} | {row.ratio:.3g} | {row.low:.3g}–{row.high:.3g} | {_times(row)} |" for row in rows]
    return "\n".join([head, *lines, "", where(rounds)])


def where(rounds: int) -> str:
    """Return the line that says how and where a table was measured."""
    threads = torch.get_num_threads()
    how = "processor time of one thread" if threads == 1 else f"wall-clock time of {threads} threads"
    return f"Medians of {rounds} rounds, {how}. torch {torch.__version__}, Python {platform.python_version()}."


def _row(case: str, ratio: Ratio, seconds: dict[str, list[float]]) -> Row:
    over, under = seconds[ratio.over], seconds[ratio.under]
    if ratio.off is not None:
        over, under = _less(over, seconds[ratio.off[0]]), _less(under, seconds[ratio.off[1]])
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return Row(case, ratio.what, median(ratios), min(ratios), max(ratios), median(over), median(under))


def _less(long: list[float], short: list[float]) -> list[float]:
    return [a - b for a, b in zip(long, short, strict=True)]


def _calls(job: Job) -> int:
    """Return how many calls fill a turn, after one that warms up."""
    job()
    return max(1, round(TURN / _seconds(job, 1)))


def _seconds(job: Job, calls: int) -> float:
    """Return the seconds of one call, the mean of `calls`, without garbage collection."""
    clock = process_time if torch.get_num_threads() == 1 else perf_counter
    gc.collect()
    gc.disable()
    start = clock()
    for _ in range(calls):
        job()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    elapsed = clock() - start
    gc.enable()
    return elapsed / calls


def _times(row: Row) -> str:
    return f"{_readable(row.over)} ÷ {_readable(row.under)}"


def _readable(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.3g} µs"
