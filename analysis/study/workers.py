"""Pieces of work that each leave a file when they are finished, done one after another or in several processes."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from threadpoolctl import threadpool_limits

from analysis.files import run_folder
from analysis.learning import learners
from analysis.text import loading


class Task(NamedTuple):
    """One piece of work, which leaves a file.

    name: of the file, and of the folder of a model.
    run: what it does with the plan and the folder.
    model: whether it leaves a model as well.
    """

    name: str
    run: Callable[[Any, Path], pd.DataFrame]
    model: bool = False

    def path(self, folder: Path) -> Path:
        """Return the file that the task leaves."""
        return folder / "experiments" / f"{self.name}.parquet"

    def finished(self, folder: Path) -> bool:
        """Whether the file is there, whole and of this run, and the model that belongs to it is what it was."""
        frame = run_folder.read_finished(self.path(folder), run_folder.part_of(folder, self.name))
        if frame is None:
            return False
        if (name := run_folder.damaged(folder, frame)) is not None:
            run_folder.log_again(folder / name)
        return name is None

    def work(self, plan: Any, folder: Path) -> None:
        """Do it on one thread, for tasks share the cores among themselves, and write the file."""
        loading.silence()
        with threadpool_limits(1):
            frame, place = self.run(plan, folder), folder / "models" / self.name
        files = learners.files_of(place) if self.model else []
        mark = run_folder.marked(frame, run_folder.part_of(folder, self.name), run_folder.digests(folder, files))
        run_folder.write_frame(self.path(folder), mark)


@contextmanager
def workers(jobs: int) -> Iterator[Callable[[Sequence[Task], Any, Path], Iterator[None]]]:
    """Yield what does tasks, several at once in processes of their own if there are several jobs; it yields after each."""
    if jobs == 1:
        yield _in_turn
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _end_with_parent) as pool:

        def worked(tasks: Sequence[Task], plan: Any, folder: Path) -> Iterator[None]:
            for future in as_completed([pool.submit(task.work, plan, folder) for task in tasks]):
                yield future.result()

        try:
            yield worked
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list((getattr(pool, "_processes", None) or {}).values()):
                process.terminate()
            raise


def _in_turn(tasks: Sequence[Task], plan: Any, folder: Path) -> Iterator[None]:
    for task in tasks:
        task.work(plan, folder)
        yield


def _end_with_parent() -> None:
    """Let this process end when the one that started it is killed, instead of waiting for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
