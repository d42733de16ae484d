"""The console command `arguide`: a table for people, `--json` for machines, errors in one line and exit code 2.

Heavy modules are imported inside the commands, so that `arguide --help` is quick.
"""

import json as json_format
import math
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from analysis import options

app = typer.Typer(
    name="arguide",
    help="Guidance of autoregressive and diffusion models: sequential against joint, measured and corrected.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

INTERRUPTED = "interrupted; what is finished is kept, and the same command picks it up"

PROMPTS = "A .txt, one prompt a line, or .csv, .parquet or .jsonl with a column prompt, perhaps negative and scale."
TEXTS = "Continuations to measure, in the place of samples: a .txt, one a line, or .csv, .parquet or .jsonl with a column text."

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every generator.", min=0)]
Device = Annotated[str, typer.Option("--device", help="Where to compute; exact laws on the cpu.")]


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


@app.command(short_help="Run the whole argument and write the report.")
def reproduce(
    out: Annotated[Path, typer.Option(help="Folder of the report; an unfinished run there is picked up.")] = Path("report"),
    quick: Annotated[bool, typer.Option("--quick", help="Smaller grids: about a minute instead of ten.")] = False,
    text: Annotated[Path | None, typer.Option(help="Labelled text (.csv, .parquet, or label<tab>text lines).")] = None,
    model: Annotated[str | None, typer.Option(help="A language model for the chapter on text; a tiny one by default.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete an earlier run in the folder first.")] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Run every experiment, and write report.html, figures/, results.parquet and run.json."""
    from analysis import display, loading, results
    from analysis import reproduce as argument
    from analysis.experiment import Settings
    from analysis.toys import read_chain

    options.check_file(text)
    options.check_device(device)
    if text is not None:
        read_chain(text)  # what cannot be read must fail before the other chapters run
    if model is not None:
        loading.Choice(model).load(loading.find_device(device))
    settings = Settings(quick=quick, seed=seed, device=device, text=text, model=model)
    if fresh:
        argument.clear(out)
    results.claim(out, argument.config(settings))
    done = list(argument.chapters(out, settings, display.bar))
    page = argument.publish(out, done)
    if json:
        headline = {c.experiment.name: c.verdict._asdict() for c in done}
        print(json_format.dumps({"report": str(page), "headline": headline}, indent=2, ensure_ascii=False))
        return
    rows = [(c.experiment.title, c.verdict.measure, c.verdict.number) for c in done]
    display.table("Joint against sequential guidance", ("chapter", "what decides it", "number"), rows)
    print(f"The report is {page}")


@app.command(short_help="Exact laws of your own distribution.")
def exact(
    file: Annotated[Path, typer.Argument(help="A .npy joint table [y, x_1, …, x_T], or .csv/.parquet of discrete columns.")],
    label: Annotated[str, typer.Option(help="The condition y: a label's name; its index in a .npy table.")],
    scale: Annotated[float, typer.Option(help="γ: 0 unconditional, 1 conditional.")],
    temperature: Annotated[float, typer.Option(help="τ, of both laws.")] = 1.0,
    label_column: Annotated[str | None, typer.Option(help="The column of y, for .csv and .parquet.")] = None,
    smoothing: Annotated[float, typer.Option(help="Added to the count of every cell, for .csv and .parquet.")] = 0.0,
    out: Annotated[Path | None, typer.Option(help="Write the laws to this new .parquet file, one row an x.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Compute the exact joint and sequential laws of your own distribution, and how far apart they are."""
    from analysis import display, factors, results
    from analysis.toys import read_table

    del seed  # nothing is drawn here, but every command takes one
    options.check_device(device)
    options.check_file(file)
    options.check_new("--out", out, ".parquet")
    if file.suffix == ".npy" and (label_column is not None or smoothing):
        raise ValueError("--label-column and --smoothing are for .csv and .parquet; a .npy file is a table already")
    table = read_table(file, label_column=label_column, smoothing=smoothing)
    name = label if label in table.labels else options.index_of(label, table.labels, numbered=file.suffix == ".npy")
    figures = factors.summary(table, name, scale, temperature=temperature)
    if any(math.isnan(value) for value in figures.values()):
        raise ValueError(f"scale {scale:g} at temperature {temperature:g} is beyond what double precision holds")
    if out is not None:
        frame = factors.laws_frame(table, name, scale, temperature=temperature)
        results.write_frame(out, frame)
    if json:
        finite = {key: value if math.isfinite(value) else str(value) for key, value in figures.items()}
        print(json_format.dumps(finite, indent=2))
        return
    shape = " × ".join(map(str, table.shape))
    title = f"{file.name}: {shape} cells, label {label}, γ = {scale:g}, τ = {temperature:g} (nats)"
    display.table(title, ("quantity", "value"), [(key, f"{value:.6g}") for key, value in figures.items()])
    if out is not None:
        print(f"The laws are in {out}")


@app.command(short_help="Generate text under guidance.")
def generate(
    model: Annotated[str, typer.Argument(help="A folder, or a name on the hub.")],
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
    prompts: Annotated[Path | None, typer.Option(help=PROMPTS)] = None,
    out: Annotated[Path | None, typer.Option(help="Write the completions of --prompts to this new .parquet file.")] = None,
    batch_size: Annotated[int, typer.Option(help="Prompts read at once.", min=1)] = 8,
    no_chat: Annotated[bool, typer.Option("--no-chat", help="Leave out the tokenizer's chat template.")] = False,
    negative_model: Annotated[str | None, typer.Option(help="Another model for the unconditional branch.")] = None,
    plausibility: Annotated[float, typer.Option(help="α: leave out tokens with p(v) < α max p.")] = 0.0,
    joint: Annotated[bool, typer.Option("--joint", help="Draw from the joint law, by weighted particles.")] = False,
    particles: Annotated[int, typer.Option(help="Particles of a run of the joint law.")] = 64,
    repeats: Annotated[int, typer.Option(help="Independent runs of the joint law, to compare them.")] = 4,
    power: Annotated[float, typer.Option(help="β: the joint law to this power; p(x)^β at --scale 1.")] = 1.0,
    cap: Annotated[str, typer.Option(help="The joint law at --max-new-tokens: truncate, or force the end.")] = "truncate",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete an earlier output and its parts first.")] = False,
    seed: Seed = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:0 or mps; under torchrun a GPU each by default.")] = None,
    json: Json = False,
) -> None:
    """Generate text under guidance, from prompts or from a file of them; a file that was interrupted is picked up."""
    from analysis import batches, completions, display, loading, processes
    from analysis.joint import Joint

    def check() -> tuple[loading.Choice, completions.Sampling, list[float]]:
        modes = {
            "--compare": compare is not None,
            "--json": json,
            "--prompts": prompts is not None,
            "--num-samples": num_samples > 1,
            "--joint": joint or power != 1,
        }
        options.check_modes(prompt or [], prompts, out, modes, stream=stream, several=team.size > 1)
        law = Joint(particles, repeats, power, cap) if joint or power != 1 else None
        numbers = (temperature, top_p, top_k, greedy, num_samples, max_new_tokens, plausibility, not no_chat, seed)
        sampling = completions.Sampling(*numbers, law)
        return loading.Choice(model, negative_model, dtype), sampling, options.scales_of(compare or str(scale))

    loading.silence()
    with processes.team(device) as team:
        choice, sampling, scales = team.together(check)
        if prompts is not None and out is not None:
            bar = partial(display.bar(""), desc=prompts.name, unit="prompt", disable=not team.leads)
            task = batches.Task(prompts, out, negative, scale, batch_size, fresh)
            count = batches.complete_file(task, choice, sampling, team, bar)
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


@app.command(short_help="Measure the scale factors of text.")
def scale_factors(
    model: Annotated[str, typer.Argument(help="A folder, or a name on the hub.")],
    prompt: Annotated[str, typer.Option(help="What the text goes on from.")],
    scale: Annotated[float, typer.Option(help="γ: 0 unconditional, 1 conditional, above 1 sharpened.")],
    negative: Annotated[str | None, typer.Option(help="What to steer away from; the prompt's last token by default.")] = None,
    temperature: Annotated[float | None, typer.Option(help="τ, of both laws.")] = None,
    power: Annotated[float | None, typer.Option(help="β = 1/τ, in the place of --temperature.")] = None,
    samples: Annotated[int, typer.Option(help="Texts from the sequential law.", min=2)] = 256,
    texts: Annotated[Path | None, typer.Option(help=TEXTS)] = None,
    max_new_tokens: Annotated[int, typer.Option(help="T, the longest text.", min=1)] = 20,
    particles: Annotated[int, typer.Option(help="Particles of every run for log Z.", min=2)] = 256,
    repeats: Annotated[int, typer.Option(help="Independent runs; their spread is the error of log Z.", min=2)] = 4,
    cap: Annotated[str, typer.Option(help="At T: truncate a text that has not ended, or force its end.")] = "truncate",
    figure: Annotated[Path | None, typer.Option(help="Draw the figure into this new .png file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write one row a text to this new .parquet file.")] = None,
    no_chat: Annotated[bool, typer.Option("--no-chat", help="Leave out the tokenizer's chat template.")] = False,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    seed: Seed = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:0 (and so on) or mps.")] = "cpu",
    json: Json = False,
) -> None:
    """Measure how joint and sequential guidance, or temperature, change the probability of text, and how far they are apart."""
    from analysis import display, loading, measurement, results, targets
    from analysis.figures import measurement as figures
    from analysis.texts import read_texts

    options.check_new("--out", out, ".parquet")
    options.check_new("--figure", figure, ".png")
    target = targets.Target(prompt, negative, scale, temperature, power, max_new_tokens, cap, chat=not no_chat)
    plan = measurement.Plan(samples, particles, repeats)
    given = [] if texts is None else read_texts(texts, "text")["text"].tolist()
    loading.silence()
    loaded = loading.Choice(model, None, dtype).load(loading.find_device(device))
    bar = partial(display.bar(""), desc="scale-factors", unit="batch")
    measured = targets.measure_texts(loaded, target, plan, texts=given, seed=seed, track=bar)
    if out is not None:
        results.write_frame(out, measured.sequences.assign(base=target.base))
    doubt = "" if measured.diagnosis.trusted else f"log Z is {measured.diagnosis.verdict}"
    if figure is not None:
        results.write(figure, partial(figures.save, measured.sequences, measured.lengths, doubt))
    if doubt:
        print(f"arguide: {doubt}", file=sys.stderr)
    if json:
        record = {"model": model, "seed": seed} | targets.record(target, plan, measured)
        print(json_format.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))
        return
    display.factors(target, measured)
    for path, what in ((out, "texts are"), (figure, "figure is")):
        if path is not None:
            print(f"The {what} in {path}")


def _one_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _fail(message: str, code: int) -> NoReturn:
    print(f"arguide: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
