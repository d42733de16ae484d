"""Compare the ways to lower a temperature, at equal likelihood."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from analysis import limits
from analysis.cli import options
from analysis.cli.exact import FILE
from analysis.cli.options import Dtype, Json, NoChat, Seed, System, running
from analysis.files import paths

WAYS, MEASURED, OWN = "Ways to lower the temperature", "Measurement", "Exact laws of your own file"
ways, measured_by, own = map(options.group, (WAYS, MEASURED, OWN))
MODEL = "A folder, or a name on the hub. Without it, exact laws and exact scores are compared."


def temperature(
    model: Annotated[str | None, typer.Argument(parser=options.name, help=MODEL)] = None,
    prompt: Annotated[str | None, typer.Option(help="The text to continue.")] = None,
    system: System = None,
    beta: Annotated[str, ways(help="β of the whole text, p(x)^β / Z, and of every factor, τ = 1/β.")] = "1.25,1.5,2",
    top_k: Annotated[str, ways(help="Draw from this many likeliest tokens.")] = "1,2,3,5,10,20,50",
    top_p: Annotated[
        str, ways(help="Draw from the likeliest tokens that together have this probability.")
    ] = ".1,.3,.5,.7,.8,.9",
    file: Annotated[Path | None, options.path(FILE, OWN)] = None,
    label: Annotated[str | None, own(help="The label of p(x | label); without it p(x).")] = None,
    label_column: Annotated[str | None, own(help="The column of labels.")] = None,
    text_column: Annotated[str, own(help="The column of the texts.")] = "text",
    order: Annotated[int, own(help="n of the n-gram models of texts; 0 for a table.", min=0)] = 0,
    groups: Annotated[int, measured_by(help="Independent groups of 16 texts of the whole-text law.", min=2)] = 8,
    sampler: Annotated[str, measured_by(help="Of the whole-text law: particles, or ladder for a larger β.")] = "particles",
    particles: Annotated[int, measured_by(help="Particles for every text of the whole-text law.", min=2)] = 32,
    sweeps: Annotated[int, measured_by(help="Sweeps of a ladder.", min=16)] = 200,
    max_new_tokens: Annotated[int, measured_by(help="T, the maximum length of a text.", min=1)] = 24,
    cap: Annotated[str, measured_by(help="At T: truncate a text that has not ended, or force its end.")] = "truncate",
    show: Annotated[int, measured_by(help="Texts of every way to print.", min=0)] = 2,
    out: Annotated[Path | None, options.path("Write all texts to this new .parquet file.", MEASURED)] = None,
    no_chat: NoChat = False,
    dtype: Dtype = "auto",
    seed: Seed = 0,
    device: Annotated[str, running("--device", help="cpu, cuda, cuda:0 (and so on) or mps.")] = "cpu",
    json: Json = False,
) -> None:
    """Compare low temperature of the factors, p^β of the whole text, top-k and top-p where their texts are equally likely.

    Without MODEL the laws are exact: tables, and diffusion on exact scores with the β that every sampler reaches.
    """
    betas = options.scales_of(beta, "--beta", "1.25,1.5,2")
    ks, ps = options.scales_of(top_k, "--top-k", "1,5,50"), options.scales_of(top_p, "--top-p", ".5,.9")
    limits.check_temperatures(betas, ks, ps)
    options.check_new("--out", out, ".parquet")
    if sampler not in ("particles", "ladder"):
        raise ValueError(f"--sampler must be particles or ladder, got {sampler!r}")
    if file is not None and model is not None:
        raise ValueError("--file is for exact laws, and MODEL for those of a language model; leave one of them out")
    if file is None and (label is not None or label_column is not None or order):
        raise ValueError("--label, --label-column and --order are for the laws of a --file; give one, or leave them out")
    if model is None:
        for option, value in (("--prompt", prompt), ("--out", out)):
            if value is not None:
                raise ValueError(f"{option} is for the texts of a model; give MODEL, or leave it out")
        options.check_device(device)
        if file is not None:
            _own(file, label, label_column, text_column, order, (betas, ks, ps), seed=seed, json=json)
        else:
            _exact(betas, ks, ps, seed=seed, json=json)
        return
    if prompt is None:
        raise ValueError("a model needs a text to continue; give --prompt, or leave out MODEL for exact laws")
    paths.check_model(model)
    given, rows = ({"groups": groups}, 28 * groups) if sampler == "ladder" else ({"particles": particles}, 16 * particles)
    options.check_memory(rows * max_new_tokens, 8, **given, max_new_tokens=max_new_tokens)

    from analysis.cli import display, temperature_tables
    from analysis.files import run_folder
    from analysis.metrics.temperature.draws import Plan
    from analysis.text import loading, tempered_texts, tokens

    chat = tokens.Chat(not no_chat, system)
    target = tempered_texts.Target(prompt, tuple(betas), tuple(ks), tuple(ps), max_new_tokens, cap, chat)
    plan = Plan(groups, particles, sampler, sweeps)
    loading.silence()
    loaded = loading.Choice(model, None, dtype).load(loading.find_device(device))
    bar = partial(display.bar(""), desc="temperature", unit="law")
    measured = tempered_texts.measure_texts(loaded, target, plan, seed=seed, track=bar)
    written = tempered_texts.texts(loaded, target, measured)
    if out is not None:
        run_folder.write_frame(out, written)
    for each in measured.points:
        if not each.converged and each.diagnosis is not None:
            print(f"arguide: p^{each.setting:g}: {each.diagnosis.verdict}", file=sys.stderr)
    if json:
        shown = temperature_tables.side_by_side(measured, written, show)
        display.dump(
            {"model": model, "seed": seed} | tempered_texts.record(target, plan, measured) | {"texts": shown}, nan=False
        )
        return
    temperature_tables.show(target, measured, written, show)
    if out is not None:
        print(f"The texts are in {out}")


def _exact(
    betas: list[float],
    ks: list[float],
    ps: list[float],
    *,
    seed: int,
    json: bool,
) -> None:
    """Compare the ways on exact laws and exact scores."""
    from analysis.cli import display, temperature_tables
    from analysis.experiments.temperature import exact

    frame = exact.run(betas, ks, ps, seed=seed, track=partial(display.bar(""), desc="temperature", unit="law"))
    if json:
        display.dump(exact.record(frame, betas, seed), nan=False)
        return
    temperature_tables.show_exact(frame, betas)


def _own(
    file: Path,
    label: str | None,
    label_column: str | None,
    text_column: str,
    order: int,
    settings: tuple[list[float], list[float], list[float]],
    *,
    seed: int,
    json: bool,
) -> None:
    """Compare the ways on the exact law of a file."""
    paths.check_file(file)

    from analysis.cli import display, temperature_tables
    from analysis.experiments.temperature import exact
    from analysis.metrics.temperature.laws import OfTable, OfTexts
    from analysis.toys import read_ngrams, read_table

    found: OfTable | OfTexts
    if order:
        models = read_ngrams(file, order=order, text_column=text_column, label_column=label_column or "label")
        found = OfTexts(models, None if label is None else options.known(label, models.labels))
    else:
        table = read_table(file, label_column=label_column)
        numbered = file.suffix == ".npy"
        found = OfTable(table, None if label is None else options.known(label, table.labels, numbered=numbered))
    name = file.name if label is None else f"{file.name}, {label}"
    frame = exact.own(name, found, *settings)
    if json:
        display.dump(exact.record(frame, (), seed), nan=False)
        return
    temperature_tables.show_exact(frame, ())
