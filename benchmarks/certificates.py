"""Certify samplers of joint laws on n-gram models, whose log Z is exact: python -m benchmarks.certificates --out FILE.jsonl.

The texts are stories of six pets, cut after one to six sentences, or those of `--file`, in characters or, with `--pieces`, in
the pieces of a tokenizer that is trained on them. A law has a label, an order, a length T, and either a scale γ at β = 1 or a
power β at γ = 1. Every sampler of `--samplers` draws every law `--draws` times, each with its own verdict. Finished rows are
kept in the file, and the same command goes on; `--table` prints what a file has. A shard of an array job has a file of its
own; together the files of all shards, joined by `cat`, are that of one run.

A verdict is false if it is positive and log Ẑ is off by more than half a nat. Verdicts on one law are correlated, so a law
counts as false if any of its verdicts is, and the limit is that of Clopper and Pearson for laws with a positive verdict.
"""

import argparse
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import pandas as pd
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.trainers import BpeTrainer

import arguide
from analysis.cli import options
from analysis.engines import ENGINES, engine, share
from analysis.files import tables
from analysis.learning import toy_stories
from analysis.text.loading import quiet_thread
from analysis.toys import NgramModels, TextLaw, read_ngrams
from analysis.toys.law import Weights
from analysis.toys.ngrams.models import codes_of
from arguide.stopping import lengths
from benchmarks.rows import add, kept
from benchmarks.verdicts import upper

ORDERS, LENGTHS, LABELS = (2, 3, 4, 5), (20, 40), 3
SCALES, POWERS = (1.25, 1.5, 2.0, 3.0, 5.0), (1.5, 2.0, 3.0, 4.0)
NATS = 0.5
STORIES, SENTENCES = 3000, 6


class Law(NamedTuple):
    """A law of whole texts: its label, order n, largest length T, scale γ and power β."""

    label: int
    order: int
    length: int
    scale: float
    power: float

    @property
    def weights(self) -> Weights:
        """The weights of p(x|y) and p(x)."""
        return {self.label: self.power * self.scale} | ({None: self.power * (1 - self.scale)} if self.scale != 1 else {})


class Found(NamedTuple):
    """The result of a sampler: log Ẑ, its standard error, whether its verdict is positive, and texts, [n, T]."""

    log_z: float
    std_error: float
    positive: bool
    texts: torch.Tensor


def particles(model: arguide.Ending, generator: torch.Generator, n: int = 256, **options: Any) -> Found:
    """Run `arguide.repeat_joint` with n particles."""
    runs, found = arguide.repeat_joint(model, n, model.length, generator=generator, **options)
    return Found(found.log_evidence, found.std_error, found.consistent, arguide.pooled(runs).draw(256, generator))


def ladder(model: arguide.Ending, generator: torch.Generator, n: int = 8, levels: int = 8, sweeps: int = 200) -> Found:
    """Run n ladders."""
    found = arguide.sample_ladder(
        model, n, model.length, levels=levels, sweeps=sweeps, burn_in=sweeps // 2, generator=generator
    )
    return Found(float(found.log_evidence), float(found.std_error), found.consistent, found.tokens)


SAMPLERS: dict[str, Callable[[arguide.Ending, torch.Generator], Found]] = {
    "particles": particles,
    "blocks of 4": lambda model, generator: particles(model, generator, block=4),
    "particles × 32": lambda model, generator: particles(model, generator, 32 * 256),
    "look-ahead": lambda model, generator: particles(model, generator, twist=arguide.particles.ahead),
    "look-ahead × 32": lambda model, generator: particles(model, generator, 32 * 256, twist=arguide.particles.ahead),
    "ladder": ladder,
    "particles × 128": lambda model, generator: particles(model, generator, 128 * 256),
    "ladder × 4": lambda model, generator: ladder(model, generator, 16, 10, 400),
}


def laws(
    lengths: Sequence[int] = LENGTHS,
    orders: Sequence[int] = ORDERS,
    labels: int = LABELS,
    scales: Sequence[float] = SCALES,
    powers: Sequence[float] = POWERS,
) -> Iterator[Law]:
    """Yield all laws, the easiest last axis first, so that a part of them has every order and label."""
    settings = [(scale, 1.0) for scale in scales] + [(1.0, power) for power in powers]
    for length, (scale, power), order, label in itertools.product(lengths, settings, orders, range(labels)):
        yield Law(label, order, length, scale, power)


class Source(NamedTuple):
    """A file of labelled texts, and the number of pieces of their tokenizer; None for the stories, and for characters."""

    file: Path | None = None
    pieces: int | None = None

    def cut(self) -> Callable[[str], list[str]] | None:
        """Return text ↦ its pieces, by byte-pair encoding."""
        if self.file is None or self.pieces is None:
            return None
        tokenizer = Tokenizer(BPE(unk_token="□"))
        tokenizer.pre_tokenizer = Metaspace()
        trainer = BpeTrainer(vocab_size=self.pieces, special_tokens=["□"], show_progress=False)
        tokenizer.train_from_iterator(tables.read(self.file)["text"].astype(str), trainer)
        return lambda text: tokenizer.encode(text).tokens


@cache
def models_of(order: int, length: int, source: Source) -> NgramModels:
    """Return the n-gram models of the stories, or of a file."""
    if source.file is not None:
        least = 20 if source.pieces is None else 0
        return read_ngrams(source.file, order=order, length=length, max_labels=8, pieces=source.cut(), least=least)
    draw = random.Random(0)
    rows, labels = [], []
    for story in toy_stories.write(STORIES):
        words = story.split()
        ends = [i for i, word in enumerate(words) if word == "."]
        if words[3] in toy_stories.PETS:
            rows.append(words[: ends[min(draw.randrange(SENTENCES), len(ends) - 1)] + 1])
            labels.append(toy_stories.PETS.index(words[3]))
    codes, alphabet = codes_of(rows, 1, "□")
    return NgramModels(codes, labels, order, alphabet=alphabet, length=length, names=toy_stories.PETS)


def certified(law: Law, sampler: str, repeat: int, source: Source) -> dict[str, Any]:
    """Return one row: the law, the sampler, the number of the draw, its numbers and the exact ones."""
    models = models_of(law.order, law.length, source)
    exact: TextLaw = models.log_joint(law.weights)
    branches = tuple(models.autoregressive(label) for label in law.weights)
    guided = arguide.LogLinear(branches, tuple(law.weights.values()))
    model = arguide.Ending(guided, (models.size - 1,), law.length, cap="force")
    generator = torch.Generator().manual_seed((hash(law) + repeat) % 2**31)
    with quiet_thread():
        begin = process_time()
        found = SAMPLERS[sampler](model, generator)
        seconds = process_time() - begin
    sizes = lengths(found.texts, (models.size - 1,)).double()
    return law._asdict() | {
        "sampler": sampler,
        "draw": repeat,
        "log_z": found.log_z,
        "std_error": found.std_error,
        "positive": found.positive,
        "exact": float(exact.log_normalizer),
        "mean_length": float(sizes.mean()),
        "exact_length": float(exact.mean_length()),
        "growth": exact.log_growth,
        "seconds": seconds,
    }


def table(frame: pd.DataFrame) -> str:
    """Return convergence, errors and false verdicts per setting and sampler, in Markdown."""
    frame = frame.assign(error=frame["log_z"] - frame["exact"])
    setting = frame["scale"].map("γ = {:g}".format).where(frame["power"] == 1, frame["power"].map("β = {:g}".format))
    names = (
        "runs",
        "positive",
        "false laws of those with a positive verdict, limit",
        "within .1 (.05) nat",
        "median error, nats",
        "rms error ÷ std. error",
        "seconds",
    )
    lines = ["| law | sampler | " + " | ".join(names) + " |", "|---|---|" + "---:|" * len(names)]
    parts = [
        *frame.groupby([setting, "sampler"], sort=False),
        *((("all", name), rows) for name, rows in frame.groupby("sampler")),
        (("all", "all"), frame),
    ]
    for (what, sampler), rows in parts:
        positive, off = rows[rows["positive"]], rows["error"].abs()
        false = (positive["error"].abs() > NATS).groupby([positive[name] for name in Law._fields]).any()
        ratio = (positive["error"] / positive["std_error"]).pow(2).mean() ** 0.5 if len(positive) else math.nan
        cells = (
            f"{len(rows)}",
            f"{rows['positive'].mean():.0%}",
            f"{false.sum()} of {len(false)}, {upper(int(false.sum()), len(false)):.1%}" if len(positive) else "–",
            f"{(off < 0.1).mean():.0%} ({(off < 0.05).mean():.0%})",
            f"{off.median():.3f}",
            f"{ratio:.2f}",
            f"{rows['seconds'].median():.1f}",
        )
        lines.append(f"| {what} | {sampler} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def read(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a file in the order of the laws, whatever order they were finished in."""
    axes, names = ("length", "power", "scale", "order", "label"), list(SAMPLERS)
    return sorted(kept(file), key=lambda row: (*(row[axis] for axis in axes), names.index(row["sampler"]), row["draw"]))


def law_of(row: dict[str, Any]) -> Law:
    """Return the law of a row."""
    return Law(*(row[name] for name in Law._fields))


def main() -> None:
    """Certify, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.certificates", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines, one per finished run")
    parser.add_argument("--file", type=Path, help="labelled texts in place of the stories")
    parser.add_argument("--pieces", type=int, help="pieces of the texts of --file, in place of characters")
    parser.add_argument("--orders", type=int, nargs="+", default=ORDERS, help="n (default: %(default)s)")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="T (default: %(default)s)")
    parser.add_argument("--labels", type=int, default=LABELS, help="take the first labels only (default: %(default)s)")
    parser.add_argument("--scales", type=float, nargs="*", default=SCALES, help="γ (default: %(default)s)")
    parser.add_argument("--powers", type=float, nargs="*", default=POWERS, help="β (default: %(default)s)")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS)[:-2])
    parser.add_argument("--draws", type=int, default=1, help="of every sampler and law (default: %(default)s)")
    parser.add_argument("--every", type=int, default=1, help="take every n-th law only (default: %(default)s)")
    parser.add_argument("--table", action="store_true", help="print the table of what is finished, and nothing else")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--engine", choices=ENGINES, default="processes", help="default: %(default)s")
    parser.add_argument("--address", help="of a Ray cluster")
    parser.add_argument("--shard", metavar="I/N", help="do part I of N, in a file of its own")
    given = parser.parse_args()
    try:
        part = options.shard(given.shard, fresh=False)
        with engine(given.engine, given.jobs, given.address) as run:
            chosen = list(laws(given.lengths, given.orders, given.labels, given.scales, given.powers))[:: given.every]
            done = {(law_of(row), row["sampler"], row["draw"]) for row in read(given.out)}
            runs = share(list(itertools.product(chosen, given.samplers, range(given.draws))), part)
            left = [] if given.table else [each for each in runs if each not in done]
            calls = [partial(certified, *each, Source(given.file, given.pieces)) for each in left]
            add(given.out, run, calls, "certificates")
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    print(table(pd.DataFrame(read(given.out))))


if __name__ == "__main__":
    main()
