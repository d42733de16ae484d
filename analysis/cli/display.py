"""Print results on a terminal: tables, progress bars, completions, and JSON.

One completion is printed alone, several in blocks, and several scales side by side if the terminal is wide enough.
"""

import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from tqdm import tqdm

from analysis.metrics.gap_estimates import Measurement
from analysis.text.measured_texts import Target, quantiles
from analysis.typeset import signed

if TYPE_CHECKING:
    from analysis.frames import Chapter  # imports matplotlib, which completions do without

Record = Mapping[str, Any]
LEAST = 24  # characters; text in a narrower column is hard to read


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of plain texts.

    Args:
        title: the line above the table.
        columns: the names of the columns.
        rows: the cells, [rows][columns].
    """
    shown = Table(*columns)
    for row in rows:
        shown.add_row(*map(Text, row))
    print(title)
    Console().print(shown)


def dump(record: Any, *, nan: bool = True) -> None:
    """Print JSON.

    Args:
        record: what to print.
        nan: whether NaN and ±∞ are printed, which are not JSON, or refused.

    Raises:
        ValueError: NaN or ±∞ where they are refused.
    """
    print(as_json(record, nan=nan))


def as_json(record: Any, *, nan: bool = True) -> str:
    """Return a record as JSON; arguments and errors as in `dump`."""
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=nan)


def shard(part: tuple[int, int], left: str, *, as_json: bool) -> None:
    """Print that a shard has finished, and the unfinished tasks of the others.

    Args:
        part: (i, n) of the shard.
        left: the tasks that are left, "" for none.
        as_json: whether to print JSON.
    """
    name = f"{part[0]}/{part[1]}"
    if as_json:
        dump({"shard": name, "left": left or None})
    elif left:
        print(f"Shard {name} is finished; {left} are left to other shards. When they have ended, run all shards again.")
    else:
        print(f"Shard {name} is finished, and all others are; the same command without --shard writes the results.")


def report(title: str, page: Path, done: Sequence["Chapter"], found: Sequence[str], *, as_json: bool) -> None:
    """Print what was found, where a report is, and the numbers of its chapters.

    Args:
        title: the line above the numbers.
        page: the file of the report.
        done: its chapters.
        found: the sentences of its conclusion.
        as_json: whether to print JSON in place of a table.
    """
    from analysis.frames import headline

    if as_json:
        dump({"report": str(page), "conclusion": list(found)} | headline(done))
        return
    for sentence in found:
        print(textwrap.fill(sentence, 100) + "\n")
    chapters(title, done)
    print(f"The report is {page}")


def chapters(title: str, done: Sequence["Chapter"]) -> None:
    """Print the number of every chapter, and their tables; for a quick run its banner in place of the tables."""
    from analysis.frames import BANNER

    if any(chapter.quick for chapter in done):
        Console().print(Text(BANNER, style="bold"))
    rows = [(each.experiment.title, each.verdict.measure, each.verdict.number) for each in done]
    table(title, ("chapter", "measure", "number"), rows)
    for each in done:
        for grid in () if each.quick else (grid for grid in each.experiment.tables if not grid.wide):
            table(f"\n{each.experiment.title}", *grid.filled(each.frame))
            print(textwrap.fill(grid.caption, 100))


def bar(title: str) -> Any:
    """Return a progress bar on stderr for any iterable."""
    return partial(tqdm, desc=f"{title[:44]:44}", ncols=100, file=sys.stderr)


def show(records: Sequence[Record]) -> None:
    """Print completions; above each of several the prompt, sample and scale that differ among them."""
    for i, (record, title) in enumerate(zip(records, _titles(records, "index", "sample", "scale"), strict=True)):
        _print_title("\n" + title if i and title else title)
        print(record["completion"].strip())


def compare(records: Sequence[Record]) -> None:
    """Print completions with one column per scale and one row per sample; in blocks if the terminal is narrow.

    Args:
        records: the completions, sorted by prompt, then by scale.
    """
    console = Console(highlight=False)
    scales = list(dict.fromkeys(record["scale"] for record in records))
    if console.width < (LEAST + 3) * len(scales) + 1:
        show(sorted(records, key=lambda record: (record["index"], record["sample"])))
        return
    prompts = [list(group) for _, group in groupby(records, key=lambda record: record["index"])]
    for group, title in zip(prompts, _titles([group[0] for group in prompts], "index"), strict=True):
        _print_title(title)
        shown = Table(*(Column(f"γ = {scale:g}", ratio=1) for scale in scales), show_lines=True, expand=True)
        for sample in dict.fromkeys(record["sample"] for record in group):
            shown.add_row(*(Text(record["completion"].strip()) for record in group if record["sample"] == sample))
        console.print(shown)


def verdicts(records: Sequence[Record]) -> list[str]:
    """Return the verdict on every joint law, one line per prompt and scale."""
    laws = list({(record["index"], record["scale"]): record for record in records if "verdict" in record}.values())
    titles = _titles(laws, "index", "scale")
    return [": ".join(filter(None, (title, record["verdict"]))) for record, title in zip(laws, titles, strict=True)]


def _titles(records: Sequence[Record], *keys: str) -> list[str]:
    """Return a title per record: those of its prompt, sample and scale whose key is given and varies; "" if none does."""
    varying = [key for key in keys if len({record[key] for record in records}) > 1]
    form = {
        "index": lambda r: f"prompt {r['index'] + 1}: {textwrap.shorten(r['prompt'], 60, placeholder=' …') or '(empty)'}",
        "sample": lambda r: f"sample {r['sample'] + 1}",
        "scale": lambda r: f"γ = {r['scale']:g}",
    }
    return [" · ".join(form[key](record) for key in varying) for record in records]


def _print_title(title: str) -> None:
    if title:
        Console(highlight=False).print(Text(title, style="bold"), soft_wrap=True)


def factors(target: Target, measured: Measurement) -> None:
    """Print the measurement of a target, and the texts whose two factors differ most."""
    found, whole, ratio = measured.diagnosis, measured.lengths.iloc[-1], quantiles(measured.sequences)
    rows = [
        ("base law of the factors", target.base),
        ("log Z ± standard error", f"{found.log_evidence:.4g} ± {found.std_error:.2g}"),
        ("KL(sequential ‖ joint), 95 %", f"{whole['kl']:.4g} [{whole['kl_low']:.4g}, {whole['kl_high']:.4g}]"),
        ("the same per token", f"{whole['kl_per_token']:.3g}"),
        ("effective sample size for the joint law", f"{whole['ess']:.1f}, {whole['ess_share']:.1%}"),
        ("log p(x|y)/p(x), min/5/50/95 %/max", " / ".join(f"{value:.1f}" for value in ratio.values())),
        ("the estimate", found.verdict),
    ]
    law = f"γ = {target.scale:g}, τ = {target.tau:g}, T = {target.max_new_tokens}"
    table(f"{target.prompt!r}, {law} (nats)", ("quantity", "value"), rows)
    table("Where the two factors differ most", ("log s ± 95 %", "log s′", "difference", "text"), extremes(measured.sequences))


def extremes(sequences: pd.DataFrame, n: int = 10) -> list[tuple[str, ...]]:
    """Return rows of log s, log s′, log s − log s′ and text, for the n texts with the largest differences."""
    gap = sequences["log_s"] - sequences["log_s_prime"]
    rows: list[tuple[str, ...]] = []
    for i in gap.abs().sort_values(ascending=False, kind="stable").index[:n]:
        row = sequences.loc[i]
        half = (row["log_s_high"] - row["log_s_low"]) / 2
        numbers = (f"{row['log_s']:z.2f} ± {half:.2f}", f"{row['log_s_prime']:z.2f}", signed(gap[i], ".2f"))
        rows.append((*numbers, " ".join(row["text"].split())))
    return rows
