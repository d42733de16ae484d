r"""Keep the results of a run in a folder of its own, so that the same command resumes it and damage is noticed.

The folder holds `run.json` (program, settings, versions) and the parts of the run. Every finished part is a parquet file with a
mark: a digest of its content and of the record of the run. A part without its mark is computed again.
"""

import json
import logging
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from arguide.files import digest as digest
from arguide.files import sweep as sweep
from arguide.files import write as write

PROGRAM = "arguide reproduce"
RECORD, MARK = "run.json", "arguide"
PACKAGES = ("arguide", "torch", "transformers", "tokenizers", "datasets", "numpy", "pandas", "seaborn", "scikit-learn")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write(path, lambda place: place.write_text(text, encoding="utf-8"))


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a parquet file atomically."""
    write(path, lambda place: frame.to_parquet(place, index=False))


# Marked frames.


def marked(frame: pd.DataFrame, part: str, others: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return a frame with the mark of a part of a run; `write_frame` writes both.

    Args:
        frame: the result.
        part: the identity of the part, see `part_of`.
        others: files that belong to the result: from names to digests.
    """
    mark = {"part": part, "files": dict(others or {})}
    out = frame.copy(deep=False)
    out.attrs = {MARK: mark | {"digest": _digest(frame, mark)}}
    return out


def read_marked(path: Path, part: str) -> pd.DataFrame | None:
    """Return the frame with this mark, or None where the file is missing, damaged, or of another part or run."""
    try:
        frame = pd.read_parquet(path)
        mark = frame.attrs[MARK]
        return frame if mark["part"] == part and mark["digest"] == _digest(frame, mark) else None
    except Exception:  # a damaged parquet file may raise anything
        return None


def read_finished(path: Path, part: str) -> pd.DataFrame | None:
    """Return `read_marked(path, part)`; log a file that exists and is not used."""
    frame = read_marked(path, part)
    if frame is None and path.exists():
        log_again(path)
    return frame


def log_again(path: Path) -> None:
    """Log that a file is not used."""
    logging.getLogger(__name__).warning("arguide: %s is damaged or of another run; it is computed again", path)


def _digest(frame: pd.DataFrame, mark: Mapping[str, Any]) -> str:
    content = pa.Table.from_pandas(frame, preserve_index=False).to_pydict()  # as read from the file, None for NaN
    return digest(json.dumps([mark["part"], mark["files"], content], default=str).encode())


def digests(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Return the digests of files in a folder, by their names in it."""
    return {path.relative_to(folder).as_posix(): digest(path) for path in sorted(paths)}


def files_of(frame: pd.DataFrame) -> dict[str, str]:
    """Return the digests of the files that belong to a marked frame, by their names."""
    files: dict[str, str] = frame.attrs[MARK]["files"]
    return files


def damaged(folder: Path, frame: pd.DataFrame) -> str | None:
    """Return the first file of a marked frame that is missing or has another digest, or None."""
    files = files_of(frame)
    return next((name for name, mark in files.items() if not (folder / name).is_file() or digest(folder / name) != mark), None)


# The folder and its record.


def claim(
    folder: Path,
    config: Mapping[str, Any],
    program: str = PROGRAM,
    parts: Sequence[str] = ("experiments", "figures"),
    *,
    own: Sequence[str] = (),
    fresh: bool = False,
    shared: bool = False,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Create the folder of a run and its record, or check that it already belongs to this run.

    Args:
        folder: the folder of the run.
        config: the settings that decide the results, ready for JSON.
        program: the command that writes the folder.
        parts: the folders to create in it.
        own: the names of the files that the program writes there; wildcards and folders are allowed.
        fresh: first delete the `own` files of an earlier run, whatever its settings, and no others.
        shared: whether other processes may claim it or work in it at the same time; their temporary files stay.
        notes: further entries of a new record, which are not compared.

    Raises:
        ValueError: the folder cannot be written, holds other files and no run, or belongs to a run with other settings.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = any(not path.name.startswith(".") for path in folder.iterdir())  # before the record, which is the first file
        found = read_record(folder, program)
        if found is None and others:
            raise ValueError(f"{folder} is not empty and holds no run of {program}; choose another --out")
        if found is not None and fresh:
            clear(folder, own)
        if found is None or fresh:
            record = {"program": program, "config": dict(config), "versions": versions()} | dict(notes or {})
            text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
            _create(folder, text) if shared else write_text(folder / RECORD, text)
            found = read_record(folder, program) or record
        check_same(folder, found, config)
        for part in parts:
            (folder / part).mkdir(exist_ok=True)
        if not shared:
            sweep(folder, (RECORD, *own))
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}") from error


def _create(folder: Path, record: str) -> None:
    """Write the record of a run, unless another process has been faster."""
    place = folder / f".{Path(RECORD).stem}-{os.urandom(4).hex()}.json"  # a name that `sweep` knows
    write_text(place, record)
    try:
        (folder / RECORD).hardlink_to(place)  # which never replaces a file, and shows all of its content at once
    except FileExistsError:
        pass
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; --shard needs a file system with hard links") from error
    finally:
        place.unlink()


def clear(folder: Path, own: Sequence[str]) -> None:
    """Delete the files with these names, which may have wildcards and folders, and the subfolders that this empties."""
    found = [path for name in own for path in folder.glob(name) if path.is_file()]
    for path in found:
        path.unlink()
    for parent in sorted({parent for path in found for parent in path.parents if folder in parent.parents}, reverse=True):
        if not any(parent.iterdir()):
            parent.rmdir()


def check_apart(folder: Path, option: str, *given: str | Path) -> None:
    """Refuse inputs in the folder of the output, where --fresh could delete them.

    Args:
        folder: the folder of the output.
        option: the option that names the inputs.
        *given: the inputs; a name that is no existing path is on the hub and passes.

    Raises:
        ValueError: an input that is the folder or lies in it.
    """
    for place in map(Path, given):
        if place.exists() and place.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{option} {place} lies in the folder of --out, {folder}; choose another --out")


def check_same(folder: Path, record: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse to resume a run with other settings or versions.

    Args:
        folder: the folder of the run.
        record: its record.
        config: the settings of the present run.

    Raises:
        ValueError: settings or versions that differ; the message names them.
    """
    for part, now in (("config", config), ("versions", versions())):
        if differs := _differences(record.get(part), now):
            raise ValueError(f"{folder} holds a run with other settings ({differs}); choose another --out, or --fresh")


def _differences(found: Any, now: Mapping[str, Any]) -> str:
    """Return which settings differ and how, "" if none does."""
    old = found if isinstance(found, Mapping) else {}
    return ", ".join(f"{key} {old.get(key)} → {now.get(key)}" for key in {**now, **old} if old.get(key) != now.get(key))


def read_record(folder: Path, program: str = PROGRAM) -> dict[str, Any] | None:
    """Return the record of the run in a folder, or None if the folder holds no run of this program."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and record.get("program") == program
    return record if known and isinstance(record.get("config"), dict) else None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages on which results depend."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def part_of(folder: Path, name: str) -> str:
    """Return the identity of a part of the run in a folder; it differs between parts, settings and versions."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return digest(json.dumps([record, name], sort_keys=True).encode())


def shown(place: str) -> str:
    """Return the name of a file or folder without its path, for records that others read; a hub name is unchanged."""
    path = Path(place)
    return path.absolute().name if path.is_absolute() or path.exists() else place
