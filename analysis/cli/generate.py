"""Text under guidance."""

import json as json_format
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from analysis import limits
from analysis.cli import options
from analysis.cli.options import Json, Seed

PROMPTS = "A .txt, one prompt a line, or .csv, .parquet or .jsonl with a column prompt, perhaps negative and scale."


def generate(
    model: Annotated[str, typer.Argument(parser=options.name, help="A folder, or a name on the hub.")],
    prompt: Annotated[list[str] | None, typer.Option(help="What to go on from; may be given several times.")] = None,
    negative: Annotated[str | None, typer.Option(help="What to steer away from; the prompt's last token by default.")] = None,
    scale: Annotated[float, typer.Option(help="γ: 0 unconditional, 1 conditional, above 1 sharpened.")] = 1.5,
    temperature: Annotated[float, typer.Option(help="τ, of the guided law.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest tokens that together have this probability.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Draw from this many likeliest tokens; 0 for all.", min=0)] = 0,
    num_samples: Annotated[int, typer.Option(help="Completions a prompt.", min=1)] = 1,
    greedy: Annotated[bool, typer.Option("--greedy", help="Take the likeliest token instead of drawing.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="The longest completion.", min=1)] = 64,
    stream: Annotated[bool, typer.Option("--stream", help="Print the text as it comes.")] = False,
    compare: Annotated[str | None, typer.Option(help="Scales side by side, in the place of --scale: 1,1.5,2,3.")] = None,
    prompts: Annotated[Path | None, options.path(PROMPTS)] = None,
    out: Annotated[Path | None, options.path("Write the completions of --prompts to this new .parquet file.")] = None,
    batch_size: Annotated[int, typer.Option(help="Prompts read at once.", min=1)] = 8,
    no_chat: Annotated[bool, typer.Option("--no-chat", help="Leave out the tokenizer's chat template.")] = False,
    negative_model: Annotated[str | None, options.named("Another model for the unconditional branch.")] = None,
    plausibility: Annotated[float, typer.Option(help="α: leave out tokens with p(v) < α max p.")] = 0.0,
    joint: Annotated[bool, typer.Option("--joint", help="Draw from the joint law, by weighted particles.")] = False,
    particles: Annotated[int, typer.Option(help="Particles of a run of the joint law.")] = 64,
    repeats: Annotated[int, typer.Option(help="Independent runs of the joint law, to compare them.")] = 4,
    power: Annotated[float, typer.Option(help="β: the joint law to this power; p(x)^β at --scale 1.")] = 1.0,
    cap: Annotated[str, typer.Option(help="The joint law at --max-new-tokens: truncate, or force the end.")] = "truncate",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, and replace an earlier output at the end.")] = False,
    seed: Seed = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:0 or mps; under torchrun a GPU each by default.")] = None,
    json: Json = False,
) -> None:
    """Generate text under guidance, from prompts or from a file of them; a file that was interrupted is picked up."""

    def check_options() -> None:
        modes = {
            "--compare": compare is not None,
            "--json": json,
            "--prompts": prompts is not None,
            "--num-samples": num_samples > 1,
            "--joint": joint or power != 1,
        }
        options.check_modes(prompt or [], prompts, out, modes, stream=stream, several=not options.alone())
        options.check_texts(prompts)
        for each in (model, negative_model):
            options.check_model(each)
        sizes = f"--num-samples {num_samples:.3g} with --max-new-tokens {max_new_tokens:.3g}"
        limits.check_memory(sizes, num_samples * max_new_tokens, 8)
        if joint or power != 1:
            sizes = f"--repeats {repeats:.3g} of --particles {particles:.3g} with --max-new-tokens {max_new_tokens:.3g}"
            limits.check_memory(sizes, repeats * particles * max_new_tokens, 8)

    if options.alone():
        check_options()  # before torch is imported, which takes seconds

    from analysis.cli import display
    from analysis.text import batch_jobs, completions, distributed, loading
    from analysis.text.joint import Joint

    def check() -> tuple[loading.Choice, completions.Sampling, list[float]]:
        check_options()
        law = Joint(particles, repeats, power, cap) if joint or power != 1 else None
        numbers = (temperature, top_p, top_k, greedy, num_samples, max_new_tokens, plausibility, not no_chat, seed)
        sampling = completions.Sampling(*numbers, law)
        scales = options.scales_of(str(scale) if compare is None else compare)
        return loading.Choice(model, negative_model, dtype), sampling, scales

    loading.silence()
    with distributed.team(device) as team:
        choice, sampling, scales = team.together(check)
        if prompts is not None and out is not None:
            bar = partial(display.bar(""), desc=prompts.name, unit="prompt", disable=not team.leads)
            task = batch_jobs.Task(prompts, out, negative, scale, batch_size, fresh)
            count = batch_jobs.complete_file(task, choice, sampling, team, bar)
            if team.leads:
                summary = {"out": str(out), "completions": count}
                print(json_format.dumps(summary) if json else f"{count} completions are in {out}")
            return
        loaded = choice.load(team.device)
        records = []
        for value in scales:
            requests = [completions.Request(text, negative, value) for text in prompt or ()]
            records += completions.records(loaded, requests, sampling, batch_size, stream=stream)
    records.sort(key=lambda record: record["index"])
    if json:
        shown = [{key: value for key, value in record.items() if key != "index"} for record in records]
        print(json_format.dumps(shown, indent=2, ensure_ascii=False))
    elif not stream:
        (display.show if compare is None else display.compare)(records)
    for note in display.verdicts(records):
        print(f"arguide: {note}", file=sys.stderr)
