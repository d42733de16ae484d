"""The rows of `published` as tables: for a terminal, for the report, and for the documentation."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from analysis.frames import Row
from analysis.typeset import signed

COLUMNS = ("claim", "published", "ours", "difference", "verdict", "control")
DIGITS = ".4g"


def cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a row, in the order of `COLUMNS`; a difference that is less than the rounding is 0."""
    error = f" ± {2 * row['std_error']:.1g}" if row["std_error"] else ""
    published = row["published"] if isinstance(row["published"], str) else f"{row['published']:{DIGITS}}"
    bound = published[0] in "<>"
    return (
        row["claim"],
        published,
        f"{row['ours']:z{DIGITS}}{error}",
        "–" if bound else "0" if abs(row["difference"]) <= row["rounding"] else signed(row["difference"], ".2g"),
        row["verdict"],
        f"{row['control']:z{DIGITS}} by {row['rule']}" + ("" if row["turned"] else " (does not turn it)"),
    )


def notes(rows: Sequence[Row]) -> list[str]:
    """Return the notes of the rows, each once."""
    return list(dict.fromkeys(row["note"] for row in rows if row["note"]))


def grouped(rows: Sequence[Row], column: str) -> Iterator[list[Row]]:
    """Yield the rows that share the value of a column, "source" or "where", and follow each other."""
    for _, group in groupby(rows, key=lambda row: row[column]):
        yield list(group)


def markdown(rows: Sequence[Row]) -> str:
    """Return a section per source: its title, its table, and its notes."""
    parts = []
    for group in grouped(rows, "source"):
        first = group[0]
        parts += [f"## {first['title']}", f"<{first['url']}>, read in {first['read']}. Command: `{first['command']}`."]
        for part in grouped(group, "where"):
            lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
            lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row)) + " |" for row in part]
            parts += [f"**{part[0]['where']}**", "\n".join(lines)]
        parts.append("\n".join(f"- {note}" for note in notes(group)))
    return "\n\n".join(part for part in parts if part) + "\n"
