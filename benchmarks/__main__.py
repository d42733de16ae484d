"""Run every benchmark and print one table of ratios: `python -m benchmarks [--rounds N]`."""

import argparse
import itertools
import platform

import torch
from tqdm import tqdm

from benchmarks import diffusion, exact, mixture, particles
from benchmarks.timing import Row, measure


def main() -> None:
    """Measure on one thread, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="turns of every job (default: %(default)s)")
    rounds = max(1, parser.parse_args().rounds)
    torch.set_num_threads(1)
    cases = list(itertools.chain.from_iterable(module.cases() for module in (exact, mixture, diffusion, particles)))
    rows: list[Row] = []
    with tqdm(total=len(cases) * rounds, desc="benchmarks", unit="round", dynamic_ncols=True) as bar:
        for case in cases:
            bar.set_postfix_str(case.name)
            rows += measure(case, rounds, bar.update)
    print(table(rows, rounds))


def table(rows: list[Row], rounds: int) -> str:
    """Return the rows as Markdown, with a line that says where they were measured."""
    head = "| | ratio | min–max | times |\n|---|---:|---:|---|"
    lines = [f"| {row.case}: {row.what} | {row.ratio:.3g} | {row.low:.3g}–{row.high:.3g} | {_times(row)} |" for row in rows]
    where = f"Medians of {rounds} rounds. torch {torch.__version__}, Python {platform.python_version()}, one thread."
    return "\n".join([head, *lines, "", where])


def _times(row: Row) -> str:
    return f"{_seconds(row.over)} ÷ {_seconds(row.under)}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.3g} µs"


if __name__ == "__main__":
    main()
