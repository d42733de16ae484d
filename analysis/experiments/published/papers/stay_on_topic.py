"""Sanchez et al. (2023): the product of guided factors of a language model is not the guided joint law."""

from collections.abc import Iterator

import torch
from torch import Tensor

import arguide
from analysis.experiments.published.claims import Claim, arxiv
from analysis.toys import Table
from analysis.toys.autoregressive import law_of
from analysis.toys.example_tables import INDEPENDENT, coupled_table, special_tables

LENGTH, LABEL, SCALE = 4, 1, 1.5
WHERE = "equation 6: ∏_i P̂(w_i|w_<i, c) ∝ P(w|c)^γ / P(w)^(γ−1)"
CLAIM = f"spread over w of the logarithm of left ÷ right, γ = {SCALE:g}"


def claims(_seed: int) -> Iterator[Claim]:
    """Yield how far from constant the ratio of both sides of equation 6 is, with and without normalisers."""
    coupled, free = coupled_table(LENGTH), special_tables(LENGTH)[INDEPENDENT]
    gap = _spread(_guided(coupled) - _weight(coupled))
    yield Claim(
        WHERE,
        CLAIM,
        0.0,
        gap,
        _spread(_guided(free) - _weight(free)),
        "independent tokens",
        note="Left: the law of `arguide.LogLinear.guidance` along every branch of a table. Each factor is normalised by "
        "Z_i(w_<i); the right-hand side lacks the product of these.",
    )
    bare = sum(
        (_padded(SCALE * cond + (1 - SCALE) * uncond) for cond, uncond in zip(*_factors(coupled), strict=True)),
        torch.zeros((), dtype=torch.float64),
    )
    claim = f"{CLAIM}, factors without their normalisers"
    yield Claim(WHERE, claim, 0.0, _spread(bare - _weight(coupled)), gap, "normalised factors")


def _guided(table: Table) -> Tensor:
    """Return the log law of guided tokens, read along every branch, [V_1, …, V_T]."""
    model = arguide.LogLinear.guidance(table.autoregressive(LABEL), table.autoregressive(), SCALE)
    return law_of(model, table.shape)


def _weight(table: Table) -> Tensor:
    """Return log P(w|c)^γ / P(w)^(γ−1), [V_1, …, V_T]."""
    return SCALE * table.log_probs(LABEL) + (1 - SCALE) * table.log_probs()


def _factors(table: Table) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return table.log_conditionals(LABEL), table.log_conditionals()


def _padded(factor: Tensor) -> Tensor:
    """Return a factor [V_1, …, V_t] with an axis of size 1 for every later token."""
    return factor.reshape(*factor.shape, *(1,) * (LENGTH - factor.ndim))


def _spread(log_ratio: Tensor) -> float:
    return float(log_ratio.max() - log_ratio.min())


SOURCE = arxiv("2306.17806", "Sanchez et al., Stay on topic with classifier-free guidance (2023)", claims)
