"""Measure the scale factors of text."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from analysis.cli import options
from analysis.cli.options import Dtype, Json, Model, Negative, NegativeSystem, NoChat, Seed, System, running
from analysis.files import paths

MEASURED, FILES = "Measurement", "Files to write"
measured_by = options.group(MEASURED)
EXPLORE = "Write log Z_t of every token, and texts of both laws, into this new .json file; the page explore.html shows it."
TEXTS = "Texts to measure instead of samples: a .txt file, one per line, or .csv, .parquet, .jsonl or .json with a column text."


def scale_factors(
    model: Model,
    prompt: Annotated[str, typer.Option(help="The text to continue.")],
    scale: Annotated[float, typer.Option(help="γ: 0 unconditional, 1 conditional, above 1 sharpened.")],
    negative: Negative = None,
    system: System = None,
    negative_system: NegativeSystem = None,
    temperature: Annotated[float | None, typer.Option(help="τ of both laws.")] = None,
    power: Annotated[float | None, typer.Option(help="β = 1/τ, instead of --temperature.")] = None,
    samples: Annotated[int, measured_by(help="Samples of the sequential law.", min=2)] = 256,
    texts: Annotated[Path | None, options.path(TEXTS, MEASURED)] = None,
    max_new_tokens: Annotated[int, measured_by(help="T, the maximum length of a text.", min=1)] = 20,
    particles: Annotated[int, measured_by(help="Particles per run that estimates log Z.", min=2)] = 256,
    repeats: Annotated[int, measured_by(help="Independent runs; their spread gives the standard error of log Z.", min=2)] = 4,
    cap: Annotated[str, measured_by(help="At T: truncate a text that has not ended, or force its end.")] = "truncate",
    figure: Annotated[Path | None, options.path("Draw the figure into this new .png file.", FILES)] = None,
    out: Annotated[Path | None, options.path("Write one row per text to this new .parquet file.", FILES)] = None,
    explore: Annotated[Path | None, options.path(EXPLORE, FILES)] = None,
    no_chat: NoChat = False,
    dtype: Dtype = "auto",
    seed: Seed = 0,
    device: Annotated[str, running("--device", help="cpu, cuda, cuda:0 (and so on) or mps.")] = "cpu",
    json: Json = False,
) -> None:
    """Measure how much joint and sequential guidance, or temperature, change the probability of text, and the difference."""
    options.check_new("--out", out, ".parquet")
    options.check_new("--figure", figure, ".png")
    options.check_new("--explore", explore, ".json")
    if texts is not None:
        paths.check_texts(texts)
    paths.check_model(model)
    options.check_memory(samples * max_new_tokens, 8, samples=samples, max_new_tokens=max_new_tokens)
    options.check_memory(particles * max_new_tokens, 8, particles=particles, max_new_tokens=max_new_tokens)
    options.check_memory(repeats * particles, 8, repeats=repeats, particles=particles)

    from analysis.cli import display
    from analysis.figures import measurement as figures
    from analysis.files import run_folder
    from analysis.files.tables import read_texts
    from analysis.metrics import gap_estimates
    from analysis.text import explored_texts, loading, measured_texts, tokens

    chat = tokens.Chat(not no_chat, system, negative_system)
    target = measured_texts.Target(prompt, negative, scale, temperature, power, max_new_tokens, cap, chat)
    plan = gap_estimates.Plan(samples, particles, repeats)
    given = [] if texts is None else read_texts(texts, "text")["text"].tolist()
    loading.silence()
    loaded = loading.Choice(model, None, dtype).load(loading.find_device(device))
    bar = partial(display.bar(""), desc="scale-factors", unit="batch")
    measured = measured_texts.measure_texts(loaded, target, plan, texts=given, seed=seed, track=bar)
    if out is not None:
        run_folder.write_frame(out, measured.sequences.assign(base=target.base))
    doubt = "" if measured.diagnosis.consistent else f"log Z is {measured.diagnosis.verdict}"
    if figure is not None:
        figures.save(measured.sequences, measured.lengths, doubt, figure)
    if explore is not None:
        explored_texts.save(explore, explored_texts.record(loaded, target, measured, model=run_folder.shown(model), seed=seed))
    if doubt:
        print(f"arguide: {doubt}", file=sys.stderr)
    if json:
        display.dump({"model": model, "seed": seed} | measured_texts.record(target, plan, measured), nan=False)
        return
    display.factors(target, measured)
    for path, what in ((out, "texts are"), (figure, "figure is"), (explore, "texts for the page explore.html are")):
        if path is not None:
            print(f"The {what} in {path}")
