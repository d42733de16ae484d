"""Connect to Ray, on this machine or on a cluster, and turn its errors into those of the calls."""

import os
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, redirect_stdout
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 10.0  # seconds in which a cluster must answer
SETTINGS = b"\0\0\0\4\0\0\0\0\0"  # an empty frame of HTTP/2, which every gRPC server such as Ray's answers with its own
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS


@contextmanager
def connected(jobs: int, address: str | None) -> Iterator[Any]:
    """Yield the package ray, connected to a cluster; its errors become those of the calls, or of a lost process.

    Args:
        jobs: the number of processes, where Ray starts on this machine.
        address: as in `Engine`.

    Raises:
        ValueError: no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends reports to its makers otherwise
    ray, place = _package(), _known(address)
    own = {"num_cpus": jobs or None, "include_dashboard": False} if place is None else {}
    try:
        ray.init(place or "local", logging_level="ERROR", log_to_driver=False, **own)
    except (ConnectionError, TimeoutError) as error:
        raise ValueError(f"no Ray cluster answers at {place or 'this machine'}; start one with: ray start --head") from error
    except RuntimeError as error:  # of two versions, for example
        said = " ".join(str(error).split())
        raise ValueError(f"Ray cannot start: {said}; all machines need the same Ray and Python") from error
    with redirect_stdout(sys.stderr):  # Ray prints notices of lost workers on stdout, some of them at its shutdown
        try:
            yield ray
        except ray.exceptions.RayError as error:
            reason = _reason(ray, error)
            reason.add_note(str(error))  # the traceback of the other process
            raise reason from None
        finally:
            ray.shutdown()  # ends the calls that still run


def count(ray: Any, unit: str) -> int:
    """Return the number of CPUs or GPUs of a cluster.

    Raises:
        ValueError: no machine of the cluster has one.
    """
    found = int(ray.cluster_resources().get(unit, 0))
    if not found:
        advice = "try --device cpu" if unit == "GPU" else "add one with: ray start --address HOST:PORT"
        raise ValueError(f"no machine of the Ray cluster has a {unit}; {advice}")
    return found


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


def _package() -> Any:
    try:
        import ray

        ray.init  # noqa: B018, a folder of that name can be imported too
    except (ImportError, AttributeError) as error:
        raise ValueError("--engine ray needs the package ray: pip install '.[ray]' in a clone") from error
    return ray


def _known(address: str | None) -> str | None:
    return address or os.environ.get("RAY_ADDRESS") or None


def check(address: str | None) -> None:
    """Refuse Ray if it is not installed, or if nothing answers at an address; Ray itself would try for minutes.

    Raises:
        ValueError: Ray is not installed, the address is malformed, or nothing answers.
    """
    _package()
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
        with socket.create_connection((host, port), PATIENCE) as connection:
            connection.sendall(HELLO)
            secret = os.environ.get("RAY_USE_TLS") == "1"
            if not secret and connection.recv(len(SETTINGS))[3:4] != SETTINGS[3:4]:
                raise ConnectionError("what answers is not Ray")
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"no Ray cluster answers at --address {place} ({reason}); start one with: ray start --head") from None
