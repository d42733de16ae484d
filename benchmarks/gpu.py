"""Measure on a GPU, if there is one: `make benchmark-gpu`, or `python -m benchmarks.gpu [--out FILE]`.

Three parts: guided decoding against transformers and against no guidance, as in `benchmarks.decode`; the joint law, as in
`benchmarks.joint`; and the seconds of a short study, whose small networks are trained on the CPU. Times are by the
clock on the wall, after the device has finished.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm
from transformers.utils import logging

from benchmarks import decode, joint
from benchmarks.models import STORIES, pair
from benchmarks.timing import Case, Row, measure, table

NO_GPU = "No GPU: torch finds no CUDA device, so nothing was measured. `make benchmark` measures on the CPU."
STUDY = ("study", "--data", "digits", "--quick", "--scales", "1,2", "--samples", "8")


def cases(device: str, models: list[str], batches: list[int], particles: int) -> Iterator[Case]:
    """Yield the decode table and the joint sampler."""
    for name, batch in itertools.product(models, batches):
        cells = [decode.Cell(name, batch, 64, uncond) for uncond in (1, 64)]
        yield decode.grid_case(pair(name, device=device), cells, 32, agree=8)
    of = joint.setting(models[0], STORIES, device)
    yield Case(f"{models[0]}, {particles} × 32 tokens", joint.jobs(of, particles, 32), joint.RATIOS)


def study() -> float:
    """Return the seconds of a short study."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        subprocess.run([sys.executable, "-m", "arguide", *STUDY, "--out", f"{folder}/study"], check=True, capture_output=True)
        return time.monotonic() - begin


def main() -> None:
    """Measure, print tables in Markdown, and write them to a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure on a GPU.")
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    parser.add_argument("--models", nargs="+", default=["15M", "gpt2", "135M"], help="default: %(default)s")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], help="default: %(default)s")
    parser.add_argument("--particles", type=int, default=256, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every job (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="a file for the tables")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print(NO_GPU)
        return
    torch.set_num_threads(2)  # one thread would be timed by its own processor seconds
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    rows: list[Row] = []
    for case in tqdm(cases(given.device, given.models, given.batches, given.particles), desc="gpu", unit="case"):
        rows += measure(case, given.rounds, lambda: None)
    name = torch.cuda.get_device_name() if given.device == "cuda" else given.device
    text = f"{name}\n\n{table(rows, given.rounds)}\n\n`arguide {' '.join(STUDY)}`: {study():.0f} s.\n"
    print(text)
    if given.out is not None:
        given.out.write_text(text)


if __name__ == "__main__":
    main()
