"""Run the console command `arguide`: tables, or JSON with `--json`; an error is one line on stderr and exit code 2."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # few imports stand here: an interrupt of one would print a traceback
    from typing import Any, NoReturn

INTERRUPTED = "interrupted; finished work is kept, and the same command resumes it"
KILLED = "a process was killed, perhaps out of memory; the same command resumes the finished work; try fewer --jobs"


def app(*, standalone_mode: bool) -> Any:
    """Run the commands, imported here so that `main` also reports an interrupt of the import."""
    from analysis.cli.commands import app as commands

    return commands(standalone_mode=standalone_mode)


def main() -> NoReturn:
    """Run the command; every expected error is one line on stderr and exit code 2."""
    interrupts: list[int] = []
    try:
        note_interrupts(interrupts)
        code = app(standalone_mode=False)
        sys.stdout.flush()  # a full disk fails here, where the error is reported
    except (Exception, KeyboardInterrupt) as error:
        interrupted = interrupts or isinstance(error, KeyboardInterrupt)  # an interrupted import may raise another error
        code = 130 if interrupted else _explain(error)
    if code == 130:  # also the exit code of typer after an interrupt
        _fail(_resumed(INTERRUPTED), 130)
    if isinstance(code, str):
        _fail(code, 2)
    sys.exit(code if isinstance(code, int) else 0)


def _resumed(message: str) -> str:
    """Return a message that says how to resume, which --fresh would not."""
    return message.replace("the same command", "the same command without --fresh") if "--fresh" in sys.argv else message


def note_interrupts(interrupts: list[int]) -> None:
    """Append every interrupt to a list before it is raised; do nothing where interrupts are ignored.

    The import of torch runs code in C++ that an interrupt would abort, so an interrupt waits for its end.
    """
    import _thread
    import signal
    import threading

    def note(number: int, frame: Any) -> None:
        interrupts.append(number)
        if getattr(getattr(sys.modules.get("torch"), "__spec__", None), "_initializing", False):
            threading.Timer(0.05, _thread.interrupt_main).start()
        else:
            signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, note)


def _explain(error: BaseException) -> str | int:
    """Return one line for an expected error, or an exit code; raise any other error."""
    from concurrent.futures import BrokenExecutor

    import typer

    from analysis.files import paths

    if isinstance(error, typer.Exit | typer.Abort):
        return error.exit_code if isinstance(error, typer.Exit) else 130
    if isinstance(error, BrokenExecutor):
        return _resumed(KILLED)
    if isinstance(error, OSError) and error.strerror:
        line = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        line = paths.first_line(error)
    if isinstance(error, MemoryError) or all(word in str(error) for word in ("memory", "allocate")):  # the words of torch
        return f"the memory is too small ({line}); try smaller sizes"
    if hasattr(error, "format_message"):  # errors of the command line, whose class typer does not export
        return error.format_message()
    if not isinstance(error, ValueError | OSError | ImportError):  # the last for a package that is missing or too old
        raise error
    return line


def _fail(message: str, code: int) -> NoReturn:
    print(f"arguide: {' '.join(message.split())}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # a closed pipe or a full disk; buffered output would fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
