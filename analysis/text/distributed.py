"""Share a run among processes: one process, or those that torchrun starts, each with its own device."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar, cast

import torch

from analysis import limits
from analysis.text.loading import find_device

T = TypeVar("T")
PATIENCE = timedelta(days=30)  # one process may have much more work left than another
PAUSE = 5.0  # seconds; torchrun ends all processes with the first that fails, and the leader must report the error before


class Team(NamedTuple):
    """This process among all.

    rank: its number, from 0.
    size: the number of processes.
    device: its device.
    state: the group of processes, of `accelerate`; None for one process.
    """

    rank: int
    size: int
    device: torch.device
    state: Any = None

    @property
    def leads(self) -> bool:
        """Whether this is the process that prints and merges."""
        return self.rank == 0

    def together(self, work: Callable[[], T]) -> T:
        """Return work() once it has succeeded in every process.

        Raises:
            ValueError: it failed in some process; raised in the leader.
            SystemExit: the same in the other processes, which stay silent.
        """
        if self.state is None:
            return work()
        from accelerate.utils import gather_object

        result: T | None = None
        failure: str | None = None
        try:
            result = work()
        except (ValueError, OSError) as error:
            failure = str(error) or type(error).__name__
        failures = [line for line in gather_object([failure]) if line is not None]
        if failures and self.leads:
            raise ValueError(failures[0])
        if failures:
            time.sleep(PAUSE)
            raise SystemExit(2)
        return cast(T, result)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.state is not None:
            self.state.wait_for_everyone()


@contextmanager
def team(device: str | None, *, remote: bool = False) -> Iterator[Team]:
    """Join the processes that torchrun started, if any, and leave them at the end.

    Args:
        device: the name of the device; by default the cpu, or a GPU for each of several processes if there are any.
        remote: whether the device is on the machines of a cluster, not here.

    Raises:
        ValueError: no such device, or `accelerate` is missing.
    """
    if limits.alone():
        yield Team(0, 1, find_device(device or "cpu", remote=remote))
        return
    state = _join(device)
    found = state.device if state.device.type == "cuda" else find_device(device or "cpu")
    yield Team(state.process_index, state.num_processes, found, state)
    state.destroy_process_group()


def _join(device: str | None) -> Any:
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise ValueError("several processes need the package accelerate: pip install 'arguide[distributed]'") from error
    wanted = find_device(device).type if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if wanted == "cuda" and here > gpus:
        raise ValueError(f"{here} processes cannot share {gpus} GPUs; start at most one process per GPU, or use --device cpu")
    return PartialState(cpu=wanted != "cuda", timeout=PATIENCE)
