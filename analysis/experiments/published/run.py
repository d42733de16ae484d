"""Compute the claims of the sources, and show them as rows: published, ours, difference, verdict."""

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import as_completed
from importlib.resources import files
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from analysis import processes
from analysis.experiments.published import SOURCES
from analysis.experiments.published.claims import DIFFERS, REPRODUCED, UNDECIDED, Claim, Source
from analysis.frames import Row, Track
from analysis.text import loading

COMMAND = "arguide published"
STORED = "stored.json"


def chosen(keys: Sequence[str]) -> list[Source]:
    """Return the sources of these keys, all of them for none.

    Raises:
        ValueError: no such source, or a source whose package is not installed.
    """
    known = {source.key: source for source in SOURCES}
    for key in keys:
        if key not in known:
            raise ValueError(f"no source {key!r}; the sources are {', '.join(known)}")
        if known[key].missing:
            raise ValueError(f"no claims of {key!r}: {known[key].missing}")
    return [source for source in SOURCES if not keys or source.key in keys]


def rows(sources: Sequence[Source], seed: int, track: Track, jobs: int = 1) -> list[Row]:
    """Return one row per claim, in the order of the sources.

    Args:
        sources: of the claims.
        seed: of every generator.
        track: a progress bar over the sources.
        jobs: number of processes.
    """
    keys = [source.key for source in sources]
    found: dict[str, list[Row]] = {}
    if jobs == 1 or len(keys) == 1:
        found = {key: _alone(key, seed) for key in track(keys)}
    else:
        with processes.pool(min(jobs, len(keys))) as executor:
            futures = {executor.submit(_alone, key, seed): key for key in keys}
            for _, future in zip(track(range(len(keys))), as_completed(futures), strict=True):
                found[futures[future]] = future.result()
    return [row for key in keys for row in found[key]]


def stored() -> list[Row]:
    """Return the rows of the run that the package holds, of all sources and seed 0."""
    return json.loads(files("analysis.experiments.published").joinpath(STORED).read_text(encoding="utf-8"))


def summary(found: Sequence[Row]) -> str:
    """Return how many claims have which verdict."""
    counts = Counter(row["verdict"] for row in found)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in (REPRODUCED, DIFFERS, UNDECIDED) if counts[verdict])


def row_of(source: Source, claim: Claim) -> Row:
    """Return a claim as a row, ready for JSON."""
    fields: dict[str, Any] = {
        "source": source.key,
        "title": source.title,
        "url": source.url,
        "read": source.read,
        "command": f"{COMMAND} --only {source.key}",
    }
    numbers = {
        "rounding": claim.rounding,
        "difference": claim.difference,
        "verdict": claim.verdict,
        "turned": claim.turned,
    }
    return fields | claim._asdict() | numbers


def _alone(key: str, seed: int) -> list[Row]:
    """Compute the claims of a source in this process, on one thread, because processes share the cores."""
    loading.silence()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        source = chosen([key])[0]
        return [row_of(source, claim) for claim in source.claims(seed)]
