"""Calls in this process, in processes and on Ray: the same results, and an error here ends their work at once."""

import socket
import sys
import threading
import time
import types
from functools import partial

import pytest

from analysis import clusters, engines
from analysis.engines import Engine, engine, share

LONG = 40.0  # seconds


def fail_beside_work():
    with engine("processes", 2) as run:
        for _ in run([partial(time.sleep, 0), partial(time.sleep, LONG)]):
            raise KeyError("mine")


def test_an_error_ends_the_work_of_all_processes_at_once():
    begin = time.monotonic()
    with pytest.raises(KeyError, match="mine"):
        fail_beside_work()
    assert time.monotonic() - begin < LONG / 2


@pytest.mark.parametrize("chosen", [Engine("here", 2), Engine("processes", 1), Engine("processes", 2)], ids=str)
def test_every_call_is_done_once(chosen):
    with engine(*chosen) as run:
        assert sorted(run([partial(divmod, n, 2) for n in range(7)])) == [divmod(n, 2) for n in range(7)]
        assert list(run([])) == []


def test_the_error_of_a_call_is_raised():
    for chosen in (Engine("here"), Engine("processes", 2)):
        with pytest.raises(ZeroDivisionError), engine(*chosen) as run:
            list(run([partial(divmod, 1, 0)]))


def test_shards_partition_the_items():
    items = list(range(11))
    shards = [share(items, (i, 4)) for i in (1, 2, 3, 4)]
    assert sorted(item for shard in shards for item in shard) == items
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert share(items, None) == items


@pytest.fixture
def closed():
    """Return an address where nothing answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        (Engine("dask"), "--engine must be one of here, processes, ray, got 'dask'; try processes"),
        (Engine("processes", 2, "auto"), "--address is of a Ray cluster"),
        (Engine("ray", 2, "nowhere"), "--address must be host:port, ray://host:port or auto, got 'nowhere'"),
        (Engine("ray", 2, "host:port"), "--address must be host:port"),
    ],
)
def test_an_unknown_engine_is_refused(chosen, says, monkeypatch):
    monkeypatch.setattr(clusters, "_package", lambda: None)
    with pytest.raises(ValueError, match=says):
        chosen.check()


def test_an_address_that_does_not_answer_is_refused(closed, monkeypatch):
    monkeypatch.setattr(clusters, "_package", lambda: None)
    for address in (closed, f"ray://{closed}"):
        with pytest.raises(ValueError, match=rf"no Ray cluster answers at --address {address} \(Connection refused\)"):
            Engine("ray", 2, address).check()
    monkeypatch.setenv("RAY_ADDRESS", closed)
    with pytest.raises(ValueError, match="no Ray cluster answers"):
        Engine("ray", 2).check()


@pytest.mark.parametrize(
    ("answer", "says"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers is not Ray"), (b"", "what answers is not Ray"), (None, "timed out")],
    ids=["another protocol", "closed", "silent"],
)
def test_another_server_is_refused(answer, says, monkeypatch):
    monkeypatch.setattr(clusters, "_package", lambda: None)
    monkeypatch.setattr(clusters, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            if answer is not None:
                connection.recv(100)
                connection.sendall(answer)
                connection.close()
            else:
                held.append(connection)

        held = []
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ValueError, match="no Ray cluster answers") as refused:
            Engine("ray", 2, f"127.0.0.1:{server.getsockname()[1]}").check()
        thread.join()
        for connection in held:
            connection.close()
    assert f"({says})" in str(refused.value)


def test_ray_must_be_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"needs the package ray: pip install '\.\[ray\]' in a clone"):
        Engine("ray").check()


def test_a_ray_that_cannot_start_says_why(monkeypatch):
    def init(*args, **options):
        raise RuntimeError("Version mismatch: Ray: 2.40\nthis process: Ray: 2.60")

    monkeypatch.setattr(clusters, "_package", lambda: types.SimpleNamespace(init=init))
    with pytest.raises(ValueError, match=r"mismatch: Ray: 2\.40 this process: Ray: 2\.60; all m"), clusters.connected(1, None):
        pass


@pytest.fixture
def ray(monkeypatch):
    """Return a module ray that does nothing."""

    class RayError(Exception):
        cause = KeyError("lost")

    exceptions = types.SimpleNamespace(RayError=RayError, RaySystemError=type("RaySystemError", (RayError,), {}))
    found = types.SimpleNamespace(init=lambda *_, **__: None, shutdown=lambda: None, exceptions=exceptions)
    monkeypatch.setattr(clusters, "_package", lambda: found)
    return found


@pytest.mark.parametrize(("address", "own"), [(None, {"num_cpus": 3, "include_dashboard": False}), ("host:1", {})])
def test_ray_on_this_machine_starts_the_processes_that_are_asked_for_and_no_web_page(address, own, ray, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    started = {}
    ray.init = lambda place, *, logging_level, log_to_driver, **options: started.update(options, place=place)
    with clusters.connected(3, address):
        assert started == own | {"place": address or "local"}


@pytest.mark.parametrize(("unit", "says"), [("CPU", "ray start --address"), ("GPU", "try --device cpu")])
def test_a_cluster_without_a_unit_is_refused(unit, says):
    ray = types.SimpleNamespace(cluster_resources=lambda: {"memory": 1.0})
    with pytest.raises(ValueError, match=f"has a {unit}; .*{says}"):
        clusters.count(ray, unit)


def test_an_error_of_a_call_keeps_its_traceback(ray):
    with pytest.raises(KeyError) as caught, clusters.connected(1, None):
        raise ray.exceptions.RayError("task f failed at line 3")
    assert caught.value.__notes__ == ["task f failed at line 3"]


def test_a_process_ends_when_its_parent_is_gone(monkeypatch):
    gone, ended = threading.Event(), threading.Event()
    monkeypatch.setattr(engines.multiprocessing, "parent_process", lambda: types.SimpleNamespace(join=gone.wait))
    monkeypatch.setattr(engines.os, "_exit", lambda _code: ended.set())
    engines._end_with_parent()
    assert not ended.wait(0.02)
    gone.set()
    assert ended.wait(5)
