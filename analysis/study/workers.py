"""Run tasks that each leave a file, one after another or in several processes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from analysis import processes
from analysis.files import run_folder
from analysis.learning import learners
from analysis.text import loading

Work = Callable[[Sequence["Task"], Any, Path], Iterator[None]]


class Task(NamedTuple):
    """One piece of work, which leaves a file.

    Attributes:
        name: of the file, and of the folder of a model.
        run: (plan, folder) ↦ frame.
        model: whether the task leaves a model as well.
    """

    name: str
    run: Callable[[Any, Path], pd.DataFrame]
    model: bool = False

    def path(self, folder: Path) -> Path:
        """Return the path of the file."""
        return folder / "experiments" / f"{self.name}.parquet"

    def finished(self, folder: Path) -> bool:
        """Return whether the file and its model are undamaged and belong to the run of the folder."""
        frame = run_folder.read_finished(self.path(folder), run_folder.part_of(folder, self.name))
        if frame is None:
            return False
        if (name := run_folder.damaged(folder, frame)) is not None:
            run_folder.log_again(folder / name)
        return name is None

    def work(self, plan: Any, folder: Path) -> None:
        """Do the task on one thread, because tasks share the cores, and write the file."""
        loading.silence()
        torch.set_num_threads(1)
        with threadpool_limits(1):
            frame = self.run(plan, folder)
        files = learners.files_of(folder / "models" / self.name) if self.model else []
        mark = run_folder.marked(frame, run_folder.part_of(folder, self.name), run_folder.digests(folder, files))
        run_folder.write_frame(self.path(folder), mark)


@contextmanager
def workers(jobs: int) -> Iterator[Work]:
    """Yield a function that does tasks and yields after each; with several jobs it uses that many processes."""
    if jobs == 1:
        yield _in_turn
        return
    with processes.pool(jobs) as executor:

        def work(tasks: Sequence[Task], plan: Any, folder: Path) -> Iterator[None]:
            for future in as_completed([executor.submit(task.work, plan, folder) for task in tasks]):
                yield future.result()

        yield work


def _in_turn(tasks: Sequence[Task], plan: Any, folder: Path) -> Iterator[None]:
    for task in tasks:
        task.work(plan, folder)
        yield
