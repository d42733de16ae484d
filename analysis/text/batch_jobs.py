"""Complete a file of prompts in batches, and keep each finished batch, so that the same command resumes the run.

Beside OUT.parquet stands the folder `.OUT.parquet.parts`, see `analysis.files.run_folder`, with a file per finished batch. At
the end the batches become OUT.parquet, in one move, and the folder is removed. Process r of n, or
shard r + 1, computes the batches r, r + n, ….
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from analysis.engines import Engine
from analysis.files import paths, run_folder
from analysis.text.batches import TRIED, batches, completed, part
from analysis.text.completer import complete_batches
from analysis.text.completions import Sampling, complete
from analysis.text.distributed import Team
from analysis.text.loading import Choice, Loaded
from analysis.text.prompt_files import read_prompts, requests
from analysis.text.tokens import Encoded

PROGRAM = "arguide generate"
REPLACES = "digest of the output to replace"
WHOLE = "whole.parquet"
HERE = Engine("here")
NUMBER = "[0-9]" * 8
OWN = (f"{NUMBER}.parquet", NUMBER + TRIED, WHOLE, run_folder.RECORD)  # the record last: it says whose the other files are


@dataclass(frozen=True)
class Run:
    """A run over a file of prompts.

    Attributes:
        out: the file to write.
        frame: one prompt per row, with the columns to keep.
        size: prompts per batch.
        config: everything else that the completions depend on.
    """

    out: Path
    frame: pd.DataFrame
    size: int
    config: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """The folder of the finished batches."""
        return self.out.with_name(f".{self.out.name}.parts")

    @property
    def batches(self) -> range:
        """The indices of all batches."""
        return range(-(-len(self.frame) // self.size))

    def rows(self, batch: int) -> range:
        """Return the rows of a batch."""
        return range(len(self.frame))[batch * self.size : (batch + 1) * self.size]

    def check(self, *, fresh: bool = False) -> None:
        """Refuse an output that must not be written, or batches of another run.

        Args:
            fresh: whether an earlier output of this program may be replaced, and earlier batches deleted.

        Raises:
            ValueError: such an output or such batches.
        """
        paths.check_output("--out", self.out, ".parquet")
        found = run_folder.read_record(self.folder, PROGRAM)
        if fresh and self.out.exists() and run_folder.read_marked(self.out, PROGRAM) is None:
            raise ValueError(f"{self.out} is no output of {PROGRAM}, or was changed since; delete it, or choose another --out")
        if not fresh:
            self._check_kept(found)
            if found is not None:
                run_folder.check_same(self.folder, found, self._settings())

    def _check_kept(self, record: Mapping[str, Any] | None) -> None:
        """Refuse to overwrite an output that is neither the one to replace, by the record of a run, nor its own."""
        if not self.out.exists() or (record is not None and record.get(REPLACES) == run_folder.digest(self.out)):
            return
        if record is None or self._written() is None:
            raise ValueError(f"{self.out} exists already; nothing was overwritten; choose another --out, or --fresh")

    def claim(self, *, fresh: bool = False, shared: bool = False) -> None:
        """Create the folder of batches, or check that it belongs to this run.

        Args:
            fresh: delete the batches of an earlier run first; `merge` replaces its output.
            shared: whether other processes may claim the folder or work in it at the same time.

        Raises:
            ValueError: as `check`, or a folder that cannot be written or holds other files.
        """
        self.check(fresh=fresh)
        notes = {REPLACES: run_folder.digest(self.out)} if self.out.exists() else {}
        try:
            if not shared and run_folder.read_record(self.folder, PROGRAM) is None:
                run_folder.clear(self.folder, OWN)  # batches without a record may be of any settings
        except OSError as error:
            raise ValueError(f"cannot write to {self.folder}: {error.strerror}") from error
        settings = self._settings()
        run_folder.claim(self.folder, settings, PROGRAM, (), own=OWN, fresh=fresh, shared=shared, notes=notes)

    def share(self, team: Team) -> range:
        """Return the batches of this process."""
        return self.batches[team.rank :: team.size]

    def missing(self, team: Team) -> list[int]:
        """Return the batches of this process that are not finished."""
        if self._written() is not None:
            return []
        return [batch for batch in self.share(team) if run_folder.read_finished(*part(self.folder, batch)) is None]

    def keep(self, batch: int, frame: pd.DataFrame) -> None:
        """Write the completions of a batch."""
        path, mark = part(self.folder, batch)
        run_folder.write_frame(path, run_folder.marked(frame, mark))

    def merge(self) -> int:
        """Write the output, remove the batches, and return the number of completions.

        Raises:
            ValueError: a batch is missing or damaged, or the output was created or changed meanwhile.
        """
        done = self._written()
        if done is None:
            done = self._joined()
            named = run_folder.marked(done, PROGRAM, self._name())
            run_folder.write_frame(self.folder / WHOLE, named)  # here, so that it is swept if killed
            (self.folder / WHOLE).replace(self.out)
        run_folder.sweep(self.folder, OWN)  # of processes that were lost
        run_folder.clear(self.folder, OWN)
        with contextlib.suppress(OSError):  # it holds a file of the user
            self.folder.rmdir()
        return len(done)

    def _joined(self) -> pd.DataFrame:
        """Return the completions of all batches, beside the columns of their prompts."""
        parts = [run_folder.read_marked(*part(self.folder, batch)) for batch in self.batches]
        if any(frame is None for frame in parts):
            raise ValueError(f"a batch in {self.folder} is missing or damaged; run the same command again to complete it")
        self._check_kept(run_folder.read_record(self.folder, PROGRAM))
        done = pd.concat(parts, ignore_index=True)
        kept = self.frame.drop(columns="scale", errors="ignore").iloc[done["index"]].reset_index(drop=True)
        first = done[["index", "sample"]]
        return pd.concat([first, kept, done.drop(columns=list(first))], axis=1)

    def _written(self) -> pd.DataFrame | None:
        """Return the output if this run wrote it and was killed before its folder was removed."""
        frame = run_folder.read_marked(self.out, PROGRAM)
        return None if frame is None or run_folder.files_of(frame) != self._name() else frame

    def _name(self) -> dict[str, str]:
        """Return the record of the run and its digest, by which the output names the run."""
        return run_folder.digests(self.folder, self.folder.glob(run_folder.RECORD))

    def _settings(self) -> dict[str, Any]:
        return dict(self.config) | {"batch size": self.size}


@dataclass(frozen=True)
class Task:
    """Which prompts to complete, and where to write the completions.

    Attributes:
        source: the file of prompts.
        out: the file to write.
        negative: the negative prompt of the rows that have none.
        scale: γ of the rows that have none.
        size: prompts per batch.
        fresh: whether to delete the batches of an earlier run first, and to replace its output at the end.
    """

    source: Path
    out: Path
    negative: str | None = None
    scale: float = 1.5
    size: int = 8
    fresh: bool = False

    def run(self, choice: Choice, sampling: Sampling, device: str) -> Run:
        """Return the run of these prompts.

        Args:
            choice: the models.
            sampling: the settings of the samples.
            device: the kind of device, on which random numbers depend.

        Raises:
            ValueError: prompts that the run would overwrite, or that cannot be read.
        """
        if self.out.exists() and self.source.exists() and self.out.samefile(self.source):
            raise ValueError(f"--out {self.out} is the file of --prompts; choose another --out")
        frame = read_prompts(self.source, joint=sampling.joint is not None)
        own = {"negative": self.negative, "scale": self.scale, "device": device}
        content = {"content of the prompts": run_folder.digest(self.source)}
        run = Run(self.out, frame, self.size, choice.identity() | own | asdict(sampling) | content)
        run_folder.check_apart(run.folder, "--prompts", self.source)
        return run


def complete_file(
    task: Task,
    choice: Choice,
    sampling: Sampling,
    team: Team,
    track: Callable[..., Any],
    engine: Engine = HERE,
    shard: tuple[int, int] | None = None,
) -> int:
    """Complete a file of prompts, or the rest of it after an interruption; return the number of completions in the output.

    A shard writes no output and returns the number of its prompts.

    Args:
        task: the files.
        choice: the models.
        sampling: the settings of the samples.
        team: the processes that share the batches.
        track: makes a progress bar, as tqdm does.
        engine: the way to run the batches of a team of one.
        shard: (i, n) to complete part i of n of the batches, None to complete all and write the output.

    Raises:
        ValueError: options, prompts or files that do not fit, before any decoding.
    """

    def prepare() -> tuple[Run, Loaded, list[Encoded]]:
        run = task.run(choice, sampling, team.device.type)
        run.check(fresh=task.fresh)
        loaded = choice.load(team.device if engine.here else torch.device("cpu"))  # other processes load models of their own
        return run, loaded, sampling.encode(loaded, requests(run.frame, task.negative, task.scale))

    run, loaded, prompts = team.together(prepare)
    team.together(lambda: run.claim(fresh=task.fresh, shared=shard is not None) if team.leads else None)
    own = team if shard is None else team._replace(rank=shard[0] - 1, size=shard[1])
    left = run.missing(own)
    share, missing = (sum(len(run.rows(batch)) for batch in some) for some in (run.share(own), left))
    with track(total=share, initial=share - missing) as bar:
        if engine.here:
            for batch in left:
                given = [prompts[row] for row in run.rows(batch)]
                run.keep(batch, completed(run.rows(batch), given, complete(loaded, given, sampling, batch)))
                bar.update(len(given))
        elif left:
            del loaded, prompts
            frames = batches(requests(run.frame, task.negative, task.scale), run.size)
            some, place = [frames[batch] for batch in left], team.device.type if engine.name == "ray" else str(team.device)
            for count in complete_batches(some, choice, sampling, place, run.folder, engine):
                bar.update(count)
    team.wait()
    if shard is not None:
        return share
    return team.together(lambda: run.merge() if team.leads else 0)
