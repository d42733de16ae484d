r"""Where results live: files that belong to one run and show damage, in a folder that belongs to it as well.

A run's folder holds `run.json` (its settings and versions), `experiments/NAME.parquet` for every finished experiment,
`figures/`, `results.parquet` and `report.html`. A second run with the same settings picks up what is finished: the frames that
bear the mark of the run, a digest of their content and of the run's record. A frame without it is computed again.
"""

import json
import logging
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from arguide.files import digest as digest
from arguide.files import sweep
from arguide.files import write as write

PROGRAM = "arguide reproduce"
RECORD, MARK = "run.json", "arguide"
PACKAGES = ("arguide", "torch", "transformers", "datasets", "numpy", "pandas", "seaborn", "scikit-learn")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write(path, lambda place: place.write_text(text, encoding="utf-8"))


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a parquet file atomically."""
    write(path, lambda place: frame.to_parquet(place, index=False))


def marked(frame: pd.DataFrame, part: str, others: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return a frame with the mark of a part of a run, which `write_frame` writes along.

    Args:
        part: what tells the part from others, see `part_of`.
        others: files that belong to the frame, and their digests.
    """
    mark = {"part": part, "files": dict(others or {})}
    out = frame.copy(deep=False)
    out.attrs = {MARK: mark | {"digest": _digest(frame, mark)}}
    return out


def read_marked(path: Path, part: str) -> pd.DataFrame | None:
    """Return a frame with this mark, None where the file is missing, damaged, or another part or of another run."""
    try:
        frame = pd.read_parquet(path)
        mark = frame.attrs[MARK]
        return frame if mark["part"] == part and mark["digest"] == _digest(frame, mark) else None
    except Exception:  # a damaged parquet file may raise anything
        return None


def read_finished(path: Path, part: str) -> pd.DataFrame | None:
    """Return what `read_marked` does, and log it where a file is there and is not used."""
    frame = read_marked(path, part)
    if frame is None and path.exists():
        log_again(path)
    return frame


def log_again(path: Path) -> None:
    """Log that a file is not used."""
    logging.getLogger(__name__).warning("arguide: %s is damaged or of another run; it is computed again", path)


def _digest(frame: pd.DataFrame, mark: Mapping[str, Any]) -> str:
    content = pa.Table.from_pandas(frame, preserve_index=False).to_pydict()  # as a file of it is read, None for NaN
    return digest(json.dumps([mark["part"], mark["files"], content], default=str).encode())


def digests(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Return the digests of files in a folder, by their names in it."""
    return {path.relative_to(folder).as_posix(): digest(path) for path in sorted(paths)}


def damaged(folder: Path, frame: pd.DataFrame) -> str | None:
    """Return the first file that belongs to a marked frame and is no longer what it was, None if there is none."""
    belong: dict[str, str] = frame.attrs[MARK]["files"]
    return next((name for name, mark in belong.items() if not (folder / name).is_file() or digest(folder / name) != mark), None)


def versions() -> dict[str, str]:
    """Return the versions of what a number depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def claim(
    folder: Path,
    config: Mapping[str, Any],
    program: str = PROGRAM,
    parts: Sequence[str] = ("experiments", "figures"),
    *,
    own: Sequence[str] = (),
    fresh: bool = False,
) -> None:
    """Make a folder this run's own, with the folders that it needs, or find that it already is.

    Args:
        own: the names of the files that the program writes there, perhaps with wildcards and folders.
        fresh: delete those files of an earlier run first, whatever its settings, and no others.

    Raises:
        ValueError: the folder cannot be written, holds other files and no run, or belongs to a run with other settings.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = read_record(folder, program)
        if found is None:
            _check_empty(folder, program)
        elif fresh:
            _clear(folder, own)
        else:
            _check_same(folder, found, config)
        if found is None or fresh:
            write_record(folder, program, config)
        for part in parts:
            (folder / part).mkdir(exist_ok=True)
        sweep(folder, (RECORD, *own))
        for left in (path for name in own if name.endswith(".part") for path in folder.glob(name)):
            left.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}") from error


def write_record(folder: Path, program: str, config: Mapping[str, Any]) -> None:
    """Write the record of a run."""
    record = {"program": program, "config": dict(config), "versions": versions()}
    write_text(folder / RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def _check_empty(folder: Path, program: str) -> None:
    if any(not path.name.startswith(".") for path in folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no run of {program}; choose another --out")


def _clear(folder: Path, own: Sequence[str]) -> None:
    """Delete files by their names, all but the record, and the folders that this empties."""
    found = [path for name in own for path in folder.glob(name) if path.is_file()]
    for path in found:
        path.unlink()
    for parent in sorted({parent for path in found for parent in path.parents if folder in parent.parents}, reverse=True):
        if not any(parent.iterdir()):
            parent.rmdir()


def check_apart(folder: Path, option: str, *given: str | Path) -> None:
    """Refuse what is given to be read if it is, or lies within, the folder to be written, where --fresh would delete it.

    Raises:
        ValueError: such a place, which is there; a name on the hub is none.
    """
    for place in map(Path, given):
        if place.exists() and place.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{option} {place} lies in the folder of --out, {folder}; choose another --out")


def read_record(folder: Path, program: str = PROGRAM) -> dict[str, Any] | None:
    """Return the record of the run that a folder holds, None if it holds none of this program."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and record.get("program") == program
    return record if known and isinstance(record.get("config"), dict) else None


def part_of(folder: Path, name: str) -> str:
    """Return the identity of a part of the run of a folder; it differs between parts, settings and versions."""
    return identity(json.loads((folder / RECORD).read_text(encoding="utf-8")), name)


def identity(record: Mapping[str, Any], name: str) -> str:
    """Return a digest of a record and the name of a part."""
    return digest(json.dumps([record, name], sort_keys=True).encode())


def differences(found: Any, now: Mapping[str, Any]) -> str:
    """Return which settings differ and how, "" if none does."""
    old = found if isinstance(found, Mapping) else {}
    return ", ".join(f"{key} {old.get(key)} → {now.get(key)}" for key in {**now, **old} if old.get(key) != now.get(key))


def _check_same(folder: Path, found: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    for part, now in (("config", config), ("versions", versions())):
        if differs := differences(found.get(part), now):
            raise ValueError(f"{folder} holds a run with other settings ({differs}); choose another --out, or --fresh")


def shown(place: str) -> str:
    """Return a file or folder by its name, without where it is, for what is saved for others; a name on the hub is whole."""
    path = Path(place)
    return path.absolute().name if path.is_absolute() or path.exists() else place
