"""Two ladders on a language model that start apart, and particles at equal work: python -m benchmarks.ladders --out FILE.jsonl.

The model is stories260K, with three prompts. One ladder starts from draws at γ = 1, one from the texts of beams that maximise
the joint probability. They should agree within .2 nat, or their verdicts should say that they do not.

    two      γ = 2 and 3 at T = 24, with the next prompt as the negative one; p², p³, p⁴ at T = 64
    spread   log Ẑ at γ = 2 over seeds, by ladders and by particles of equal work: the ratio of the variances
"""

import argparse
import itertools
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean, variance
from time import process_time
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoTokenizer

import arguide
from analysis.engines import engine
from analysis.text.loading import quiet_thread
from benchmarks.equal_work import Counted
from benchmarks.models import STORIES, generate, pair
from benchmarks.rows import add, kept

PROMPTS = ("Lily had a big dog named Max.", "Once upon a time", "Tom and his cat went to the park.")
LADDERS, LEVELS, SWEEPS, BURN_IN, BEAMS = 4, 8, 200, 100, 8
SMALL, SEEDS, LARGEST = 50, 8, 1024  # sweeps and seeds of the spread, and the most particles of a run


class Law(NamedTuple):
    """The law of T tokens after a prompt: the scale γ, and the power β of p(x | prompt)."""

    prompt: int
    scale: float
    power: float
    length: int

    @property
    def name(self) -> str:
        """The name in tables."""
        return f"γ = {self.scale:g}" if self.power == 1 else f"p(x)^{self.power:g}"


LAWS = [Law(i, scale, 1.0, 24) for i in range(len(PROMPTS)) for scale in (2.0, 3.0)] + [
    Law(i, 1.0, power, 64) for i in range(len(PROMPTS)) for power in (2.0, 3.0, 4.0)
]


class CountedLaw(Counted):
    """A continuation that counts the tokens it reads."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def resume(self, state: Any, tokens: Tensor, kept: int) -> Any:
        """Return the state after tokens, [n, t], and count those that are not kept."""
        self.tokens += len(tokens) * (tokens.shape[1] - (0 if state is None else kept))
        return self.model.resume(state, tokens, kept)


def inputs(law: Law) -> tuple[Any, Tensor, arguide.Guidance]:
    """Return the guided model, the prompt, [1, L], and the guided law."""
    tokenizer = AutoTokenizer.from_pretrained(STORIES)
    ids = [tokenizer(prompt, return_tensors="pt").input_ids for prompt in PROMPTS]
    negative = None if law.scale == 1 else ids[(law.prompt + 1) % len(PROMPTS)]
    guidance = arguide.Guidance(law.scale, negative_prompt_ids=negative, temperature=1 / law.power)
    return pair("stories260K").guided, ids[law.prompt], guidance


def target(law: Law) -> Any:
    """Return a law of texts of exactly T tokens."""
    model, ids, guidance = inputs(law)
    return arguide.continuation(model, ids, guidance=guidance, max_new_tokens=law.length, eos_token_id=())


def beams(law: Law) -> Tensor:
    """Return the texts of joint beams, [n, T]."""
    model, ids, guidance = inputs(law)
    options = {"num_beams": BEAMS, "num_return_sequences": BEAMS, "beam_law": "joint", "guidance": guidance}
    return generate(model, ids, law.length, **options)[:, ids.shape[1] :]


def two(law: Law, sweeps: int = SWEEPS, burn_in: int = BURN_IN) -> dict[str, Any]:
    """Return one row: log Ẑ, standard error and verdict of both ladders."""
    begin, row = process_time(), dict[str, Any]()
    with quiet_thread(), torch.inference_mode():
        for seed, (start, first) in enumerate((("draws", None), ("beams", beams(law)))):
            generator = torch.Generator().manual_seed(1000 * law.prompt + seed)
            options: dict[str, Any] = {"levels": LEVELS, "sweeps": sweeps, "burn_in": burn_in}
            found = arguide.sample_ladder(target(law), LADDERS, law.length, first=first, generator=generator, **options)
            numbers = float(found.log_evidence), float(found.std_error), found.consistent, found.round_trips
            row |= {f"{start}_{name}": value for name, value in zip(("log_z", "error", "good", "trips"), numbers, strict=True)}
    return {"part": "two"} | law._asdict() | row | {"seconds": process_time() - begin}


def spread(law: Law, seed: int, sweeps: int = SMALL) -> dict[str, Any]:
    """Return one row: log Ẑ of ladders, and of particles of equal work."""
    generator = torch.Generator().manual_seed(seed)
    counted, begin = CountedLaw(target(law)), process_time()
    with quiet_thread(), torch.inference_mode():
        options: dict[str, Any] = {"levels": LEVELS, "sweeps": sweeps, "burn_in": sweeps // 2}
        ladder = arguide.sample_ladder(counted, LADDERS, law.length, generator=generator, **options)
        between, rows = process_time(), round(counted.tokens / law.length)
        runs = math.ceil(rows / LARGEST)
        drawn = [arguide.sample_joint(target(law), rows // runs, law.length, generator=generator) for _ in range(runs)]
    found = {"ladder": float(ladder.log_evidence), "particles": float(arguide.pooled(drawn).log_evidence), "texts": rows}
    times = {"ladder_seconds": between - begin, "particles_seconds": process_time() - between}
    return {"part": "spread"} | law._asdict() | {"seed": seed} | found | times


def tables(rows: list[dict[str, Any]]) -> str:
    """Return both tables, in Markdown."""
    lines = ["| law | prompt | from draws | from beams | difference | both verdicts |", "|---|---:|---:|---:|---:|---|"]
    for row in (row for row in rows if row["part"] == "two"):
        law = Law(*(row[name] for name in Law._fields))
        both = [f"{row[f'{start}_log_z']:.2f} ± {row[f'{start}_error']:.2f}" for start in ("draws", "beams")]
        difference = row["beams_log_z"] - row["draws_log_z"]
        said = {2: "positive", 1: "one is negative", 0: "negative"}[row["draws_good"] + row["beams_good"]]
        lines.append(f"| {law.name} | {law.prompt + 1} | {both[0]} | {both[1]} | {difference:+.2f} | {said} |")
    lines += ["", "| prompt | sampler | mean log Ẑ | variance | seconds |", "|---:|---|---:|---:|---:|"]
    for prompt, sampler in itertools.product(range(len(PROMPTS)), ("ladder", "particles")):
        found = [row for row in rows if row["part"] == "spread" and row["prompt"] == prompt]
        if len(found) > 1:
            values, seconds = [row[sampler] for row in found], fmean(row[f"{sampler}_seconds"] for row in found)
            lines.append(f"| {prompt + 1} | {sampler} | {fmean(values):.2f} | {variance(values):.3f} | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the file lacks, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ladders", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines, one per finished run")
    parser.add_argument("--parts", nargs="+", choices=("two", "spread"), default=["two", "spread"])
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    given = parser.parse_args()
    done = {(row["part"], *(row[name] for name in Law._fields), row.get("seed")) for row in kept(given.out)}
    jobs: dict[tuple[Any, ...], Callable[[], dict[str, Any]]] = {}
    if "two" in given.parts:
        jobs |= {("two", *law, None): partial(two, law) for law in LAWS}
    if "spread" in given.parts:
        settings = [(law, seed) for law in LAWS if law.scale == 2 for seed in range(SEEDS)]
        jobs |= {("spread", *law, seed): partial(spread, law, seed) for law, seed in settings}
    left = [job for key, job in jobs.items() if key not in done]
    with engine("processes", given.jobs) as run:
        add(given.out, run, left, "ladders")
    print(tables(kept(given.out)))


if __name__ == "__main__":
    main()
