"""Run every benchmark and print one table of ratios: `python -m benchmarks [--rounds N]`."""

import argparse
import itertools

import torch
from tqdm import tqdm

from benchmarks import decode, diffusion, exact, mixture, particles
from benchmarks.timing import Row, measure, table


def main() -> None:
    """Measure on one thread, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="turns of every job (default: %(default)s)")
    rounds = max(1, parser.parse_args().rounds)
    torch.set_num_threads(1)
    cases = list(itertools.chain.from_iterable(module.cases() for module in (exact, mixture, diffusion, particles, decode)))
    rows: list[Row] = []
    with tqdm(total=len(cases) * rounds, desc="benchmarks", unit="round", dynamic_ncols=True) as bar:
        for case in cases:
            bar.set_postfix_str(case.name)
            rows += measure(case, rounds, bar.update)
    print(table(rows, rounds))


if __name__ == "__main__":
    main()
