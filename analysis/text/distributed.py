"""The processes that share a run: one, or those that torchrun has started, each with a device of its own."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar, cast

import torch

from analysis.text.loading import find_device

T = TypeVar("T")
PATIENCE = timedelta(days=30)  # one process may have much more left to do than another
PAUSE = 5.0  # seconds; torchrun ends all processes with the first that fails, and that one should have said why


class Team(NamedTuple):
    """This process among all: its rank, how many there are, its device, and what joins them (None for one alone)."""

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
            ValueError: it failed somewhere; in the process that leads.
            SystemExit: it failed somewhere; in the others, which stay silent.
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
def team(device: str | None) -> Iterator[Team]:
    """Join the processes that torchrun has started, if it has; part from them at the end.

    Args:
        device: its name; by default the cpu, and in several processes a GPU for each where there are any.

    Raises:
        ValueError: no such device, or `accelerate` is missing.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Team(0, 1, find_device(device or "cpu"))
        return
    state = _state(device)
    found = state.device if state.device.type == "cuda" else find_device(device or "cpu")
    yield Team(state.process_index, state.num_processes, found, state)
    state.destroy_process_group()


def _state(device: str | None) -> Any:
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise ValueError("several processes need the package accelerate: pip install 'arguide[distributed]'") from error
    wanted = find_device(device).type if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if wanted == "cuda" and here > torch.cuda.device_count():
        raise ValueError(f"{here} processes cannot share {torch.cuda.device_count()} GPUs; start as many, or --device cpu")
    return PartialState(cpu=wanted != "cuda", timeout=PATIENCE)
