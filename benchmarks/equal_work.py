"""Compare samplers of joint laws at equal work, on exact laws of texts: python -m benchmarks.equal_work --out FILE.jsonl.

The laws are those of `benchmarks.certificates`. Work is the number of tokens that the models read, one per row of a batch and
position; that of the ladder sets it for all. A suffix move counts the tokens after its cut. Compared are log Ẑ, for samplers
that have one, and the mean of r = log p̃(x) − log p(x|y), by which alone a joint law differs from p(x|y). Exact draws are the
control.

    particles        `repeat_joint` with its probes and chains
    blocks of 4      the same, resampled every four tokens
    look-ahead       the same, resampled by the weight with the normalizer of the next token
    ramp             the same, resampled by p_0 (p̃/p_0)^s, where s rises from 0 to 1 over half of the tokens (Power-SMC,
                     arXiv:2602.10273, section 5.3, for powers)
    chains           `sample_metropolis` on whole texts, from sequential draws
    growing chains   chains on the first quarter of the tokens, then on the first half, and so on (Karan & Du,
                     "Reasoning with sampling", arXiv:2510.14901, algorithm 1, for powers)
    ladder           `sample_ladder`
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

import arguide
from analysis.engines import engine
from analysis.text.loading import quiet_thread
from analysis.toys import NgramModels, TextLaw
from arguide import particles
from arguide.smc.draws import categorical
from arguide.smc.driver import Twist
from benchmarks.certificates import Law, Source, laws, models_of
from benchmarks.rows import add, kept

PARTICLES, CHAINS, STEPS, GROWING_STEPS, QUARTERS, DRAWS = 3500, 256, 264, 106, 4, 256
LEVELS, LADDERS, SWEEPS, BURN_IN = 8, 8, 200, 100


class Counted:
    """A model that counts the tokens it reads."""

    def __init__(self, model: Any) -> None:
        self.model, self.tokens = model, 0

    def start(self, n: int) -> Any:
        """Return n empty prefixes."""
        return self.model.start(n)

    def append(self, state: Any, token: Tensor) -> Any:
        """Append one token per row, [n], and count them."""
        self.tokens += len(token)
        return self.model.append(state, token)

    def select(self, state: Any, index: Tensor) -> Any:
        """Return the state whose row i is row index[i]."""
        return self.model.select(state, index)


class Problem(NamedTuple):
    """A law, exact and as a model: p(x|y) as p_0, the target p̃, its weights, and the guided model that counts what it reads."""

    start: TextLaw
    target: TextLaw
    combined: arguide.LogLinear
    end: int

    def model(self, length: int | None = None) -> arguide.Ending:
        """Return the model of whole texts, or of their first tokens."""
        if length is None:
            return arguide.Ending(self.combined, (self.end,), self.target.length, cap="force")
        return arguide.Ending(self.combined, (self.end,), length)

    @property
    def ratios(self) -> Tensor:
        """Return log p̃ − log p_0 of every arc, [S, V]; 0 where p_0 is 0."""
        none = self.start.log_weights == -math.inf
        return (self.target.log_weights - self.start.log_weights).masked_fill(none, 0.0)

    def ratio(self, texts: Tensor) -> Tensor:
        """Return r of the first tokens of texts, [n, t] ↦ [n]."""
        following, ratios = torch.from_numpy(self.start.contexts.following), self.ratios
        state, total = torch.full((len(texts),), self.start.contexts.start), torch.zeros(len(texts), dtype=torch.float64)
        open_rows = torch.ones(len(texts), dtype=torch.bool)
        for token in texts.unbind(1):
            total += torch.where(open_rows, ratios[state, token], 0.0)
            open_rows = open_rows & (token != self.end)
            state = following[state, token].long()
        return total


class Found(NamedTuple):
    """A result: the mean of r, log Ẑ and whether the verdict is positive; None where a sampler has none."""

    ratio: float
    log_z: float | None = None
    positive: bool | None = None


def weighted(problem: Problem, generator: torch.Generator, **options: Any) -> Found:
    """Run `repeat_joint`."""
    runs, found = arguide.repeat_joint(problem.model(), PARTICLES, problem.target.length, generator=generator, **options)
    pooled = arguide.pooled(runs)
    return Found(float(pooled.log_weights.exp() @ problem.ratio(pooled.tokens)), found.log_evidence, found.consistent)


def ramp(problem: Problem) -> Twist:
    """Return the look-ahead log ψ = (s − 1) r of the tokens so far, which makes the targets p_0 (p̃/p_0)^s."""

    def twist(state: Any) -> Tensor:
        share = min(1.0, 2 * state.x.shape[1] / problem.target.length)
        return ((share - 1) * problem.ratio(state.x)).clamp(min=torch.finfo(torch.float64).min / 4)

    return twist


def chains(problem: Problem, generator: torch.Generator) -> Found:
    """Run chains on whole texts."""
    done = arguide.sample_metropolis(problem.model(), CHAINS, problem.target.length, STEPS, generator=generator)
    return Found(float(problem.ratio(done.tokens).mean()))


def growing_chains(problem: Problem, generator: torch.Generator) -> Found:
    """Run chains on longer and longer texts."""
    texts: Tensor | None = None
    for part in range(1, QUARTERS + 1):
        length = problem.target.length * part // QUARTERS
        model = problem.model() if part == QUARTERS else problem.model(length)
        if texts is not None:
            texts = continued(model, texts, generator)
        texts = arguide.sample_metropolis(model, CHAINS, length, GROWING_STEPS, first=texts, generator=generator).tokens
    assert texts is not None
    return Found(float(problem.ratio(texts).mean()))


def continued(model: arguide.Ending, texts: Tensor, generator: torch.Generator) -> Tensor:
    """Return texts continued by sequential draws up to the cap of a model, [n, T]."""
    given, draw = iter(texts.unbind(1)), categorical(generator)

    def kept(law: Tensor) -> Tensor:
        token = next(given, None)
        return draw(law) if token is None else token

    return arguide.sample(model, len(texts), model.length, draw=kept).tokens


def ladder(problem: Problem, generator: torch.Generator) -> Found:
    """Run ladders; the mean of r is that of all sweeps at the target."""
    model, length = problem.model(), problem.target.length
    found = arguide.sample_ladder(model, LADDERS, length, levels=LEVELS, sweeps=SWEEPS, burn_in=BURN_IN, generator=generator)
    return Found(float(found.ratios[:, -1].mean()), float(found.log_evidence), found.consistent)


def exact(problem: Problem, generator: torch.Generator) -> Found:
    """Draw from the exact law."""
    return Found(float(problem.ratio(problem.target.sample(DRAWS, generator)).mean()))


Sampler = Callable[[Problem, torch.Generator], Found]
SAMPLERS: dict[str, Sampler] = {
    "particles": weighted,
    "blocks of 4": partial(weighted, block=4),
    "look-ahead": partial(weighted, twist=particles.ahead),
    "ramp": lambda problem, generator: weighted(problem, generator, twist=ramp(problem)),
    "chains": chains,
    "growing chains": growing_chains,
    "ladder": ladder,
    "exact draws": exact,
}
HALF = ("chains", "growing chains")  # a step reads all tokens here, though those before its cut are known


def compared(law: Law, sampler: str) -> dict[str, Any]:
    """Return one row: the law, the sampler, its numbers and the exact ones."""
    models: NgramModels = models_of(law.order, law.length, Source())
    counted = Counted(models.autoregressive(law.label))
    branches: list[Any] = [counted, *(models.autoregressive(label) for label in law.weights if label != law.label)]
    combined = arguide.LogLinear(tuple(branches), tuple(law.weights.values()))
    problem = Problem(models.log_law(law.label), models.log_joint(law.weights), combined, models.size - 1)
    generator = torch.Generator().manual_seed(hash(law) % 2**31)
    with quiet_thread():
        begin = process_time()
        found = SAMPLERS[sampler](problem, generator)
        seconds = process_time() - begin
    right = {"exact_ratio": float(problem.target.expectation(problem.ratios)), "exact": float(problem.target.log_normalizer)}
    work = counted.tokens / law.length / (2 if sampler in HALF else 1)
    return law._asdict() | {"sampler": sampler} | found._asdict() | right | {"work": work, "seconds": seconds}


def table(frame: pd.DataFrame) -> str:
    """Return the errors per setting and sampler, in Markdown."""
    setting = frame["scale"].map("γ = {:g}".format).where(frame["power"] == 1, frame["power"].map("β = {:g}".format))
    frame = frame.assign(
        off=(frame["log_z"].astype(float) - frame["exact"]).abs(), ratio_off=(frame["ratio"] - frame["exact_ratio"]).abs()
    )
    names = "laws", "positive", "error of log Ẑ, nats", "error of mean r, nats", "texts read", "seconds"
    lines = ["| law | sampler | " + " | ".join(names) + " |", "|---|---|" + "---:|" * len(names)]
    for (what, sampler), rows in frame.groupby([setting, "sampler"], sort=False):
        judged = rows["positive"].notna().all()
        cells = (
            f"{len(rows)}",
            f"{rows['positive'].astype(float).mean():.0%}" if judged else "–",
            f"{rows['off'].median():.3f}" if judged else "–",
            f"{rows['ratio_off'].median():.3f}",
            f"{rows['work'].median():,.0f}",
            f"{rows['seconds'].median():.1f}",
        )
        lines.append(f"| {what} | {sampler} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Compare, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.equal_work", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines, one per finished run")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--every", type=int, default=5, help="take every n-th law only (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    given = parser.parse_args()
    done = {(*(row[name] for name in Law._fields), row["sampler"]) for row in kept(given.out)}
    left = [(law, name) for law in list(laws())[:: given.every] for name in given.samplers if (*law, name) not in done]
    with engine("processes", given.jobs) as run:
        add(given.out, run, [partial(compared, *pair) for pair in left], "equal work")
    order = {name: i for i, name in enumerate(SAMPLERS)}
    rows = sorted(kept(given.out), key=lambda row: (row["power"], row["scale"], order[row["sampler"]]))
    print(table(pd.DataFrame(rows)))


if __name__ == "__main__":
    main()
