"""The console command `arguide`: a table for people, `--json` for machines, errors in one line and exit code 2."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # an interrupt of an import that stands here would be a traceback, so that there are few
    from typing import Any, NoReturn

INTERRUPTED = "interrupted; what is finished is kept, and the same command picks it up"
KILLED = "a process was killed, perhaps out of memory; the same command goes on from what is finished, fewer --jobs need less"


def app(**options: Any) -> Any:
    """Run the commands; they are imported here, so that `main` reports an interrupt of the import too."""
    from analysis.cli.commands import app as commands

    return commands(**options)


def main() -> NoReturn:
    """Run the command; every expected error is one line on stderr and exit code 2."""
    interrupts: list[int] = []
    try:
        note_interrupts(interrupts)
        code = app(standalone_mode=False)
        sys.stdout.flush()  # a full disk fails here, and not after the last line of this program
    except KeyboardInterrupt:
        _fail(INTERRUPTED, 130)
    except Exception as error:
        if interrupts:  # an import that is interrupted may end in an error of its own
            _fail(INTERRUPTED, 130)
        _stop(error)
    if code == 130:  # how typer says that it was interrupted
        _fail(INTERRUPTED, 130)
    sys.exit(code if isinstance(code, int) else 0)


def note_interrupts(interrupts: list[int]) -> None:
    """Let every interrupt be noted before it is raised, where it would be raised."""
    import signal

    def note(number: int, frame: Any) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, note)


def _stop(error: Exception) -> NoReturn:
    """End with one line for an expected error, and raise another."""
    from concurrent.futures import BrokenExecutor

    import typer

    if isinstance(error, typer.Exit):
        sys.exit(error.exit_code)
    if isinstance(error, typer.Abort):
        _fail(INTERRUPTED, 130)
    if isinstance(error, BrokenExecutor):
        _fail(KILLED, 2)
    if isinstance(error, MemoryError) or all(word in str(error) for word in ("memory", "allocate")):  # as torch says it
        _fail(f"the memory is too small ({_one_line(error)}); try smaller sizes", 2)
    if hasattr(error, "format_message"):  # the command line's own errors, which typer does not export
        _fail(error.format_message(), 2)
    if not isinstance(error, ValueError | OSError | ImportError):  # a package that is missing, or of another release
        raise error
    _fail(_one_line(error), 2)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _fail(message: str, code: int) -> NoReturn:
    print(f"arguide: {' '.join(message.split())}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # the pipe is closed or the disk full; buffered output would fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
