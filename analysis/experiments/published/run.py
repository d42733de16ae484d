"""Compute the claims of the sources, and show them as rows: published, ours, difference, verdict."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.resources import files
from typing import Any

from analysis import engines
from analysis.engines import Engine
from analysis.experiments.published import SOURCES
from analysis.experiments.published.claims import DIFFERS, FORMULA, PRINTED, REPRODUCED, UNDECIDED, WORDS, Claim, Source
from analysis.frames import Row
from analysis.text import loading

COMMAND = "arguide published"
STORED = "stored.json"
HERE = Engine("here")


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


def rows(sources: Sequence[Source], seed: int, track: Callable[..., Iterable[Any]], engine: Engine = HERE) -> list[Row]:
    """Return one row per claim, in the order of the sources.

    Args:
        sources: of the claims.
        seed: of every generator.
        track: (items, total=number of items) ↦ the items, for a progress bar.
        engine: the way to run them.

    Raises:
        ValueError: an engine that does not work.
    """
    with engines.engine(*engine._replace(jobs=min(engine.jobs, len(sources)))) as run:
        calls = [partial(_claims, source.key, seed) for source in sources]
        found = dict(track(run(calls), total=len(calls)))
    return [row for source in sources for row in found[source.key]]


def stored() -> list[Row]:
    """Return the rows of the run that the package holds, of all sources and seed 0."""
    return json.loads(files("analysis.experiments.published").joinpath(STORED).read_text(encoding="utf-8"))


def summary(found: Sequence[Row]) -> str:
    """Return how many claims have which verdict."""
    counts = Counter(row["verdict"] for row in found)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in (REPRODUCED, DIFFERS, UNDECIDED) if counts[verdict])


def kinds(found: Sequence[Row]) -> str:
    """Return how many claims are of which kind."""
    counts = Counter(row["kind"] for row in found)
    return f"{counts[PRINTED]} printed numbers, {counts[FORMULA]} formulas, {counts[WORDS]} statements in words"


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
        "kind": claim.kind,
        "half": claim.half,
        "rounding": claim.rounding,
        "difference": claim.difference,
        "verdict": claim.verdict,
        "turned": claim.turned,
    }
    return fields | claim._asdict() | numbers


def _claims(key: str, seed: int) -> tuple[str, list[Row]]:
    """Return a source's key and its rows, computed on one thread, because processes share the cores."""
    with loading.quiet_thread():
        source = chosen([key])[0]
        return key, [row_of(source, claim) for claim in source.claims(seed)]
