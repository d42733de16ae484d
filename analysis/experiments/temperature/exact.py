"""The exact laws and exact scores at temperatures of one's own, for `arguide temperature` without a model."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis import limits
from analysis.experiments.base import Settings
from analysis.experiments.temperature import claims, scores, tokens
from analysis.frames import Track, tidy
from analysis.metrics.temperature.laws import SEQUENTIAL, TOP_K, TOP_P, OfTable, OfTexts


def run(betas: Sequence[float], top_k: Sequence[float], top_p: Sequence[float], *, seed: int, track: Track) -> pd.DataFrame:
    """Return the frame of the chapter at temperatures of one's own.

    Args:
        betas: β of powers, factors and samplers.
        top_k: k.
        top_p: p.
        seed: seed of the samplers of diffusion.
        track: progress bar.
    """
    settings = {SEQUENTIAL: betas, TOP_K: top_k, TOP_P: top_p}
    exact = tokens.rows((tokens.LONG,), [1 / beta for beta in betas], settings, settings)
    return tidy([*exact, *scores.rows(Settings(quick=True, seed=seed), betas, track)])


def own(
    name: str, laws: OfTable | OfTexts, betas: Sequence[float], top_k: Sequence[float], top_p: Sequence[float]
) -> pd.DataFrame:
    """Return the ways to lower the temperature of one exact law.

    Args:
        name: of the law.
        laws: of a table or of n-gram models.
        betas: β of factors.
        top_k: k.
        top_p: p.

    Raises:
        ValueError: a table whose texts are too many to be listed.
    """
    settings = {SEQUENTIAL: betas, TOP_K: top_k, TOP_P: top_p}
    if isinstance(laws, OfTexts):
        return tidy(tokens.of_texts(name, laws, settings))
    shape = laws.table.shape
    limits.check_memory(
        f"{name}: {' × '.join(map(str, shape))} texts with their bigrams", math.prod(shape) * max(shape) ** 2, 1
    )
    return tidy(tokens.of_table(name, laws, settings))


def record(frame: pd.DataFrame, betas: Sequence[float], seed: int) -> dict[str, Any]:
    """Return a frame of `run`, ready for JSON; numbers that are not finite are null.

    Args:
        frame: of `run`.
        betas: β.
        seed: seed of the samplers.
    """
    settings = frame.dropna(subset="setting").groupby(["law", "family", "setting"], sort=False)
    ways = [
        dict(zip(("law", "family", "setting"), key, strict=True)) | dict(zip(rows["quantity"], rows["value"], strict=True))
        for key, rows in settings
    ]
    reached = [_reached(each, beta) for beta in betas for each in claims.reached(frame, beta)]
    useless = {law: claim._asdict() for law, claim in claims.useless(frame).items()}
    return {"seed": seed, "equal_likelihood": ways, "reached": reached, "useless": useless}


def _reached(found: claims.Reached, beta: float) -> dict[str, Any]:
    """Return one way at one β."""
    numbers = {name: getattr(found, name) for name in ("beta", "distance", "idle")}
    values = {
        name: {"value": _finite(each.value), "interval": list(map(_finite, each.interval))} for name, each in numbers.items()
    }
    return {"law": found.law, "way": found.way, "asked": beta} | values | {"terrible": found.claim._asdict()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
