"""Processes that work for this one: an error here ends their work at once."""

import time

import pytest

from analysis import processes

LONG = 40.0  # seconds


def fail_beside_work():
    with processes.pool(1) as executor:
        work = executor.submit(time.sleep, LONG)
        while not work.running():
            time.sleep(0.02)
        raise KeyError("mine")


def test_an_error_ends_the_work_of_all_processes_at_once():
    begin = time.monotonic()
    with pytest.raises(KeyError, match="mine"):
        fail_beside_work()
    assert time.monotonic() - begin < LONG / 2


def test_work_is_done_in_other_processes():
    with processes.pool(1) as executor:
        assert executor.submit(divmod, 7, 2).result() == (3, 1)
