"""Compute the exact laws of a user's own distribution: a table of discrete columns, or n-gram models of labelled texts."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from analysis.cli import options
from analysis.cli.options import Device, Json, Seed
from analysis.files import paths

if TYPE_CHECKING:
    import pandas as pd

    from analysis.toys import NgramModels

FILE = r"A .npy joint table \[y, x_1, …, x_T]; .csv/.parquet of discrete columns; or with --order, labelled texts."
TEXTS = "Texts"
texts = options.group(TEXTS)


def exact(
    file: Annotated[Path, typer.Argument(parser=options.place, help=FILE)],
    label: Annotated[str, typer.Option(help="The condition y: the name of a label; its index in a .npy table.")],
    scale: Annotated[float, typer.Option(help="γ: 0 unconditional, 1 conditional.")],
    temperature: Annotated[float, typer.Option(help="τ of both laws.")] = 1.0,
    label_column: Annotated[str | None, typer.Option(help="The column of y, for .csv and .parquet.")] = None,
    smoothing: Annotated[float, typer.Option(help="Added to the count of every cell, for .csv and .parquet.")] = 0.0,
    out: Annotated[
        Path | None, options.path("Write the laws to this new .parquet file, one row per x; of texts, the draws.")
    ] = None,
    order: Annotated[int, texts(help="n: the next token depends on the n − 1 before it; 0 for no texts.", min=0)] = 0,
    text_column: Annotated[str, texts(help="The column of the texts.")] = "text",
    length: Annotated[int, texts(help="Largest number of tokens, the end included; 0 for the longest text.", min=0)] = 0,
    max_labels: Annotated[int, texts(help="Keep the most frequent labels only; 0 for all.", min=0)] = 0,
    tokenizer: Annotated[str | None, options.named("A tokenizer whose tokens replace characters.", TEXTS)] = None,
    mixture: Annotated[bool, texts(help="p(x) is the mixture of the labels, by exact draws.")] = False,
    sample: Annotated[int, texts(help="Texts to draw of each law.", min=0)] = 0,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Compute the exact joint and sequential laws of your own distribution, and their differences."""
    options.check_device(device)
    paths.check_file(file)
    options.check_new("--out", out, ".parquet")
    if file.suffix == ".npy" and (label_column is not None or smoothing):
        raise ValueError("--label-column and --smoothing are for .csv and .parquet; a .npy file is a table already")
    if not order and (length or max_labels or tokenizer or mixture or sample):
        raise ValueError("--length, --max-labels, --tokenizer, --mixture and --sample are for texts; try --order 5 too")
    if mixture and temperature != 1:
        raise ValueError("--mixture is drawn by acceptance, which has no --temperature; leave one of them out")
    if order and (smoothing or (out is not None and not sample)):
        raise ValueError("--order reads texts, which have no --smoothing, and whose --out holds draws; try --sample 100")

    if not order:
        found = _of_table(
            file, label, scale, temperature, label_column=label_column, smoothing=smoothing, frame=out is not None
        )
    else:
        models = _ngrams(file, order, text_column, label_column or "label", length, max_labels, tokenizer)
        name = options.known(label, models.labels)
        found = (
            _of_mixture(models, name, scale, sample=sample, seed=seed)
            if mixture
            else _of_texts(models, name, scale, temperature, sample=sample, seed=seed)
        )
    _show(found, f"{file.name}: {found.size}, label {label}, γ = {scale:g}, τ = {temperature:g} (nats)", out, json=json)


class Found(NamedTuple):
    """The size of a distribution, its figures, rows for the file, and the texts of each law."""

    size: str
    figures: dict[str, float]
    frame: "pd.DataFrame | None"
    texts: dict[str, list[str]]


def _of_table(
    file: Path,
    label: str,
    scale: float,
    temperature: float,
    *,
    label_column: str | None,
    smoothing: float,
    frame: bool,
) -> Found:
    from analysis.metrics import scale_factors
    from analysis.toys import read_table

    table = read_table(file, label_column=label_column, smoothing=smoothing)
    name = options.known(label, table.labels, numbered=file.suffix == ".npy")
    figures = scale_factors.summary(table, name, scale, temperature=temperature)
    laws = scale_factors.laws_frame(table, name, scale, temperature=temperature) if frame else None
    return Found(f"{' × '.join(map(str, table.shape))} cells", figures, laws, {})


def _ngrams(
    file: Path, order: int, text_column: str, label_column: str, length: int, max_labels: int, tokenizer: str | None
) -> "NgramModels":
    from analysis.toys import read_ngrams

    ways = {}
    if tokenizer is not None:
        from analysis.text import loading

        loading.silence()
        found = loading.read_tokenizer(tokenizer)
        ways = {"pieces": found.tokenize, "join": found.convert_tokens_to_string}
    return read_ngrams(
        file,
        order=order,
        text_column=text_column,
        label_column=label_column,
        length=length or None,
        max_labels=max_labels or None,
        **ways,
    )


def _of_texts(models: "NgramModels", label: str | int, scale: float, temperature: float, *, sample: int, seed: int) -> Found:
    import torch

    from analysis.metrics import text_laws

    laws = text_laws.text_laws(models, label, scale, temperature=temperature)
    generator = torch.Generator().manual_seed(seed)
    figures = text_laws.summary(laws, generator=generator)
    return _found(models, figures, text_laws.texts_frame(models, laws, sample, generator) if sample else None)


def _of_mixture(models: "NgramModels", label: str | int, scale: float, *, sample: int, seed: int) -> Found:
    import torch

    from analysis.metrics.mixture_texts import DRAWS, MixtureLaws

    generator = torch.Generator().manual_seed(seed)
    drawn = MixtureLaws(models, label).sample(scale, max(2 * sample, DRAWS), generator)
    figures: dict[str, float] = {}
    for key, found in drawn.summary().items():
        figures |= {key: found.value} | ({f"{key}_std_error": found.std_error} if found.std_error else {})
    return _found(models, figures, drawn.frame(sample, generator) if sample else None)


def _found(models: "NgramModels", figures: dict[str, float], frame: "pd.DataFrame | None") -> Found:
    texts = {} if frame is None else {str(law): rows["text"].tolist() for law, rows in frame.groupby("law", sort=False)}
    return Found(f"{models.states:,} contexts of {models.size} tokens, texts of at most {models.length}", figures, frame, texts)


def _show(found: Found, title: str, out: Path | None, *, json: bool) -> None:
    from analysis.cli import display
    from analysis.files import run_folder

    if out is not None and found.frame is not None:
        run_folder.write_frame(out, found.frame)
    if json:
        figures = {key: value if math.isfinite(value) else str(value) for key, value in found.figures.items()}
        display.dump(figures | ({"texts": found.texts} if found.texts else {}))
        return
    display.table(title, ("quantity", "value"), [(key, f"{value:.6g}") for key, value in found.figures.items()])
    if found.figures.get("log_growth", 0) > 0:
        print(
            f"Z grows by e^{found.figures['log_growth']:.3g} per token and has no limit: the joint law is that of this length."
        )
    if found.texts:
        display.table("Draws of each law", list(found.texts), list(zip(*found.texts.values(), strict=True)))
    if out is not None:
        print(f"The {'draws' if found.texts else 'laws'} are in {out}")
