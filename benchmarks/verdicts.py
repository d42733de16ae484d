"""False positive verdicts of `arguide.repeat_joint` on laws whose log Z is known: python -m benchmarks.verdicts.

A verdict is false if it is positive and log Ẑ is off by more than half a nat and by more than four of its standard errors.
Verdicts on one law are correlated, so a law counts as false if any of its verdicts is, and the limit is that of Clopper and
Pearson for laws with a positive verdict. A law is easy if log Ẑ has a standard deviation below a quarter of a nat over ten
seeds.

Thresholds were chosen on the laws 0 to 599 of `benchmarks.laws`, and the blocks of the probes on 10,000 to 11,199; the
held-out laws begin at 20,000.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import beta
from tqdm import tqdm

from arguide import Diagnosis, defensive, diagnose, pooled, repeat_joint, sample_joint, sample_metropolis
from benchmarks.laws import KINDS, Law, law

HELD_OUT, SEEDS = 20_000, 10
NATS, DEVIATIONS, EASY = 0.5, 4.0, 0.25
Rule = Callable[[Law, torch.Generator], Diagnosis]


class Verdict(NamedTuple):
    """A verdict on a law: its number and kind, log Ẑ, whether the verdict is positive, and whether it is false."""

    number: int
    kind: str
    log_evidence: float
    positive: bool
    false: bool


def now(law: Law, generator: torch.Generator) -> Diagnosis:
    """Diagnose as `repeat_joint` does."""
    return repeat_joint(law.model, law.particles, law.length, generator=generator)[1]


def before(law: Law, generator: torch.Generator) -> Diagnosis:
    """Diagnose by the earlier rule: two probes, resampled without look-ahead, that are no part of log Ẑ."""
    runs = [sample_joint(law.model, law.particles, law.length, generator=generator) for _ in range(4)]
    wider = partial(sample_joint, law.model, law.particles, law.length, transform=defensive(0.1), generator=generator)
    probes = [wider() for _ in range(2)]
    first = pooled(runs).draw(min(32, law.particles), generator)
    chains = sample_metropolis(law.model, len(first), law.length, 8, first=first, generator=generator)
    missed = max(float(probe.log_evidence) for probe in probes)
    found = diagnose(runs, chains)
    return found._replace(consistent=found.consistent and missed <= found.log_evidence + NATS)


RULES: dict[str, Rule] = {"now": now, "before": before}


def verdicts(number: int, seeds: int, rule: Rule = now) -> list[Verdict]:
    """Return the verdicts on a law, a seed each."""
    given = law(number)
    out = []
    for seed in range(seeds):
        found = rule(given, torch.Generator().manual_seed(SEEDS * number + seed))
        far = abs(found.log_evidence - given.log_z) > max(NATS, DEVIATIONS * found.std_error)
        out.append(Verdict(number, given.kind, found.log_evidence, found.consistent, found.consistent and far))
    return out


def upper(false: int, of: int) -> float:
    """Return the upper limit of the two-sided 95 % interval of Clopper and Pearson."""
    return 1.0 if false >= of else float(beta.ppf(0.975, false + 1, of - false))


def table(laws: Sequence[Sequence[Verdict]]) -> str:
    """Return counts by kind of law, in Markdown; easy laws are among those with ten verdicts."""
    names = (
        "laws",
        "verdicts",
        "positive",
        "false",
        "false laws ÷ laws with a positive one, upper limit",
        "easy laws, positive",
    )
    lines = ["| kind | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for kind in (*KINDS, "all"):
        own = [rows for rows in laws if kind in (rows[0].kind, "all")]
        every = [verdict for rows in own for verdict in rows]
        good, bad = (sum(any(getattr(each, name) for each in rows) for rows in own) for name in ("positive", "false"))
        counts = (len(own), len(every), sum(each.positive for each in every), sum(each.false for each in every))
        limit = f"{bad} ÷ {good}, {upper(bad, good):.1%}"
        lines.append(f"| {kind} | " + " | ".join(map(str, counts)) + f" | {limit} | {easy(own)} |")
    return "\n".join(lines)


def easy(laws: Sequence[Sequence[Verdict]]) -> str:
    """Return how many laws are easy, the share of them with at least five positive verdicts of ten, and of such verdicts."""
    ten = [rows for rows in laws if len(rows) == SEEDS]
    own = [rows for rows in ten if np.std([each.log_evidence for each in rows], ddof=1) < EASY]
    if not own:
        return "–"
    shares = np.array([np.mean([each.positive for each in rows]) for rows in own])
    return f"{len(own)} of {len(ten)}, {np.mean(shares >= 0.5):.0%} ({shares.mean():.0%} of verdicts)"


def main() -> None:
    """Measure on one thread, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts")
    parser.add_argument("--laws", type=int, default=1200, help="laws (default: %(default)s)")
    parser.add_argument("--easy", type=int, default=60, help="of these with ten verdicts (default: %(default)s)")
    parser.add_argument("--verdicts", type=int, default=1, help="on each of the others (default: %(default)s)")
    parser.add_argument("--first", type=int, default=HELD_OUT, help="number of the first law (default: %(default)s)")
    parser.add_argument("--rule", choices=RULES, default="now", help="what decides (default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    bar = tqdm(range(given.laws), desc="verdicts", unit="law", dynamic_ncols=True, disable=None)
    rule = RULES[given.rule]
    rows = [verdicts(given.first + i, SEEDS if i < given.easy else given.verdicts, rule) for i in bar]
    print(table(rows))
    for each in (verdict for of in rows for verdict in of if verdict.false):
        print(f"false: law {each.number}, {each.kind}, log Ẑ {each.log_evidence:.2f}, exact {law(each.number).log_z:.2f}")


if __name__ == "__main__":
    main()
