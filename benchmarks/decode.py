"""What a guided token costs, against transformers' own guidance and against no guidance: `python -m benchmarks.decode`.

Four ways to decode greedily, which make the same number of tokens from the same prompts:

    transformers   model.generate(guidance_scale=1.5), on a copy of the model that arguide has not touched
    arguide        arguide.guided(model).generate(guidance_scale=1.5)
    loop           no guidance: forward passes of the untouched copy with a cache, and an argmax
    generate       no guidance: model.generate of the untouched copy

A call is everything from the prompt to the last token. A token is the difference of a long call and one of two tokens, over
the number of tokens between; what a call costs once, the prompt above all, is not in it. The unconditional branch reads the
last token of the prompt, or a negative prompt of the prompt's length. Weights are random but for stories260K.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from tqdm import tqdm
from transformers import AutoTokenizer
from transformers.utils import logging

from benchmarks.memory import fresh, peak_memory
from benchmarks.models import MODELS, STORIES, Pair, check_agreement, generate, loop, pair, random_ids
from benchmarks.timing import Case, Ratio, Row, measure, table, where

SCALE, SHORT = 1.5, 2
TEXTS = {
    "a text that goes on": "Once upon a time, there was a little girl named Lily. She loved to play in the park with her dog. "
    * 3,
    "a text that repeats itself": "The cat ran. The dog ran. " * 8,
}
PARTS = ("grid", "memory", "growth", "drafts")
# What the table divides, and whether per token or per call.
QUOTIENTS = (("transformers", "arguide"), ("arguide", "loop"), ("arguide", "generate"))
COLUMNS = [(over, under, per) for per in ("token", "call") for over, under in QUOTIENTS]


class Cell(NamedTuple):
    """One line of the table; `uncond` is what the unconditional branch reads, in tokens."""

    model: str
    batch: int
    prompt: int
    uncond: int


def cases(tokens: int = 32) -> Iterator[Case]:
    """Yield the case that stands for all in the common table."""
    yield grid_case(pair("15M"), [Cell("15M", 1, 16, 1)], tokens, agree=tokens)


def grid_case(models: Pair, cells: list[Cell], tokens: int, agree: int) -> Case:
    """Return the case of cells that differ in what the unconditional branch reads; both sides are checked first."""
    ids = random_ids(models.plain, cells[0].batch, cells[0].prompt)
    jobs: dict[str, Callable[[], object]] = {}
    for cell in cells:
        guidance = guidance_of(models.plain, cell)
        check_agreement(models, ids, agree, guidance)
        for side, length in itertools.product((("transformers", models.plain), ("arguide", models.guided)), (SHORT, tokens)):
            jobs[f"{side[0]} {cell.uncond} {length}"] = partial(generate, side[1], ids, length, **guidance)
    for length in (SHORT, tokens):
        jobs[f"loop {length}"] = partial(loop, models.plain, ids, length)
        jobs[f"generate {length}"] = partial(generate, models.plain, ids, length)
    first = cells[0]
    name = f"{first.model}, batch {first.batch}, prompt {first.prompt}, {tokens} tokens"
    return Case(name, _in_turn(jobs), tuple(_ratio(cell, column, tokens) for cell in cells for column in COLUMNS))


def guidance_of(model: Any, cell: Cell) -> dict[str, Any]:
    """Return the arguments that guide a cell; one unconditional token is the default of both sides."""
    if cell.uncond == 1:
        return {"guidance_scale": SCALE}
    return {"guidance_scale": SCALE, "negative_prompt_ids": random_ids(model, cell.batch, cell.uncond, seed=1)}


def growth_cases(models: Pair, name: str) -> Iterator[Case]:
    """Yield how arguide's guidance grows with the batch and with the text."""
    batches, lengths = (1, 4, 16, 64), (32, 128, 512)
    ids = {n: random_ids(models.plain, n, 16) for n in batches}
    guided = partial(generate, models.guided, guidance_scale=SCALE)
    yield Case(
        f"growth, {name}, prompt 16, 32 tokens",
        {str(n): partial(guided, ids[n], 32) for n in batches},
        tuple(Ratio(f"batch {n} ÷ batch 1", str(n), "1") for n in batches[1:]),
    )
    yield Case(
        f"growth, {name}, prompt 16, batch 1",
        {str(length): partial(guided, ids[1], length) for length in lengths},
        tuple(Ratio(f"{length} ÷ 32 tokens", str(length), "32") for length in lengths[1:]),
    )


def draft_cases(stories: Path, tokens: int = 128) -> Iterator[Case]:
    """Yield guided decoding with drafts looked up in the text so far, and without; what drafts save depends on the text."""
    models, tokenizer = pair("stories260K", stories), AutoTokenizer.from_pretrained(stories)
    for kind, text in TEXTS.items():
        ids = tokenizer(text, return_tensors="pt").input_ids
        plain = partial(generate, models.guided, ids, tokens, guidance_scale=SCALE)
        drafts = partial(plain, prompt_lookup_num_tokens=5)
        (one, passes), (other, fewer) = _passes(models.guided, plain), _passes(models.guided, drafts)
        assert one.equal(other)
        what = f"prompt lookup of 5 ÷ none, {fewer} forward passes ÷ {passes}"
        name = f"arguide with drafts, stories260K, batch 1, {kind}, {tokens} tokens"
        yield Case(name, {"plain": plain, "drafts": drafts}, (Ratio(what, "drafts", "plain"),))


def peak(cell: Cell, guided: bool, tokens: int, stories: Path) -> float:
    """Return by how many MB one call raises this process's resident memory at its peak; call it in a fresh process."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    models = pair(cell.model, stories)
    model = models.guided if guided else models.plain
    ids, guidance = random_ids(model, cell.batch, cell.prompt), guidance_of(model, cell)
    generate(model, ids[:1, :SHORT], SHORT, guidance_scale=SCALE)
    before = peak_memory(reset=True)
    generate(model, ids, tokens, **guidance)
    return peak_memory() - before


def memory_row(cell: Cell, tokens: int, stories: Path, rounds: int, advance: Callable[[], object]) -> Row:
    """Return arguide's peak of memory over transformers', each in `rounds` fresh processes that take turns."""
    megabytes: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(rounds):
        for guided, found in megabytes.items():
            found.append(fresh(peak, cell, guided, tokens, stories))
            advance()
    ours, theirs = megabytes.values()
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Row(cell.model, "memory", median(ratios), min(ratios), max(ratios), median(ours), median(theirs))


def main() -> None:
    """Measure, and print tables in Markdown."""
    options = _options()
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    names = [name for name in options.models.split(",") if name != "stories260K" or options.stories.is_dir()]
    with tqdm(total=_work(options, names), desc="decode", unit="round", dynamic_ncols=True) as bar:
        lines = _grid(options, names, bar) if "grid" in options.parts else {}
        memory = _memory(options, names, bar) if "memory" in options.parts else {}
        rest = list(_rest(options, bar))
    if not options.stories.is_dir():
        print(f"stories260K is left out: there is no folder {options.stories}; name it with --stories.\n")
    if lines or memory:
        print(_wide(lines, memory, options), end="\n\n")
    if rest:
        print(table(rest, options.rounds))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description="Measure guided decoding.")
    parser.add_argument("--models", default=",".join(MODELS), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every job (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=32, help="generated by a call (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of a job (default: %(default)s)")
    parser.add_argument("--batches", type=_numbers, default="1,4", help="of the grid (default: %(default)s)")
    parser.add_argument("--prompts", type=_numbers, default="16,64", help="their lengths in the grid (default: %(default)s)")
    parser.add_argument("--parts", default=",".join(PARTS), help="what to measure (default: %(default)s)")
    parser.add_argument("--stories", type=Path, default=STORIES, help="folder of stories260K (default: %(default)s)")
    options = parser.parse_args()
    options.rounds, options.parts = max(1, options.rounds), options.parts.split(",")
    for given, known in ((options.models.split(","), MODELS), (options.parts, PARTS)):
        if unknown := sorted(set(given) - set(known)):
            parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
    if options.tokens <= SHORT:
        parser.error(f"--tokens must be above {SHORT}")
    return options


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _work(options: argparse.Namespace, names: list[str]) -> int:
    """Return how many rounds all parts take."""
    rounds = {
        "grid": options.rounds * len(options.batches) * len(options.prompts) * len(names),
        "memory": 4 * _memory_rounds(options) * len(names),
        "growth": 2 * options.rounds,
        "drafts": len(TEXTS) * options.rounds * options.stories.is_dir(),
    }
    return sum(rounds[part] for part in options.parts)


def _memory_rounds(options: argparse.Namespace) -> int:
    """Return how many processes a side gets; memory varies little, and a process takes long to start."""
    return min(3, options.rounds)


def _grid(options: argparse.Namespace, names: list[str], bar: Any) -> dict[Cell, list[Row]]:
    """Return six ratios for every cell."""
    lines: dict[Cell, list[Row]] = {}
    for name in names:
        models = pair(name, options.stories)
        for batch, prompt in itertools.product(options.batches, options.prompts):
            cells = [Cell(name, batch, prompt, uncond) for uncond in (1, prompt)]
            bar.set_postfix_str(f"{name}, batch {batch}, prompt {prompt}")
            case = grid_case(models, cells, options.tokens, options.tokens if batch == 1 else 8)
            rows = measure(case, options.rounds, bar.update)
            lines |= {cell: rows[i * len(COLUMNS) :][: len(COLUMNS)] for i, cell in enumerate(cells)}
    return lines


def _memory(options: argparse.Namespace, names: list[str], bar: Any) -> dict[Cell, Row]:
    rows: dict[Cell, Row] = {}
    for name, uncond in itertools.product(names, (1, 256)):
        cell = Cell(name, 4, 256, uncond)
        bar.set_postfix_str(f"memory, {name}")
        rows[cell] = memory_row(cell, options.tokens, options.stories, _memory_rounds(options), bar.update)
    return rows


def _rest(options: argparse.Namespace, bar: Any) -> Iterator[Row]:
    """Yield growth and drafts."""
    several: list[Iterator[Case]] = []
    if "growth" in options.parts:
        several.append(growth_cases(pair("15M"), "15M"))
    if "drafts" in options.parts and options.stories.is_dir():
        several.append(draft_cases(options.stories))
    for case in itertools.chain.from_iterable(several):
        bar.set_postfix_str(case.name)
        yield from measure(case, options.rounds, bar.update)


def _wide(lines: dict[Cell, list[Row]], memory: dict[Cell, Row], options: argparse.Namespace) -> str:
    """Return one line a cell: ratios with the least and the greatest, and peaks of memory."""
    columns = [f"{over} ÷ {under}, a {per}" for over, under, per in COLUMNS]
    heads = ["model", "batch", "prompt", "unconditional", *columns, "arguide ÷ transformers, memory"]
    text = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for cell in sorted({*lines, *memory}, key=lambda cell: (MODELS.index(cell.model), *cell[1:])):
        speeds = [_span(row) for row in lines.get(cell, [])] or ["–"] * len(COLUMNS)
        row = memory.get(cell)
        peaks = "–" if row is None else f"{_span(row)}, {row.over:.0f} ÷ {row.under:.0f} MB"
        text.append("| " + " | ".join([*map(str, cell), *speeds, peaks]) + " |")
    return "\n".join([*text, "", f"{options.tokens} tokens. {where(options.rounds)}"])


def _span(row: Row) -> str:
    return f"{row.ratio:.2f} ({row.low:.2f}–{row.high:.2f})"


def _ratio(cell: Cell, column: tuple[str, str, str], tokens: int) -> Ratio:
    over, under, per = column
    names = {"transformers": f"transformers {cell.uncond}", "arguide": f"arguide {cell.uncond}"}
    a, b = names.get(over, over), names.get(under, under)
    off = (f"{a} {SHORT}", f"{b} {SHORT}") if per == "token" else None
    return Ratio(f"{over} ÷ {under}, a {per}, {cell.uncond} unconditional", f"{a} {tokens}", f"{b} {tokens}", off)


def _in_turn(jobs: dict[str, Callable[[], object]]) -> dict[str, Callable[[], object]]:
    """Return the jobs with those of one length next to each other, so that what is divided was timed close by."""
    return dict(sorted(jobs.items(), key=lambda job: int(job[0].split()[-1])))


def _passes(model: Any, job: Callable[[], Any]) -> tuple[Any, int]:
    """Return what the job returns, and how many forward passes it took."""
    counted = itertools.count()
    hook = model.get_output_embeddings().register_forward_hook(lambda *_: (next(counted), None)[1])
    out = job()
    hook.remove()
    return out, next(counted)


if __name__ == "__main__":
    main()
