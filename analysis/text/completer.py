"""Complete batches of prompts in processes or on Ray, each of which loads the models once."""

import logging
import os
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import pandas as pd

from analysis import clusters, engines
from analysis.engines import Engine
from analysis.files import run_folder
from analysis.text import loading
from analysis.text.batches import TRIED, completed, part
from analysis.text.completions import Sampling, complete
from analysis.text.loading import Choice
from analysis.text.prompt_files import requests

TRIES = 5  # of a batch


class Completer:
    """Complete one batch per call: a callable class for `map_batches` of Ray Data, which makes one per actor.

    A batch is a frame of `analysis.text.batches.batches`. Its draws depend on its number and the seed alone; only the models
    are kept between calls, so any actor may complete any batch, again if an actor was lost.
    """

    def __init__(
        self, choice: Choice, sampling: Sampling, device: str = "cpu", folder: Path | None = None, home: Path | None = None
    ) -> None:
        """Load the models.

        Args:
            choice: the models.
            sampling: the settings of the draws.
            device: where to compute.
            folder: of a run; finished batches are kept there, and are not computed again.
            home: the folder from which relative paths start.
        """
        if home is not None:
            os.chdir(home)
        self.sampling, self.folder = sampling, folder
        with loading.quiet_thread():
            self.loaded = choice.load(loading.find_device(device))

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        """Return the completions of a batch: index, sample, scale, completion, tokens, and the diagnosis of the joint law.

        Raises:
            ValueError: rows of several batches, prompts that do not fit, a folder that cannot be written, or a batch that has
                lost its process five times, which Ray would repeat without end.
        """
        numbers = set(batch["batch"])
        if len(numbers) != 1:
            raise ValueError(f"the rows must be of one batch, got {len(numbers)}; call map_batches with batch_size=None")
        number = int(numbers.pop())
        place = None if self.folder is None else part(self.folder, number)
        found = None if place is None else run_folder.read_marked(*place)
        if found is not None:
            return found
        if place is not None:
            _count_try(place[0].with_suffix(TRIED), number)
        with loading.quiet_thread():
            prompts = self.sampling.encode(self.loaded, requests(batch, None, 1.0))
            done = complete(self.loaded, prompts, self.sampling, number)
        found = completed([int(row) for row in batch["index"]], prompts, done)
        if place is not None:
            run_folder.write_frame(place[0], run_folder.marked(found, place[1]))
            place[0].with_suffix(TRIED).unlink(missing_ok=True)
        return found


class RayCompleter(Completer):
    """A completer that returns the error of a batch in a frame of one row, for Ray Data keeps no more than its text."""

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        """Return the completions of a batch, or its error."""
        try:
            return super().__call__(batch)
        except ValueError as error:
            return pd.DataFrame({"error": [str(error)]})


def _count_try(path: Path, number: int) -> None:
    """Add a byte to the file of a batch, or raise ValueError where it has `TRIES` of them."""
    if path.exists() and path.stat().st_size >= TRIES:
        raise ValueError(f"batch {number} lost its process {TRIES} times, perhaps out of memory; try a smaller --batch-size")
    with path.open("ab") as file:
        file.write(b".")


def complete_batches(
    frames: Sequence[pd.DataFrame], choice: Choice, sampling: Sampling, device: str, folder: Path, engine: Engine
) -> Iterator[int]:
    """Complete batches, write each into a folder, and yield the number of prompts of each that is finished.

    Args:
        frames: the batches, see `analysis.text.batches.batches`.
        choice: the models.
        sampling: the settings of the draws.
        device: where each process computes.
        folder: of the run.
        engine: the way to run them; on Ray, `jobs` is the number of actors; 0 for one per core or GPU.

    Raises:
        ValueError: an engine that does not work, or that has no such device.
    """
    run_folder.clear(folder, [part(folder, int(rows["batch"].iloc[0]))[0].with_suffix(TRIED).name for rows in frames])
    if engine.name == "ray":
        yield from _on_ray(frames, (choice, sampling, device, folder.absolute(), Path.cwd()), engine)
        return
    with engines.engine(*engine) as run:
        yield from run([partial(_complete, choice, sampling, device, folder, rows) for rows in frames])


def _on_ray(frames: Sequence[pd.DataFrame], given: tuple[Choice, Sampling, str, Path, Path], engine: Engine) -> Iterator[int]:
    with clusters.connected(engine.jobs, engine.address) as ray:
        from ray import data

        data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # an error is raised as well
        unit = "GPU" if given[2].startswith("cuda") else "CPU"
        most = clusters.count(ray, unit)
        needs = {f"num_{unit.lower()}s": 1}
        actors = min(engine.jobs or most, most, len(frames))
        done = data.from_pandas(list(frames)).map_batches(
            RayCompleter, fn_constructor_args=given, batch_size=None, batch_format="pandas", concurrency=actors, **needs
        )
        for rows in done.iter_batches(batch_size=None, batch_format="pandas"):
            if "error" in rows:
                raise ValueError(rows["error"].iloc[0])
            yield rows["index"].nunique()


@cache
def _completer(choice: Choice, sampling: Sampling, device: str, folder: Path) -> Completer:
    """Return the completer of this process, which is made once."""
    return Completer(choice, sampling, device, folder)


def _complete(choice: Choice, sampling: Sampling, device: str, folder: Path, rows: pd.DataFrame) -> int:
    """Complete a batch in this process, and return the number of its prompts."""
    return _completer(choice, sampling, device, folder)(rows)["index"].nunique()
