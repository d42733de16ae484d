"""A file of prompts in batches, each kept as soon as it is finished, so that a run survives its interruption.

Beside OUT.parquet stands the folder `.OUT.parquet.parts` with `run.json`, which tells the run's settings, and a file for every
finished batch, written whole or not at all. The same command does what is missing there; at the end the parts become
OUT.parquet, in one move, and the folder goes. Processes share the batches: batch i is done by process i mod their number.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.files import run_folder
from analysis.text.completions import Completion, Encoded, Sampling, complete, encode
from analysis.text.distributed import Team
from analysis.text.loading import Choice
from analysis.text.prompt_files import read_prompts, requests

PROGRAM = "arguide generate"
REPLACES = "digest of the output to replace"
OWN = re.compile(r"(?:run\.json|whole\.parquet|[0-9]{8,}\.parquet|\..+-.{8}\.(?:json|parquet))")  # in the folder of parts
PACKAGES = ("arguide", "torch", "transformers", "tokenizers")
Write = Callable[[Sequence[Encoded], int], list[list[Completion]]]


@dataclass(frozen=True)
class Run:
    """A run over a file of prompts.

    Attributes:
        out: the file to write.
        frame: the prompts, one a row, with the columns to keep.
        size: prompts a batch.
        config: everything else that the completions depend on.
    """

    out: Path
    frame: pd.DataFrame
    size: int
    config: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where the parts are kept."""
        return self.out.with_name(f".{self.out.name}.parts")

    @property
    def batches(self) -> range:
        """The indices of all batches."""
        return range(-(-len(self.frame) // self.size))

    def rows(self, batch: int) -> range:
        """Return the rows of a batch."""
        return range(len(self.frame))[batch * self.size : (batch + 1) * self.size]

    def part(self, batch: int) -> Path:
        """Return the file of a batch."""
        return self.folder / f"{batch:08}.parquet"

    def check(self, *, fresh: bool = False) -> None:
        """Raise ValueError if the output is not to be written, or its parts belong to another run."""
        if self.out.suffix != ".parquet":
            raise ValueError(f"--out must end in .parquet, not {self.out.name}")
        if self.out.is_dir():
            raise ValueError(f"{self.out} is a folder")
        if fresh:
            self._check_replaced()
            return
        found = _read_record(self.folder)
        if self.out.exists() and not self._replaces(found):
            raise ValueError(f"{self.out} exists already; nothing was overwritten (--fresh does it anew)")
        if found is not None and (differs := _differences(found, self._record())):
            raise ValueError(f"an unfinished run to {self.out} has other settings ({differs}); repeat those, or use --fresh")

    def _check_replaced(self) -> None:
        if self.out.exists() and run_folder.read_marked(self.out, PROGRAM) is None:
            raise ValueError(f"{self.out} is no output of {PROGRAM}, or was changed since; delete it, or choose another --out")

    def _replaces(self, found: Mapping[str, Any] | None) -> bool:
        """Return whether the existing output is the one that the run of this record replaces at its end."""
        return found is not None and found.get(REPLACES) == run_folder.digest(self.out)

    def claim(self, *, fresh: bool = False) -> None:
        """Make the folder of parts, or find that it is this run's.

        Args:
            fresh: delete the parts of an earlier run first; `merge` replaces its output.

        Raises:
            ValueError: as `check`, or a folder that cannot be written.
        """
        self.check(fresh=fresh)
        try:
            recorded = _read_record(self.folder) is not None
            self._check_own()
            if self.folder.exists() and (fresh or not recorded):  # parts without a record may be of any settings
                shutil.rmtree(self.folder)
            self.folder.mkdir(exist_ok=True)
            replaced = {REPLACES: run_folder.digest(self.out)} if self.out.exists() else {}
        except OSError as error:
            raise ValueError(f"cannot write {self.out}: {error.strerror}") from error
        if fresh or not recorded:
            record = json.dumps(self._record() | replaced, indent=2, ensure_ascii=False)
            run_folder.write_text(self.folder / run_folder.RECORD, record + "\n")

    def _check_own(self) -> None:
        """Raise ValueError if the folder of parts holds what no run writes there, which would be deleted with it."""
        found = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        for path in found:
            if path.is_dir() or not OWN.fullmatch(path.name):
                raise ValueError(f"{path} is no file of {PROGRAM} and would be deleted; move it, or choose another --out")

    def share(self, team: Team) -> range:
        """Return the batches that are this process's."""
        return self.batches[team.rank :: team.size]

    def missing(self, team: Team) -> list[int]:
        """Return the batches that this process has still to do."""
        return [i for i in self.share(team) if run_folder.read_finished(self.part(i), self.mark(i)) is None]

    def finish(self, batches: Sequence[int], prompts: Sequence[Encoded], write: Write) -> Iterator[int]:
        """Do these batches and keep each; yield how many prompts it had."""
        for batch in batches:
            rows = self.rows(batch)
            done = write([prompts[row] for row in rows], batch)
            frame = _frame(rows, [prompts[row].scale for row in rows], done)
            run_folder.write_frame(self.part(batch), run_folder.marked(frame, self.mark(batch)))
            yield len(rows)

    def merge(self) -> int:
        """Write the output, remove the parts, and return how many completions there are.

        Raises:
            ValueError: a part is missing or damaged, or the output has come to exist or has changed meanwhile.
        """
        parts = [run_folder.read_marked(self.part(i), self.mark(i)) for i in self.batches]
        if any(part is None for part in parts):
            raise ValueError(f"a part in {self.folder} is missing or damaged; the same command does it again")
        done = pd.concat(parts, ignore_index=True)
        if self.out.exists() and not self._replaces(_read_record(self.folder)):
            raise ValueError(f"{self.out} exists already; nothing was overwritten, and what is finished is kept")
        kept = self.frame.drop(columns="scale", errors="ignore").iloc[done["index"]].reset_index(drop=True)
        whole = self.folder / "whole.parquet"  # beside the parts, so that what an interruption leaves goes with them
        first = done[["index", "sample"]]
        frame = pd.concat([first, kept, done.drop(columns=list(first))], axis=1)
        run_folder.write_frame(whole, run_folder.marked(frame, PROGRAM))
        whole.replace(self.out)
        shutil.rmtree(self.folder)
        return len(done)

    def mark(self, batch: int) -> str:
        """Return the identity of the part of a batch; it differs between batches and runs."""
        return run_folder.identity(self._record(), str(batch))

    def _record(self) -> dict[str, Any]:
        config = dict(self.config) | {"batch size": self.size} | {name: version(name) for name in PACKAGES}
        return {"program": PROGRAM, "config": config}


@dataclass(frozen=True)
class Task:
    """What to complete and where to.

    Attributes:
        source: the file of prompts.
        out: the file to write.
        negative, scale: of the prompts that bring none.
        size: prompts a batch.
        fresh: whether to delete the parts of an earlier run first, and to replace its output in the end.
    """

    source: Path
    out: Path
    negative: str | None = None
    scale: float = 1.5
    size: int = 8
    fresh: bool = False

    def run(self, choice: Choice, sampling: Sampling, device: str) -> Run:
        """Return the run of these prompts with these settings.

        Raises:
            ValueError: prompts that the run would overwrite, or that cannot be read.
        """
        own = {"negative": self.negative, "scale": self.scale, "device": device}
        if self.out.exists() and self.source.exists() and self.out.samefile(self.source):
            raise ValueError(f"--out {self.out} is the file of --prompts; choose another --out")
        frame = read_prompts(self.source, joint=sampling.joint is not None)
        config = choice.identity() | own | asdict(sampling) | {"content of the prompts": run_folder.digest(self.source)}
        run = Run(self.out, frame, self.size, config)
        run_folder.check_apart(run.folder, "--prompts", self.source)
        return run


def complete_file(task: Task, choice: Choice, sampling: Sampling, team: Team, track: Callable[..., Any]) -> int:
    """Complete a file of prompts, or what an interruption has left of it; return how many completions the output has.

    Args:
        track: makes a progress bar, as tqdm does.

    Raises:
        ValueError: anything that does not fit, before any decoding.
    """

    def prepare() -> tuple[Run, Any, list[Encoded]]:
        run = task.run(choice, sampling, team.device.type)
        run.check(fresh=task.fresh)
        loaded = choice.load(team.device)
        return run, loaded, encode(loaded, requests(run.frame, task.negative, task.scale), sampling)

    run, loaded, prompts = team.together(prepare)
    team.together(lambda: run.claim(fresh=task.fresh) if team.leads else None)
    left = run.missing(team)
    share, missing = (sum(len(run.rows(i)) for i in part) for part in (run.share(team), left))
    with track(total=share, initial=share - missing) as bar:
        for prompts_done in run.finish(left, prompts, partial(_write, loaded, sampling)):
            bar.update(prompts_done)
    team.wait()
    return team.together(lambda: run.merge() if team.leads else 0)


def _write(loaded: Any, sampling: Sampling, batch: Sequence[Encoded], index: int) -> list[list[Completion]]:
    return complete(loaded, batch, sampling, index)


def _frame(rows: Sequence[int], scales: Sequence[float], done: Sequence[Sequence[Completion]]) -> pd.DataFrame:
    """Return one row a completion."""
    records = [
        {"index": row, "sample": sample, "scale": scale} | completion.record()
        for row, scale, completions in zip(rows, scales, done, strict=True)
        for sample, completion in enumerate(completions)
    ]
    return pd.DataFrame(records)


def _read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record in a folder of parts, None if it has none: nothing has been kept there yet."""
    try:
        record = json.loads((folder / run_folder.RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else {}


def _differences(found: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if found.get("program") != now["program"]:
        return "it is no run of arguide generate"
    if not isinstance(found.get("config"), dict):
        return "its settings cannot be read"
    return run_folder.differences(found["config"], now["config"])
