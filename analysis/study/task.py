"""Define the tasks of a study, each of which leaves a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.files import run_folder
from analysis.learning import learners
from analysis.text import loading


class Task(NamedTuple):
    """One piece of work, which leaves a file.

    Attributes:
        name: of the file, and of the folder of a model, if the task leaves one.
        run: (plan, folder) ↦ frame.
    """

    name: str
    run: Callable[[Any, Path], pd.DataFrame]

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
        """Do the task, and write the file."""
        with loading.quiet_thread():
            frame = self.run(plan, folder)
        files = learners.files_of(folder / "models" / self.name)  # none if the task leaves no model
        mark = run_folder.marked(frame, run_folder.part_of(folder, self.name), run_folder.digests(folder, files))
        run_folder.write_frame(self.path(folder), mark)
