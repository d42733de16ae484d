"""Compare the ways to lower a temperature, at equal likelihood."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from analysis import limits
from analysis.cli import options
from analysis.cli.options import Dtype, Json, NoChat, Seed, System, running
from analysis.files import paths

WAYS, MEASURED = "Ways to lower the temperature", "What is measured"
ways, measured_by = map(options.group, (WAYS, MEASURED))
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
    groups: Annotated[int, measured_by(help="Independent groups of 16 texts of the whole-text law.", min=2)] = 8,
    particles: Annotated[int, measured_by(help="Particles for every text of the whole-text law.", min=2)] = 32,
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
    if model is None:
        _exact(betas, ks, ps, prompt=prompt, out=out, device=device, seed=seed, json=json)
        return
    if prompt is None:
        raise ValueError("a model needs a text to continue; give --prompt, or leave out MODEL for exact laws")
    paths.check_model(model)
    options.check_memory(16 * particles * max_new_tokens, 8, particles=particles, max_new_tokens=max_new_tokens)

    from analysis.cli import display, temperature_tables
    from analysis.files import run_folder
    from analysis.metrics.temperature.draws import Plan
    from analysis.text import loading, tempered_texts, tokens

    chat = tokens.Chat(not no_chat, system)
    target = tempered_texts.Target(prompt, tuple(betas), tuple(ks), tuple(ps), max_new_tokens, cap, chat)
    plan = Plan(groups, particles)
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
    prompt: str | None,
    out: Path | None,
    device: str,
    seed: int,
    json: bool,
) -> None:
    """Compare the ways on exact laws and exact scores."""
    for option, value in (("--prompt", prompt), ("--out", out)):
        if value is not None:
            raise ValueError(f"{option} is for the texts of a model; give MODEL, or leave it out")
    options.check_device(device)

    from analysis.cli import display, temperature_tables
    from analysis.experiments.temperature import exact

    frame = exact.run(betas, ks, ps, seed=seed, track=partial(display.bar(""), desc="temperature", unit="law"))
    if json:
        display.dump(exact.record(frame, betas, seed), nan=False)
        return
    temperature_tables.show_exact(frame, betas)
