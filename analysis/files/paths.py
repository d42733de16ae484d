"""Check the paths that a user gives, before anything slow is imported or computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TABLES = (".csv", ".parquet", ".jsonl", ".json")
TEXTS = (".txt", *TABLES)  # of texts without labels


def path_of(file: Path | str) -> Path:
    """Return the path of a file that a user names.

    Raises:
        ValueError: neither a path nor a text.
    """
    if not isinstance(file, Path | str):
        raise ValueError(f"path must be a path or a text, got {type(file).__name__}; try analysis.Table for an array")
    return Path(file)


def check_file(path: Path) -> None:
    """Refuse a file that does not exist.

    Raises:
        ValueError: no such file.
    """
    if not path.is_file():
        raise ValueError(f"no file {path}")


def check_texts(path: Path) -> None:
    """Refuse a file of texts that does not exist, or has another suffix than `TEXTS`.

    Raises:
        ValueError: no such file, or another suffix.
    """
    if path.exists() and path.suffix not in TEXTS:
        raise ValueError(f"{path.name}: a file of texts must end in {', '.join(TEXTS)}, got {path.suffix or 'no suffix'}")
    check_file(path)


def check_output(option: str, path: Path, suffix: str) -> None:
    """Refuse an output that cannot be written.

    Args:
        option: the option that names the output.
        path: the file to write.
        suffix: the suffix that the file must have.

    Raises:
        ValueError: another suffix, a folder in the place of the file, or no folder to write it into.
    """
    if path.suffix != suffix:
        raise ValueError(f"{option} must end in {suffix}, got {path.name}")
    if path.is_dir():
        raise ValueError(f"{option} must be a file, got the folder {path}")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: no folder {path.parent}")


def check_data(name: str) -> None:
    """Refuse data that are not there; a name on the hub is looked up later.

    Raises:
        ValueError: no such file or folder, or a file with another suffix than `TABLES`.
    """
    path = Path(name)
    if path.suffix in TABLES:
        check_file(path)
    if is_local(name) and not path.exists():
        raise ValueError(f"no file or folder {name}")
    if path.is_file() and path.suffix not in TABLES:
        raise ValueError(f"{name}: data must be a file in {', '.join(TABLES)}, a folder of images, or a name on the hub")


def check_model(name: str) -> None:
    """Refuse a folder that is missing or holds no model; a name on the hub is looked up later.

    Raises:
        ValueError: such a folder.
    """
    path = Path(name)
    if not path.exists() and is_local(name):
        raise ValueError(f"{name} is neither a local folder nor a name on the hub")
    if path.exists() and not (path / "config.json").is_file():
        raise ValueError(f"{name} holds no model: a folder with config.json is needed, as save_pretrained writes it")


def is_local(name: str) -> bool:
    """Return whether a name must be a path: a name on the hub has at most one slash, and starts with neither "." nor "~"."""
    path = Path(name)
    return path.is_absolute() or name.startswith((".", "~")) or len(path.parts) > 2


@contextmanager
def readable(path: Path, *kinds: type[BaseException]) -> Iterator[None]:
    """Report errors of reading a file in one line that names the file.

    Raises:
        ValueError: in the place of a ValueError, OSError, RecursionError or one of the `kinds`.
    """
    expected: tuple[type[BaseException], ...] = (ValueError, OSError, RecursionError, *kinds)
    try:
        yield
    except expected as error:
        raise ValueError(f"{path.name}: not a readable {path.suffix} file ({first_line(error)})") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error that is not blank, or the name of its type."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
