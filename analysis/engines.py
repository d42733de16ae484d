"""Run independent calls, each of which writes one whole file: in this process, in processes of this machine, or on Ray.

The results are the same whatever runs the calls. On Ray all machines must have the same packages, and the working directory
and the files at the same paths. A call whose worker is lost runs again, so it must replace its file, not append to it.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from analysis import clusters

T = TypeVar("T")
Run = Callable[[Sequence[Callable[[], Any]]], Iterator[Any]]
ENGINES = ("here", "processes", "ray")
RETRIES = 10  # of a call on Ray whose worker is lost; a call that always ends its worker must stop at some time


class Engine(NamedTuple):
    """The way to run calls.

    Attributes:
        name: one of `ENGINES`.
        jobs: the number of processes, also of Ray on this machine; a single one of "processes" is this process.
        address: of a Ray cluster, "host:port", "ray://host:port" or "auto"; by default Ray starts on this machine.
    """

    name: str = "processes"
    jobs: int = 1
    address: str | None = None

    @property
    def here(self) -> bool:
        """True if this process makes all calls itself."""
        return self.name == "here" or (self.name == "processes" and self.jobs == 1)

    def check(self) -> None:
        """Refuse an engine that is unknown, not installed, or does not answer.

        Raises:
            ValueError: such an engine.
        """
        if self.name not in ENGINES:
            raise ValueError(f"--engine must be one of {', '.join(ENGINES)}, got {self.name!r}; try processes")
        if self.address is not None and self.name != "ray":
            raise ValueError("--address is of a Ray cluster; add --engine ray, or leave it out")
        if self.name == "ray":
            clusters.check(self.address)


@contextmanager
def engine(name: str = "processes", jobs: int = 1, address: str | None = None) -> Iterator[Run]:
    """Yield a function that does calls, and yields their results as they come; an error or an interrupt ends all calls at once.

    On Ray, `print` writes to stderr until the end, because Ray prints its own notices.

    Args:
        name: as in `Engine`.
        jobs: as in `Engine`.
        address: as in `Engine`.

    Raises:
        ValueError: as `Engine.check`.
    """
    chosen = Engine(name, jobs, address)
    chosen.check()
    with _in_turn() if chosen.here else _pool(jobs) if name == "processes" else _on_ray(jobs, address) as run:
        yield run


def share(items: Sequence[T], shard: tuple[int, int] | None) -> Sequence[T]:
    """Return the items of part i of n, None for all; the parts of all i hold every item once."""
    return items if shard is None else items[shard[0] - 1 :: shard[1]]


@contextmanager
def _in_turn() -> Iterator[Run]:
    yield lambda calls: (call() for call in calls)


@contextmanager
def _pool(jobs: int) -> Iterator[Run]:
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _end_with_parent) as executor:
        try:
            yield lambda calls: (done.result() for done in as_completed([executor.submit(call) for call in calls]))
        except BaseException:
            for process in list((executor._processes or {}).values()):
                process.terminate()
            executor.shutdown(cancel_futures=True)  # waits for the processes too; two threads must not wait for the same one
            raise


def _end_with_parent() -> None:
    """End this process when its parent is killed, instead of waiting for work forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _on_ray(jobs: int, address: str | None) -> Iterator[Run]:
    with clusters.connected(jobs, address) as ray:
        clusters.count(ray, "CPU")
        call_remotely = ray.remote(max_retries=RETRIES)(_call)  # on one CPU each

        def run(calls: Sequence[Callable[[], Any]]) -> Iterator[Any]:
            left = [call_remotely.remote(Path.cwd(), call) for call in calls]
            while left:
                done, left = ray.wait(left)
                yield ray.get(done[0])

        yield run


def _call(folder: Path, call: Callable[[], T]) -> T:
    """Do a call in the folder of the command, because its paths may be relative."""
    os.chdir(folder)
    return call()
