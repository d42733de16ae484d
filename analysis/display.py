"""Completions on a terminal: one alone as it is, several in blocks, scales side by side where there is room."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

Record = Mapping[str, Any]
LEAST = 24  # characters of a column in which text can still be read


def show(records: Sequence[Record]) -> None:
    """Print completions, each below a line that says what tells it from the others."""
    console = Console(highlight=False)
    varies = {key: len({record[key] for record in records}) > 1 for key in ("index", "sample", "scale")}
    for i, record in enumerate(records):
        if any(varies.values()):
            console.print(Text(("\n" if i else "") + _title(record, varies), style="bold"), soft_wrap=True)
        print(record["completion"].strip())


def compare(records: Sequence[Record]) -> None:
    """Print completions with one column a scale and one row a sample; in blocks if the terminal is narrow.

    Args:
        records: of one prompt after another, and there of one scale after another.
    """
    console = Console(highlight=False)
    scales = list(dict.fromkeys(record["scale"] for record in records))
    if console.width < (LEAST + 3) * len(scales) + 1:
        show(sorted(records, key=lambda record: (record["index"], record["sample"])))
        return
    prompts = [list(group) for _, group in groupby(records, key=lambda record: record["index"])]
    for group in prompts:
        if len(prompts) > 1:
            console.print(Text(_title(group[0], {"index": True}), style="bold"), soft_wrap=True)
        table = Table(*(Column(f"γ = {scale:g}", ratio=1) for scale in scales), show_lines=True, expand=True)
        for sample in dict.fromkeys(record["sample"] for record in group):
            table.add_row(*(Text(record["completion"].strip()) for record in group if record["sample"] == sample))
        console.print(table)


def verdicts(records: Sequence[Record]) -> list[str]:
    """Return what is told of every joint law, one line a prompt and scale."""
    told = {(record["index"], record["scale"]): record for record in records if "verdict" in record}
    varies = {key: len({record[key] for record in told.values()}) > 1 for key in ("index", "scale")}
    return [": ".join(filter(None, (_title(record, varies), record["verdict"]))) for record in told.values()]


def _title(record: Record, varies: Mapping[str, bool]) -> str:
    """Return what differs between records: the prompt, the sample, the scale."""
    prompt = textwrap.shorten(record["prompt"], 60, placeholder=" …") or "(empty)"
    parts = {
        "index": f"prompt {record['index'] + 1}: {prompt}",
        "sample": f"sample {record['sample'] + 1}",
        "scale": f"γ = {record['scale']:g}",
    }
    return " · ".join(part for key, part in parts.items() if varies.get(key))
