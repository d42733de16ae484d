"""Declare the options that commands share, and check options before anything slow is imported or computed."""

import functools
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis import engines, limits
from analysis.files import paths


def place(given: str | Path) -> Path:
    """Return the path of an option; an empty text would mean the working directory.

    Raises:
        BadParameter: an empty text.
    """
    if not str(given):
        raise typer.BadParameter("a path must have a name, got an empty text; try . for the working directory")
    return Path(given)


def name(given: str) -> str:
    """Return the name of data or of a model, which may be a path."""
    place(given)
    return given


def group(title: str) -> Callable[..., Any]:
    """Return `typer.Option` for options that `--help` shows in a group of their own."""
    return functools.partial(typer.Option, rich_help_panel=title)


def path(text: str, panel: str | None = None) -> Any:
    """Return an option that is a path, with its help text and its group."""
    return typer.Option(parser=place, metavar="<path>", help=text, rich_help_panel=panel)


def named(text: str, panel: str | None = None) -> Any:
    """Return an option that names data or a model, with its help text and its group."""
    return typer.Option(parser=name, metavar="<name>", help=text, rich_help_panel=panel)


running = group("Running")
Json = Annotated[bool, running("--json", help="Print JSON, for other programs.")]
Seed = Annotated[int, running("--seed", help="Seed of every random generator.", min=0)]
Model = Annotated[str, typer.Argument(parser=name, help="A folder, or a name on the hub.")]
Negative = Annotated[str | None, typer.Option(help="The prompt to steer away from; by default the last token of the prompt.")]
chat = group("Chat")
NoChat = Annotated[bool, chat("--no-chat", help="Do not use the chat template of the tokenizer.")]
System = Annotated[str | None, chat(help="System prompt, for a tokenizer with a chat template.")]
NegativeSystem = Annotated[
    str | None, chat(help="System prompt to steer away from; it precedes --negative or, without one, the prompt. May be empty.")
]
Dtype = Annotated[str, running(help="auto, float32, bfloat16 or float16.")]
Name = Annotated[str, running("--engine", help="Run the tasks in this process (here), in processes, or on ray.")]
Address = Annotated[str | None, running(help="A Ray cluster, host:port or auto; by default Ray starts on this machine.")]
Shard = Annotated[str | None, running(metavar="<i/n>", help="Run part i of n, for array jobs; last, run without it.")]
Device = Annotated[str, running("--device", help="Where to compute; exact laws need the cpu.")]


def bounded(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with a check that refuses integers beyond 64 bits."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for option, value in given.items():
            if isinstance(value, int) and not abs(value) <= limits.LARGEST:
                shown, digits = f"--{option.replace('_', '-')}", len(str(abs(value)))
                raise ValueError(f"{shown} must fit into 64 bits, got a number of {digits} digits; try a smaller one")
        command(**given)

    return run


def check_new(option: str, path: Path | None, suffix: str) -> None:
    """Refuse an output that cannot be written or would overwrite a file.

    Args:
        option: the option that names the output.
        path: the file to write, if any.
        suffix: the suffix that it must have.

    Raises:
        ValueError: such an output.
    """
    if path is None:
        return
    if path.suffix == suffix and path.exists():
        raise ValueError(f"{path} exists already; nothing was overwritten; choose another {option}")
    paths.check_output(option, path, suffix)


def check_memory(numbers: float, width: int = 4, **sizes: int) -> None:
    """Refuse a computation that exceeds the memory of this machine.

    Args:
        numbers: how many numbers it keeps, at least.
        width: bytes per number.
        **sizes: the options that decide it, with their values.

    Raises:
        ValueError: more memory than the machine has.
    """
    shown = [f"--{option.replace('_', '-')} {value:.3g}" for option, value in sizes.items()]
    limits.check_memory(" with ".join(shown), numbers, width)


def scales_of(text: str, what: str = "scales", example: str = "1,1.5,2") -> list[float]:
    """Return the numbers of a list with commas, each once.

    Args:
        text: the list.
        what: the numbers, in an error.
        example: a list that would do.

    Raises:
        ValueError: a text that is no such list, or a number that is not finite or too large.
    """
    try:
        scales = [float(part) for part in text.split(",")]
    except ValueError:
        scales = [math.nan]
    if not all(abs(scale) <= limits.WIDEST for scale in scales):
        wanted = f"finite numbers up to {limits.WIDEST:g}, with commas between them"
        raise ValueError(f"{what} must be {wanted}, got {text!r}; try {example}")
    return list(dict.fromkeys(scales))


def distinct(scales: Iterable[float]) -> list[float]:
    """Return the scales rounded to six digits, as they are printed, each once."""
    return list(dict.fromkeys(float(f"{scale:g}") for scale in scales))


def check_device(name: str) -> None:
    """Refuse another device than the cpu: exact laws are small, and need float64, which some accelerators lack.

    Raises:
        ValueError: another device.
    """
    if name != "cpu":
        raise ValueError(f"--device must be cpu for exact laws, got device {name!r}")


def known(label: str, labels: tuple[str, ...], *, numbered: bool = False) -> str | int:
    """Return a label that is given by its name or, where labels are numbered, the index that is given.

    Args:
        label: as given.
        labels: the names.
        numbered: whether an index will do.

    Raises:
        ValueError: no such label.
    """
    if label in labels:
        return label
    if not (numbered and label.isdecimal() and int(label) < len(labels)):
        raise ValueError(f"no label {label!r}; the labels are {', '.join(labels[:20])}")
    return int(label)


def engine(name: str, jobs: int, address: str | None) -> engines.Engine:
    """Return the engine of these options, once it works.

    Args:
        name: of `engines.ENGINES`.
        jobs: the number of processes; by default one per core, and at most 8.
        address: of a Ray cluster.

    Raises:
        ValueError: an engine that is unknown, not installed, or does not answer.
    """
    chosen = engines.Engine(name, jobs or min(8, os.cpu_count() or 1), address)
    chosen.check()
    return chosen


def shard(text: str | None, *, fresh: bool) -> tuple[int, int] | None:
    """Return the part i and the number n of parts of a text i/n.

    Args:
        text: as given; None for all parts.
        fresh: whether earlier results are to be deleted.

    Raises:
        ValueError: another text, or a part that would delete the results of the others.
    """
    if text is None:
        return None
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n) <= limits.LARGEST):
        raise ValueError(f"--shard must be i/n with i from 1 to n, got {text!r}; try 1/2")
    if fresh:
        raise ValueError("--fresh would delete the results of other shards; delete the earlier results first, without --shard")
    return int(i), int(n)
