"""The rows of `published` as tables: for a terminal, for the report, and for the documentation."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from analysis.frames import Row
from analysis.typeset import signed

COLUMNS = ("claim", "published", "ours", "difference", "verdict", "control")
DIGITS = ".4g"


def cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a row, in the order of `COLUMNS`."""
    error = f" ± {2 * row['std_error']:.1g}" if row["std_error"] else ""
    published = row["published"] if isinstance(row["published"], str) else f"{row['published']:{DIGITS}}"
    bound = published[0] in "<>"
    return (
        f"{row['where']}: {row['claim']}",
        published,
        f"{row['ours']:z{DIGITS}}{error}",
        "–" if bound else signed(row["difference"], ".2g"),
        row["verdict"],
        f"{row['control']:z{DIGITS}} by {row['rule']}" + ("" if row["turned"] else " (does not turn it)"),
    )


def notes(rows: Sequence[Row]) -> list[str]:
    """Return the notes of the rows, each once."""
    return list(dict.fromkeys(row["note"] for row in rows if row["note"]))


def by_source(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield the rows of every source."""
    for _, group in groupby(rows, key=lambda row: row["source"]):
        yield list(group)


def markdown(rows: Sequence[Row]) -> str:
    """Return a section per source: its title, its table, and its notes."""
    parts = []
    for group in by_source(rows):
        first = group[0]
        lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row)) + " |" for row in group]
        about = f"[{first['url']}]({first['url']}); printed numbers from {first['read']}. `{first['command']}`"
        parts += [f"## {first['title']}", about, "\n".join(lines), "\n".join(f"- {note}" for note in notes(group))]
    return "\n\n".join(part for part in parts if part) + "\n"
