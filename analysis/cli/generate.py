"""Generate text under guidance."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from analysis import limits
from analysis.cli import options
from analysis.cli.options import (
    Address,
    Dtype,
    Json,
    Model,
    Name,
    Negative,
    NegativeSystem,
    NoChat,
    Seed,
    Shard,
    System,
    running,
)
from analysis.files import paths

PROMPTS = (
    "A .txt file, one prompt per line, or .csv, .parquet, .jsonl or .json with a column prompt, optionally negative and scale."
)
GUIDANCE, FILES = "Guidance", "A file of prompts"
sampling, guidance, joint_law, files = map(options.group, ("Sampling", GUIDANCE, "The joint law", FILES))
PRIOR = "π in (0, 1]: guide away from the mixture of the prompt, with this probability, and the negative prompt."


def generate(
    model: Model,
    prompt: Annotated[list[str] | None, typer.Option(help="The text to continue; may be given several times.")] = None,
    negative: Negative = None,
    system: System = None,
    negative_system: NegativeSystem = None,
    scale: Annotated[float, typer.Option(help="γ: 0 unconditional, 1 conditional, above 1 sharpened.")] = 1.5,
    num_samples: Annotated[int, typer.Option(help="Completions per prompt.", min=1)] = 1,
    max_new_tokens: Annotated[int, typer.Option(help="The maximum length of a completion.", min=1)] = 64,
    stream: Annotated[bool, typer.Option("--stream", help="Print the text while it is generated.")] = False,
    compare: Annotated[str | None, typer.Option(help="Scales to show side by side, instead of --scale: 1,1.5,2,3.")] = None,
    temperature: Annotated[float, sampling(help="τ of the guided law.")] = 1.0,
    top_p: Annotated[float, sampling(help="Draw from the likeliest tokens that together have this probability.")] = 1.0,
    top_k: Annotated[int, sampling(help="Draw from this many likeliest tokens; 0 for all.", min=0)] = 0,
    greedy: Annotated[bool, sampling("--greedy", help="Take the likeliest token instead of drawing.")] = False,
    negative_model: Annotated[str | None, options.named("Another model for the unconditional branch.", GUIDANCE)] = None,
    plausibility: Annotated[float, guidance(help="α: leave out tokens with p(v) < α max p.")] = 0.0,
    prior: Annotated[float | None, guidance(help=PRIOR)] = None,
    joint: Annotated[
        bool,
        joint_law("--joint", help="Draw from the joint law, by weighted particles; with --prior exactly, by acceptance."),
    ] = False,
    sampler: Annotated[
        str | None, joint_law(help="particles, ladder (the default from --power 3 on), or accept (with --prior).")
    ] = None,
    particles: Annotated[
        int | None, joint_law(help="Particles per run (64), ladders (8), or proposals per batch (64).")
    ] = None,
    repeats: Annotated[int, joint_law(help="Independent runs of particles, which are compared.")] = 4,
    sweeps: Annotated[int, joint_law(help="Sweeps of a ladder.")] = 200,
    power: Annotated[float, joint_law(help="β: the joint law to this power; p(x)^β at --scale 1.")] = 1.0,
    cap: Annotated[str, joint_law(help="At --max-new-tokens, for the joint law: truncate, or force the end.")] = "truncate",
    prompts: Annotated[Path | None, options.path(PROMPTS, FILES)] = None,
    out: Annotated[Path | None, options.path("Write the completions of --prompts to this new .parquet file.", FILES)] = None,
    batch_size: Annotated[int, files(help="Prompts per batch.", min=1)] = 8,
    fresh: Annotated[bool, files("--fresh", help="Start again, and replace an earlier output at the end.")] = False,
    no_chat: NoChat = False,
    dtype: Dtype = "auto",
    seed: Seed = 0,
    device: Annotated[
        str | None, running(help="cpu, cuda, cuda:0 or mps; under torchrun by default one GPU per process.")
    ] = None,
    jobs: Annotated[int, running(help="Processes for --prompts; by default 1, on Ray all.", min=0, max=1024)] = 0,
    engine: Name = "processes",
    address: Address = None,
    shard: Shard = None,
    json: Json = False,
) -> None:
    """Generate text under guidance, from prompts or from a file of prompts; the same command resumes an interrupted file."""
    use_joint = joint or power != 1 or sampler is not None

    def check_options() -> None:
        _check_files(prompt or [], prompts, out, compare)
        if (jobs, engine, address, shard) != (0, "processes", None, None) and (prompts is None or not limits.alone()):
            raise ValueError("--jobs, --engine, --address and --shard are for --prompts, without torchrun; leave them out")
        if stream and (len(prompt or []) != 1 or compare or json or num_samples > 1 or use_joint):
            others = "--compare, --json, --prompts, --num-samples and --joint"
            raise ValueError(f"--stream prints one completion of one --prompt; leave out {others}")
        for name in filter(None, (model, negative_model)):
            paths.check_model(name)
        options.check_memory(num_samples * max_new_tokens, 8, num_samples=num_samples, max_new_tokens=max_new_tokens)
        if use_joint:
            rows = particles or 64
            sizes = {"repeats": repeats, "particles": rows, "max_new_tokens": max_new_tokens}
            options.check_memory(repeats * rows * max_new_tokens, 8, **sizes)

    if limits.alone():
        check_options()  # before torch is imported, which takes seconds
    runs = options.engine(engine, jobs, address)._replace(jobs=jobs or int(engine != "ray"))  # 0 on Ray for all
    part = options.shard(shard, fresh=fresh)

    from analysis.cli import display
    from analysis.text import batch_jobs, completions, distributed, joint_draws, loading, tokens

    def check() -> tuple[loading.Choice, completions.Sampling, list[float]]:
        check_options()
        given = {"particles": particles, "repeats": repeats, "sweeps": sweeps, "power": power, "cap": cap}
        law = joint_draws.sampler(sampler, coherent=prior is not None, **given) if use_joint else None
        chat = tokens.Chat(not no_chat, system, negative_system)
        numbers = (temperature, top_p, top_k, greedy, num_samples, max_new_tokens, plausibility, chat, seed)
        scales = options.scales_of(str(scale) if compare is None else compare)
        return (
            loading.Choice(model, negative_model, dtype),
            completions.Sampling(*numbers, law, prior),
            scales,
        )

    loading.silence()
    with distributed.team(device, remote=engine == "ray") as team:
        choice, sampling, scales = team.together(check)
        if prompts is not None and out is not None:
            bar = partial(display.bar(""), desc=prompts.name, unit="prompt", disable=not team.leads)
            task = batch_jobs.Task(prompts, out, negative, scale, batch_size, fresh)
            count = batch_jobs.complete_file(task, choice, sampling, team, bar, runs, part)
            if part is not None:
                display.dump({"shard": shard, "prompts": count}) if json else print(
                    f"Shard {shard} is finished: {count} prompts."
                )
            elif team.leads:
                display.dump({"out": str(out), "completions": count}) if json else print(f"{count} completions are in {out}")
            return
        loaded = choice.load(team.device)
        records = []
        for value in scales:
            requests = [tokens.Request(text, negative, value) for text in prompt or ()]
            records += completions.records(loaded, requests, sampling, batch_size, stream=stream)
    records.sort(key=lambda record: record["index"])
    if json:
        display.dump([{key: value for key, value in record.items() if key != "index"} for record in records])
    elif not stream:
        (display.show if compare is None else display.compare)(records)
    for line in display.verdicts(records):
        print(f"arguide: {line}", file=sys.stderr)


def _check_files(prompt: list[str], prompts: Path | None, out: Path | None, compare: str | None) -> None:
    """Refuse sources of prompts that exclude one another, or a file that does not exist."""
    if bool(prompt) == (prompts is not None):
        raise ValueError("give either --prompt (once or more) or a file of --prompts")
    if (prompts is None) != (out is None):
        raise ValueError("--prompts FILE and --out FILE.parquet go together")
    if prompts is None:
        if not limits.alone():
            raise ValueError("several processes share a file: give --prompts FILE and --out FILE.parquet")
        return
    if compare is not None:
        raise ValueError("--compare is for --prompt; in a file of --prompts use a column scale")
    paths.check_texts(prompts)
