"""The console command `arguide`: a table for people, `--json` for machines, errors in one line and exit code 2."""

import sys
from concurrent.futures import BrokenExecutor
from typing import NoReturn

import typer

from analysis.commands import exact, generate, reproduce, scale_factors, study, train

app = typer.Typer(
    name="arguide",
    help="Guidance of autoregressive and diffusion models: sequential against joint, measured and corrected.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

INTERRUPTED = "interrupted; what is finished is kept, and the same command picks it up"
KILLED = "a process was killed, perhaps out of memory; the same command goes on from what is finished, fewer --jobs need less"


def main() -> NoReturn:
    """Run the command; every expected error is one line on stderr and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except typer.Exit as stop:
        code = stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _fail(INTERRUPTED, 130)
    except (ValueError, OSError) as error:
        _fail(_one_line(error), 2)
    except BrokenExecutor:
        _fail(KILLED, 2)
    except Exception as error:
        if not hasattr(error, "format_message"):  # the command line's own errors, which typer does not export
            raise
        _fail(error.format_message(), 2)
    if code == 130:  # how typer says that it was interrupted
        _fail(INTERRUPTED, 130)
    sys.exit(code if isinstance(code, int) else 0)


@app.callback()
def _root() -> None:
    pass


def _one_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _fail(message: str, code: int) -> NoReturn:
    print(f"arguide: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


app.command("reproduce", short_help="Run the whole argument and write the report.")(reproduce.reproduce)
app.command("exact", short_help="Exact laws of your own distribution.")(exact.exact)
app.command("generate", short_help="Generate text under guidance.")(generate.generate)
app.command("scale-factors", short_help="Measure the scale factors of text.")(scale_factors.scale_factors)
app.command("train", short_help="Train a model with conditioning dropout.")(train.train)
app.command("study", short_help="Train both wings on your data and compare them.")(study.study)

if __name__ == "__main__":
    main()
