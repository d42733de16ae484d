"""The rows of `published` as tables: for a terminal, for the report, and for the documentation."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from analysis.experiments.published.claims import DIFFERS, PRINTED, REPRODUCED, UNDECIDED, WORDS
from analysis.frames import Row
from analysis.typeset import signed

COLUMNS = ("claim", "published", "ours", "difference", "verdict", "control")
DIGITS = ".4g"
LEAST = 1e-9  # smaller numbers are shown as 0


def cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a row, in the order of `COLUMNS`; a difference that is less than the rounding is 0."""
    error = f" ± {row['half']:.1g}" if row["half"] else ""
    published, bound = plain(row), row["kind"] == WORDS
    return (
        row["claim"],
        published if row["kind"] == PRINTED else f"{published} ({row['kind']})",
        f"{_number(row['ours'])}{error}",
        "–" if bound else "0" if abs(row["difference"]) <= row["rounding"] else signed(row["difference"], ".2g"),
        row["verdict"],
        f"{_number(row['control'])} by {row['rule']}" + ("" if row["turned"] else " (does not turn it)"),
    )


def plain(row: Row) -> str:
    """Return what the source has in print, as a number or a bound."""
    return row["published"] if isinstance(row["published"], str) else _number(row["published"])


def notes(rows: Sequence[Row]) -> list[str]:
    """Return the notes of the rows, each once."""
    return list(dict.fromkeys(row["note"] for row in rows if row["note"]))


def grouped(rows: Sequence[Row], column: str) -> Iterator[list[Row]]:
    """Yield the rows that share the value of a column, "source" or "where", and follow each other."""
    for _, group in groupby(rows, key=lambda row: row[column]):
        yield list(group)


def placed(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the cells of rows after their place, which is named once where several rows follow each other."""
    parts = grouped(rows, "where")
    return [(row["where"] if i == 0 else "", *cells(row)) for part in parts for i, row in enumerate(part)]


def counts(rows: Sequence[Row]) -> str:
    """Return a table of the verdicts per source, in Markdown."""
    verdicts = (REPRODUCED, DIFFERS, UNDECIDED)
    lines = ["| source | " + " | ".join(verdicts) + " |", "|---|" + "---|" * len(verdicts)]
    for group in grouped(rows, "source"):
        found = [sum(row["verdict"] == verdict for row in group) for verdict in verdicts]
        lines.append(f"| {group[0]['title']} | " + " | ".join(map(str, found)) + " |")
    return "\n".join(lines)


def markdown(rows: Sequence[Row]) -> str:
    """Return a section per source: its title, its table, and its notes."""
    parts = []
    for group in grouped(rows, "source"):
        first, columns = group[0], ("place", *COLUMNS)
        lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in placed(group)]
        about = f"<{first['url']}>, read in {first['read']}. Command: `{first['command']}`."
        parts += [f"## {first['title']}", about, "\n".join(lines), "\n".join(f"- {note}" for note in notes(group))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _number(value: float) -> str:
    return f"{0.0 if abs(value) < LEAST else value:z{DIGITS}}"
