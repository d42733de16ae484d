"""Processes that share the cores of a machine, and end with the process that started them."""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def pool(jobs: int) -> Iterator[Executor]:
    """Yield an executor of that many processes; an error or an interrupt stops all of them at once."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _end_with_parent) as executor:
        try:
            yield executor
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
