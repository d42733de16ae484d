"""Options of the command line, checked before anything is computed."""

import functools
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis import limits
from analysis.files import paths

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every generator.", min=0)]
Device = Annotated[str, typer.Option("--device", help="Where to compute; exact laws on the cpu.")]


def place(given: str | Path) -> Path:
    """Return the path of an option; an empty text would stand for the working directory."""
    if not str(given):
        raise typer.BadParameter("a path must have a name, got an empty text; try . for the working directory")
    return Path(given)


def name(given: str) -> str:
    """Return the name of data or of a model, which may be a path."""
    place(given)
    return given


def path(says: str) -> Any:
    """Return an option that is a path."""
    return typer.Option(parser=place, metavar="<path>", help=says)


def named(says: str) -> Any:
    """Return an option that names data or a model."""
    return typer.Option(parser=name, metavar="<name>", help=says)


def bounded(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that refuses integers beyond 64 bits."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for option, value in given.items():
            if isinstance(value, int) and not abs(value) <= limits.LARGEST:
                shown, digits = f"--{option.replace('_', '-')}", len(str(abs(value)))
                raise ValueError(f"{shown} must fit into 64 bits, got a number of {digits} digits; try a smaller one")
        command(**given)

    return run


def alone() -> bool:
    """Whether this process works alone: among others, one reports what fails in any."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1


def check_model(model: str | None) -> None:
    """Refuse a folder that is not there, or holds no model; a name on the hub is looked up later."""
    if model is None:
        return
    path = Path(model)
    if not path.exists() and paths.is_local(model):
        raise ValueError(f"{model} is neither a folder here nor a name on the hub")
    if path.exists() and not (path / "config.json").is_file():
        raise ValueError(f"{model} holds no model: a folder with config.json is needed, as save_pretrained writes it")


def check_sizes(**sizes: int | None) -> None:
    """Refuse a network or images that no memory here holds."""
    image_size, width, depth, batch_size = (sizes[name] or 1 for name in ("image_size", "width", "depth", "batch_size"))
    limits.check_memory(f"--image-size {image_size:.3g}", image_size**2)
    limits.check_network(f"--width {width:.3g} and --depth {depth:.3g}", width, depth)
    limits.check_memory(f"--batch-size {batch_size:.3g}", batch_size)


def check_new(option: str, path: Path | None, suffix: str) -> None:
    """Refuse, before anything is computed, an output that could not be written or would replace another."""
    if path is None:
        return
    if path.suffix != suffix:
        raise ValueError(f"{option} must end in {suffix}, not {path.name}")
    if path.exists():
        raise ValueError(f"{path} exists already; nothing was overwritten")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: no folder {path.parent}")


def check_modes(
    prompt: list[str], prompts: Path | None, out: Path | None, modes: dict[str, bool], *, stream: bool, several: bool
) -> None:
    """Refuse options that exclude one another."""
    if bool(prompt) == (prompts is not None):
        raise ValueError("give either --prompt (once or more) or a file of --prompts")
    if (prompts is None) != (out is None):
        raise ValueError("--prompts FILE and --out FILE.parquet go together")
    if several and prompts is None:
        raise ValueError("several processes share a file: give --prompts FILE and --out FILE.parquet")
    if modes["--compare"] and prompts is not None:
        raise ValueError("--compare is for --prompt; in a file of --prompts a column scale does it")
    if stream and (len(prompt) != 1 or any(modes.values())):
        raise ValueError(f"--stream prints one completion of one --prompt, without {', '.join(modes)}")


def scales_of(text: str) -> list[float]:
    """Return the numbers of a list with commas, each once."""
    try:
        scales = [float(part) for part in text.split(",")]
    except ValueError:
        scales = [math.nan]
    if not all(abs(scale) <= limits.WIDEST for scale in scales):
        raise ValueError(f"scales must be finite numbers up to {limits.WIDEST:g}, with commas between several, not {text!r}")
    return list(dict.fromkeys(scales))


def apart(scales: Iterable[float]) -> list[float]:
    """Return scales as they are shown, in six digits, each once."""
    return list(dict.fromkeys(float(f"{scale:g}") for scale in scales))


def index_of(label: str, labels: tuple[str, ...], *, numbered: bool) -> int:
    """Return the place of a label that is given by its number."""
    if not (numbered and label.isdecimal() and int(label) < len(labels)):
        raise ValueError(f"no label {label!r}; the labels are {', '.join(labels[:20])}")
    return int(label)


def check_file(path: Path | None) -> None:
    """Refuse a file that is not there."""
    if path is not None and not path.is_file():
        raise ValueError(f"no file {path}")


def check_texts(path: Path | None) -> None:
    """Refuse a file of texts that is not there; one of another kind is refused by its reader."""
    if path is not None and (path.suffix in paths.TEXTS or not path.exists()):
        check_file(path)


def check_device(name: str) -> None:
    """Refuse what exact laws do not run on: they are small, and float64, which some accelerators lack."""
    if name != "cpu":
        raise ValueError(f"exact laws are computed on the cpu, not on device {name!r}")


def check_kind(kind: str, kinds: tuple[str, ...], *, clean: bool, network: str | None) -> None:
    """Refuse a kind of model that there is not, and options of another kind."""
    if kind not in kinds:
        raise ValueError(f"what to train must be one of {', '.join(kinds)}, not {kind!r}")
    if clean and kind != "classifier":
        raise ValueError("--clean is for a classifier")
    if network is not None and kind != "denoiser":
        raise ValueError("--network is for a denoiser")
    if network not in (None, "mlp", "unet"):
        raise ValueError(f"--network must be mlp or unet, not {network!r}")
