"""The scale factors of text."""

import json as json_format
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from analysis import limits
from analysis.cli import options
from analysis.cli.options import Json, Seed

TEXTS = "Continuations to measure, in the place of samples: a .txt, one a line, or .csv, .parquet or .jsonl with a column text."


def scale_factors(
    model: Annotated[str, typer.Argument(parser=options.name, help="A folder, or a name on the hub.")],
    prompt: Annotated[str, typer.Option(help="What the text goes on from.")],
    scale: Annotated[float, typer.Option(help="γ: 0 unconditional, 1 conditional, above 1 sharpened.")],
    negative: Annotated[str | None, typer.Option(help="What to steer away from; the prompt's last token by default.")] = None,
    temperature: Annotated[float | None, typer.Option(help="τ, of both laws.")] = None,
    power: Annotated[float | None, typer.Option(help="β = 1/τ, in the place of --temperature.")] = None,
    samples: Annotated[int, typer.Option(help="Texts from the sequential law.", min=2)] = 256,
    texts: Annotated[Path | None, options.path(TEXTS)] = None,
    max_new_tokens: Annotated[int, typer.Option(help="T, the longest text.", min=1)] = 20,
    particles: Annotated[int, typer.Option(help="Particles of every run for log Z.", min=2)] = 256,
    repeats: Annotated[int, typer.Option(help="Independent runs; their spread is the error of log Z.", min=2)] = 4,
    cap: Annotated[str, typer.Option(help="At T: truncate a text that has not ended, or force its end.")] = "truncate",
    figure: Annotated[Path | None, options.path("Draw the figure into this new .png file.")] = None,
    out: Annotated[Path | None, options.path("Write one row a text to this new .parquet file.")] = None,
    no_chat: Annotated[bool, typer.Option("--no-chat", help="Leave out the tokenizer's chat template.")] = False,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    seed: Seed = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:0 (and so on) or mps.")] = "cpu",
    json: Json = False,
) -> None:
    """Measure how joint and sequential guidance, or temperature, change the probability of text, and how far they are apart."""
    options.check_new("--out", out, ".parquet")
    options.check_new("--figure", figure, ".png")
    options.check_texts(texts)
    options.check_model(model)
    for option, number in (("--samples", samples), ("--particles", particles)):
        sizes = f"{option} {number:.3g} with --max-new-tokens {max_new_tokens:.3g}"
        limits.check_memory(sizes, number * max_new_tokens, 8)
    limits.check_memory(f"--repeats {repeats:.3g} of --particles {particles:.3g}", repeats * particles, 8)

    from analysis.cli import display
    from analysis.figures import measurement as figures
    from analysis.files import run_folder
    from analysis.files.texts import read_texts
    from analysis.metrics import gap_estimates
    from analysis.text import loading, measured_texts

    target = measured_texts.Target(prompt, negative, scale, temperature, power, max_new_tokens, cap, chat=not no_chat)
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
    if doubt:
        print(f"arguide: {doubt}", file=sys.stderr)
    if json:
        record = {"model": model, "seed": seed} | measured_texts.record(target, plan, measured)
        print(json_format.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))
        return
    display.factors(target, measured)
    for path, what in ((out, "texts are"), (figure, "figure is")):
        if path is not None:
            print(f"The {what} in {path}")
