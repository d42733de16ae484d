"""What looking ahead buys particles on text: effective particles and the spread of log Ẑ, per processor second.

    none       resampling by the weights so far
    one token  `arguide.particles.ahead`: with log Z_t of the token to come, which is there already
    m of k     with the mean of Π Z over m rollouts of k tokens, which is what a particle is expected to weigh k tokens on

Rollouts are no part of arguide, for they do not pay. They leave the law as it is all the same: given the values ψ > 0, drawn
in whatever way, ancestors are drawn by w ψ and weigh 1/ψ.
"""

import argparse
import copy
import math
from collections.abc import Callable
from statistics import fmean, stdev
from time import process_time
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoTokenizer

import arguide
from arguide.particles import Path, ahead
from arguide.smc.driver import Twist
from benchmarks.models import pair

PROMPT, PARTICLES = "Lily had a big dog named Max.", 128
LAWS = {"γ = 1.5": (1.5, 1.0), "γ = 2": (2.0, 1.0), "γ = 3": (3.0, 1.0), "p(x)²": (1.0, 2.0)}  # scale and power
LENGTHS = (10, 20)


class Way(NamedTuple):
    """How to look ahead.

    times, tokens: m rollouts of k tokens beyond the next one; m = 0 looks at the next one alone, None at nothing.
    block: tokens between two decisions to resample.
    """

    name: str
    times: int | None
    tokens: int = 0
    block: int = 1


WAYS = (
    Way("none", None),
    Way("one token", 0),
    Way("1 of 1", 1, 1),
    Way("one token, every 4th", 0, block=4),
    Way("2 of 4, every 4th", 2, 4, 4),
)


def rollouts(law: Any, times: int, tokens: int, length: int) -> Twist:
    """Return the twist by rollouts from the sequential law, which stop at the last token, each on a copy of the state."""
    draw = arguide.sampling.categorical()

    def once(path: Path) -> Tensor:
        reading = path.state.model.reading
        state = path.state.model._replace(reading=copy.deepcopy(reading, {id(call): call for call in reading.calls}))
        total = ahead(path)
        for _ in range(min(tokens, length - path.state.tokens.shape[1] - 1)):
            state = law.append(state, draw(state.log_probs))
            total = total + state.log_normalizer
        return total

    def twist(path: Path) -> Tensor:
        with torch.inference_mode():
            return torch.stack([once(path) for _ in range(times)]).logsumexp(0) - math.log(times)

    return twist


def lookahead(options: argparse.Namespace, advance: Callable[[], object]) -> str:
    """Return a table of every law, length and way; the ways take turns. R runs tell a spread to 1/√(2R − 2) of itself."""
    model = pair("stories260K", options.stories).plain
    tokenizer = AutoTokenizer.from_pretrained(options.stories)
    ids, negative = (tokenizer(text, return_tensors="pt").input_ids for text in (PROMPT, ""))
    lines = ["| | " + " | ".join(way.name for way in WAYS) + " |", "|---" * (len(WAYS) + 1) + "|"]
    for name, (scale, power) in LAWS.items():
        given = {"guidance_scale": scale, "temperature": 1 / power} | ({} if scale == 1 else {"negative_prompt_ids": negative})
        law = arguide.continuation(model, ids, **given)
        for length in LENGTHS:
            runs: list[list[tuple[float, ...]]] = [[] for _ in WAYS]
            for _ in range(options.repeats):
                for way, rows in zip(WAYS, runs, strict=True):
                    rows.append(_run(law, length, way))
                advance()
            lines.append(f"| {name}, {length} tokens | " + " | ".join(map(_cell, runs)) + " |")
    what = f"Each cell: ESS ÷ s, std log Ẑ × √s. stories260K, {PARTICLES} particles, {options.repeats} runs of each."
    return "\n".join([*lines, "", what])


def _run(law: Any, length: int, way: Way) -> tuple[float, ...]:
    """Return processor seconds, the last ESS, and log Ẑ."""
    twist = None if way.times is None else ahead if way.times == 0 else rollouts(law, way.times, way.tokens, length)
    start = process_time()
    run = arguide.sample_joint(law, PARTICLES, length, block=way.block, twist=twist)
    return process_time() - start, float(run.ess[-1]), float(run.log_evidence)


def _cell(rows: list[tuple[float, ...]]) -> str:
    seconds, ess, logs = zip(*rows, strict=True)
    return f"{fmean(ess) / fmean(seconds):.0f}, {stdev(logs) * math.sqrt(fmean(seconds)):.2g}"
