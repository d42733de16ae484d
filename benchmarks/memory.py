"""Peaks of resident memory, each taken in a fresh process."""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path


def fresh(function: Callable[..., float], *arguments: object) -> float:
    """Return what a function returns in a process of its own."""
    context = multiprocessing.get_context("spawn")
    there, here = context.Pipe()
    process = context.Process(target=_answer, args=(there, function, *arguments))
    process.start()
    there.close()
    try:
        return here.recv()
    finally:
        process.join()


def peak_memory(reset: bool = False) -> float:
    """Return the peak of resident memory in MB, since the last reset where the system can reset it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 2**10


def _answer(there: Connection, function: Callable[..., float], *arguments: object) -> None:
    there.send(function(*arguments))
