r"""Where results live: files written whole or not at all, and a folder that belongs to one run.

A run's folder holds `run.json` (its settings and versions), `experiments/NAME.parquet` for every finished experiment,
`figures/`, `results.parquet` and `report.html`. A second run with the same settings picks up what is finished.
"""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

PROGRAM = "arguide reproduce"
PACKAGES = ("arguide", "torch", "transformers", "datasets", "numpy", "pandas", "seaborn", "scikit-learn")


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file atomically: `save` a temporary neighbour, then move it into place.

    Raises:
        ValueError: the folder cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    try:
        save(Path(name))
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise ValueError(f"cannot write {path}: {error.strerror or error}") from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write(path, lambda place: place.write_text(text, encoding="utf-8"))


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a parquet file atomically."""
    write(path, lambda place: frame.to_parquet(place, index=False))


def digest(path: Path) -> str:
    """Return what tells a file from others and from other versions of itself."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Return the versions of what a number depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def claim(
    folder: Path, config: Mapping[str, Any], program: str = PROGRAM, parts: Sequence[str] = ("experiments", "figures")
) -> None:
    """Make a folder this run's own, with the folders that it needs, or find that it already is.

    Raises:
        ValueError: the folder cannot be written, holds other files, or belongs to a run with other settings.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = read_record(folder, program)
        if found is not None:
            _check_same(folder, found, config)
        elif any(not path.name.startswith(".") for path in folder.iterdir()):
            raise ValueError(f"{folder} is not empty and holds no run of arguide; choose another --out")
        else:
            record = {"program": program, "config": dict(config), "versions": versions()}
            write_text(folder / "run.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        for part in parts:
            (folder / part).mkdir(exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}") from error


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
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and record.get("program") == program
    return record if known and isinstance(record.get("config"), dict) else None


def _check_same(folder: Path, found: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    before = {part: value if isinstance(value := found.get(part), dict) else {} for part in ("config", "versions")}
    now = {"config": dict(config), "versions": versions()}
    for part in ("config", "versions"):
        if before[part] != now[part]:
            old, new = before[part], now[part]
            differs = ", ".join(f"{key} {old.get(key)} → {new[key]}" for key in new if old.get(key) != new[key])
            raise ValueError(f"{folder} holds a run with other settings ({differs}); choose another --out, or --fresh")
