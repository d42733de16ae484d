"""Karan and Du (2025): low temperature of the tokens against p^α, on two letters."""

from collections.abc import Iterator

import torch

from analysis.experiments.published.claims import Claim, arxiv
from analysis.toys import Table

WHERE = "example 1, α = 2"
PRINTED = {"aa": 0.00, "ab": 0.40, "ba": 0.25, "bb": 0.25}
REPAIRS = "If the missing 0.10 belongs to ab or to aa, low temperature is indifferent; if to ba or bb, p^α prefers b as well."


def claims(_seed: int) -> Iterator[Claim]:
    """Yield the odds of the first letter under both laws, and the sum of the printed probabilities."""
    total = sum(PRINTED.values())
    note = f"The four printed probabilities sum to {total:.2f}; the odds below do not depend on their scale. {REPAIRS}"
    yield Claim(WHERE, "sum of the four probabilities", "1.00", total, total + 0.1, "0.10 more for one of them", note=note)
    table = Table(torch.tensor([[[PRINTED["aa"], PRINTED["ab"]], [PRINTED["ba"], PRINTED["bb"]]]], dtype=torch.float64) / total)
    joint, sequential = (law({None: 2.0})[0].exp().sum(1) for law in (table.log_joint, table.log_sequential))
    power, tempered = (float(law[0] / law[1]) for law in (joint, sequential))
    note = "Both laws of the normalised table, summed over the second letter."
    yield Claim(
        WHERE, "odds of a : b under p^α, from 0.160 : 0.125", 0.160 / 0.125, power, tempered, "low temperature", note=note
    )
    yield Claim(WHERE, "odds of a : b at low temperature, from 0.160 : 0.250", 0.160 / 0.250, tempered, power, "p^α", note=note)


SOURCE = arxiv("2510.14901", "Karan and Du, Reasoning with sampling: your base model is smarter than you think (2025)", claims)
