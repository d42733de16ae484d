"""Run independent calls, each of which writes one whole file: in this process, in processes of this machine, or on Ray.

The results are the same whatever runs the calls. On Ray all machines must have the same packages, and the working directory
and the files at the same paths. A call whose worker is lost runs again, so it must replace its file, not append to it.
"""

import multiprocessing
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
Run = Callable[[Sequence[Callable[[], Any]]], Iterator[Any]]
ENGINES = ("here", "processes", "ray")
RETRIES = 10  # of a call on Ray whose worker is lost; a call that always ends its worker must stop at some time
PATIENCE = 10.0  # seconds in which a cluster must answer


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
        """Whether this process does all calls itself."""
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
            _ray()
            _check_address(self.address)


@contextmanager
def engine(name: str = "processes", jobs: int = 1, address: str | None = None) -> Iterator[Run]:
    """Yield a function that does calls, and yields their results as they come; an error or an interrupt ends all calls at once.

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
    with cluster(jobs, address) as ray:
        call_remotely = ray.remote(num_cpus=1, max_retries=RETRIES)(_call)

        def run(calls: Sequence[Callable[[], Any]]) -> Iterator[Any]:
            left = [call_remotely.remote(Path.cwd(), call) for call in calls]
            while left:
                done, left = ray.wait(left)
                yield ray.get(done[0])

        yield run


@contextmanager
def cluster(jobs: int, address: str | None) -> Iterator[Any]:
    """Yield the package ray, connected to a cluster; its errors become those of the calls, or of a lost process.

    Args:
        jobs: the number of processes, where Ray starts on this machine.
        address: as in `Engine`.

    Raises:
        ValueError: no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends reports to its makers otherwise
    ray, place = _ray(), _known(address)
    own = {"num_cpus": jobs or None, "include_dashboard": False} if place is None else {}
    try:
        ray.init(place or "local", logging_level="ERROR", log_to_driver=False, **own)
    except (ConnectionError, TimeoutError, RuntimeError) as error:
        raise ValueError(f"no Ray cluster answers at {place or 'this machine'}; start one with: ray start --head") from error
    try:
        yield ray
    except ray.exceptions.RayError as error:
        raise _reason(ray, error) from None
    finally:
        ray.shutdown()  # ends the calls that still run


def _call(folder: Path, call: Callable[[], T]) -> T:
    """Do a call in the folder of the command, because its paths may be relative."""
    os.chdir(folder)
    return call()


def _reason(ray: Any, error: BaseException) -> BaseException:
    """Return the error of a call that Ray reports, of a machine that cannot do it, or of a worker that was lost too often."""
    while isinstance(error, ray.exceptions.RayError):
        inner = getattr(error, "cause", None) or error.__cause__
        if isinstance(error, ray.exceptions.RaySystemError):
            return ValueError(f"{str(error).splitlines()[0]}; all machines of --address need the same packages")
        if inner is None:
            return BrokenExecutor(str(error))
        error = inner
    return error


def _ray() -> Any:
    try:
        import ray

        ray.init  # noqa: B018, a folder of that name can be imported too
    except (ImportError, AttributeError) as error:
        raise ValueError("--engine ray needs the package ray: pip install 'arguide[ray]'") from error
    return ray


def _known(address: str | None) -> str | None:
    return address or os.environ.get("RAY_ADDRESS") or None


def _check_address(address: str | None) -> None:
    """Refuse an address where nothing answers; Ray itself would try for minutes."""
    place = _known(address)
    if place in (None, "auto", "local"):
        return
    try:
        parts = urlsplit(f"//{str(place).removeprefix('ray://')}")
        host, port = parts.hostname, parts.port
        if not host or not port:
            raise ValueError
    except ValueError:
        raise ValueError(f"--address must be host:port, ray://host:port or auto, got {place!r}; try auto") from None
    try:
        socket.create_connection((host, port), PATIENCE).close()
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"no Ray cluster answers at --address {place} ({reason}); start one with: ray start --head") from None
