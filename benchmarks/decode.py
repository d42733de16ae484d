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
import copy
import itertools
import multiprocessing
import resource
import sys
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.utils import logging

import arguide
from benchmarks.timing import Case, Ratio, Row, measure, table, where

SCALE, SHORT = 1.5, 2
STORIES = Path(__file__).parents[2] / "shared/data/stories260K"
TEXTS = {
    "a text that goes on": "Once upon a time, there was a little girl named Lily. She loved to play in the park with her dog. "
    * 3,
    "a text that repeats itself": "The cat ran. The dog ran. " * 8,
}
LLAMAS = {
    "15M": {
        "vocab_size": 32_000,
        "hidden_size": 288,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
    },
    "135M": {
        "vocab_size": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
}
MODELS = ("stories260K", "15M", "gpt2", "135M")
GRIDS = {"small": ((1, 4), (16, 64)), "full": ((1, 4, 8), (16, 64, 256))}
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


class Pair(NamedTuple):
    """One model twice: as it is, and as a guided view of a copy. The view may lay its weights out in another order."""

    plain: Any
    guided: Any


def cases(tokens: int = 32) -> Iterator[Case]:
    """Yield the case that stands for all in the common table."""
    yield grid_case(pair("15M"), [Cell("15M", 1, 16, 1)], tokens, agree=tokens)


def pair(name: str, stories: Path = STORIES) -> Pair:
    """Return a model with random weights, or the one in `stories`, and a guided view of a copy; no token ends a text."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = _build(name, stories).eval()
    model.generation_config = GenerationConfig(do_sample=False, pad_token_id=0)
    return Pair(model, arguide.guided(copy.deepcopy(model)))


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


def generate(model: Any, ids: Tensor, tokens: int, **more: Any) -> Any:
    """Return prompts and `tokens` more, [n, L + tokens], by `generate`."""
    return model.generate(ids, attention_mask=torch.ones_like(ids), min_new_tokens=tokens, max_new_tokens=tokens, **more)


@torch.no_grad()
def loop(model: Any, ids: Tensor, tokens: int) -> Tensor:
    """Return the same without guidance, by as little code as does it."""
    cache = DynamicCache(config=model.config)
    read, texts = ids, ids
    for _ in range(tokens):
        logits = model(read, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        read = logits[:, -1].argmax(-1, keepdim=True)
        texts = torch.cat([texts, read], 1)
    return texts


def check_agreement(models: Pair, ids: Tensor, tokens: int, guidance: dict[str, Any]) -> None:
    """Raise AssertionError unless both guidances, and both unguided ways, choose the same tokens up to ties of rounding."""
    theirs = generate(models.plain, ids, tokens, **guidance)
    ours = generate(models.guided, ids, tokens, **guidance)
    assert theirs.shape == ours.shape == (ids.shape[0], ids.shape[1] + tokens)
    if not theirs.equal(ours):
        out = generate(models.guided, ids, tokens, output_scores=True, return_dict_in_generate=True, **guidance)
        _check_ties(theirs[:, -tokens:], ours[:, -tokens:], torch.stack(out.scores, 1))
    assert loop(models.plain, ids, SHORT).equal(generate(models.plain, ids, SHORT))


def random_ids(model: Any, n: int, length: int, seed: int = 0) -> Tensor:
    """Return random prompts [n, L] without the special tokens."""
    return torch.randint(3, model.config.vocab_size, (n, length), generator=torch.Generator().manual_seed(seed))


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
    models = pair(cell.model, stories)
    model = models.guided if guided else models.plain
    ids, guidance = random_ids(model, cell.batch, cell.prompt), guidance_of(model, cell)
    generate(model, ids[:1, :SHORT], SHORT, guidance_scale=SCALE)
    before = _peak_memory(reset=True)
    generate(model, ids, tokens, **guidance)
    return _peak_memory() - before


def memory_row(cell: Cell, tokens: int, stories: Path, rounds: int, advance: Callable[[], object]) -> Row:
    """Return arguide's peak of memory over transformers', each in `rounds` fresh processes that take turns."""
    megabytes: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(rounds):
        for guided, found in megabytes.items():
            found.append(_fresh(peak, cell, guided, tokens, stories))
            advance()
    ours, theirs = megabytes.values()
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Row(cell.model, "memory", median(ratios), min(ratios), max(ratios), median(ours), median(theirs))


def main() -> None:
    """Measure on one thread, and print tables in Markdown."""
    options = _options()
    torch.set_num_threads(1)
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
    parser.add_argument("--grid", choices=GRIDS, default="small", help="default: %(default)s")
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


def _work(options: argparse.Namespace, names: list[str]) -> int:
    """Return how many rounds all parts take."""
    batches, prompts = GRIDS[options.grid]
    rounds = {
        "grid": options.rounds * len(batches) * len(prompts) * len(names),
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
        for batch, prompt in itertools.product(*GRIDS[options.grid]):
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


def _build(name: str, stories: Path) -> Any:
    if name == "stories260K":
        return AutoModelForCausalLM.from_pretrained(stories)
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config())
    return LlamaForCausalLM(LlamaConfig(**LLAMAS[name], tie_word_embeddings=True))


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


def _check_ties(theirs: Tensor, ours: Tensor, scores: Tensor) -> None:
    """Raise AssertionError unless the first tokens that differ, [n, t], are as likely up to rounding."""
    differ = theirs != ours
    first = differ & (differ.cumsum(1) == 1)
    loss = scores.amax(-1) - scores.gather(-1, theirs[..., None])[..., 0]
    assert (loss[first] < 1e-3).all(), f"guidances disagree by {loss[first].max():.3g}"


def _fresh(function: Callable[..., float], *arguments: object) -> float:
    """Return what a function returns in a process of its own."""
    context = multiprocessing.get_context("spawn")
    there, here = context.Pipe()
    process = context.Process(target=_answer, args=(there, function, *arguments))
    process.start()
    there.close()
    try:
        return here.recv()
    finally:
        process.join()


def _answer(there: Connection, function: Callable[..., float], *arguments: object) -> None:
    there.send(function(*arguments))


def _peak_memory(reset: bool = False) -> float:
    """Return the peak of resident memory in MB, since the last reset where the system can reset it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 2**10


if __name__ == "__main__":
    main()
