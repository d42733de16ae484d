"""Write files atomically, detect damaged ones, and delete the temporary files of interrupted writers."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath

DIGITS = 16  # of a digest, in hexadecimal


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file atomically: `save` a temporary neighbour, then move it into place.

    Raises:
        ValueError: the folder cannot be written, or the disk is full.
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
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ValueError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def digest(content: Path | bytes) -> str:
    """Return the first digits of the SHA-256 of a file or of bytes."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()[:DIGITS]
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


def seal(path: Path) -> None:
    """Append its digest to a file, for `unsealed` to check."""
    mark = digest(path)
    with path.open("ab") as file:
        file.write(mark.encode())


def unsealed(path: Path) -> bytes:
    """Return the content of a sealed file, without the digest.

    Raises:
        ValueError: the digest is not that of the content.
    """
    whole = path.read_bytes()
    content, mark = whole[:-DIGITS], whole[-DIGITS:]
    if digest(content).encode() != mark:
        raise ValueError(f"{path} is damaged")
    return content


def sweep(folder: Path, names: Iterable[str]) -> None:
    """Delete the temporary neighbours of these files that killed writers have left; names may have wildcards and folders."""
    for name in map(PurePath, names):
        left = name.with_name(f".{name.stem}-????????{name.suffix}")
        for path in folder.glob(str(left)):
            path.unlink(missing_ok=True)
