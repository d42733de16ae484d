"""What people see on a terminal: tables, progress bars, and completions.

A completion alone is printed as it is, several in blocks, scales side by side where there is room.
"""

import sys
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from tqdm import tqdm

from analysis.metrics.gap_estimates import Measurement
from analysis.text.measured_texts import Target

if TYPE_CHECKING:
    from analysis.frames import Chapter  # imports matplotlib, which completions do without

Record = Mapping[str, Any]
LEAST = 24  # characters of a column in which text can still be read


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; cells are plain text, whatever they hold."""
    shown = Table(*columns)
    for row in rows:
        shown.add_row(*map(Text, row))
    print(title)
    Console().print(shown)


def chapters(title: str, done: Sequence["Chapter"]) -> None:
    """Print the number of every chapter; those of a quick run below its banner."""
    from analysis.frames import BANNER

    if any(chapter.quick for chapter in done):
        Console().print(Text(BANNER, style="bold"))
    rows = [(each.experiment.title, each.verdict.measure, each.verdict.number) for each in done]
    table(title, ("chapter", "what decides it", "number"), rows)


def bar(title: str) -> Any:
    """Return a progress bar on stderr for any iterable."""
    return partial(tqdm, desc=f"{title[:44]:44}", ncols=100, file=sys.stderr)


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
        shown = Table(*(Column(f"γ = {scale:g}", ratio=1) for scale in scales), show_lines=True, expand=True)
        for sample in dict.fromkeys(record["sample"] for record in group):
            shown.add_row(*(Text(record["completion"].strip()) for record in group if record["sample"] == sample))
        console.print(shown)


def verdicts(records: Sequence[Record]) -> list[str]:
    """Return what is told of every joint law, one line a prompt and scale."""
    told = {(record["index"], record["scale"]): record for record in records if "verdict" in record}
    varies = {key: len({record[key] for record in told.values()}) > 1 for key in ("index", "scale")}
    return [": ".join(filter(None, (_title(record, varies), record["verdict"]))) for record in told.values()]


def factors(target: Target, measured: Measurement) -> None:
    """Print what was measured of a target, and the texts whose factors differ most."""
    found, whole = measured.diagnosis, measured.lengths.iloc[-1]
    rows = [
        ("base law of the factors", target.base),
        ("log Z ± standard error", f"{found.log_evidence:.4g} ± {found.std_error:.2g}"),
        ("KL(sequential ‖ joint), 95 %", f"{whole['kl']:.4g} [{whole['kl_low']:.4g}, {whole['kl_high']:.4g}]"),
        ("the same a token", f"{whole['kl_per_token']:.3g}"),
        ("sequential samples that count jointly", f"{whole['ess']:.1f}, {whole['ess_share']:.1%}"),
        ("the estimate", found.verdict),
    ]
    law = f"γ = {target.scale:g}, τ = {target.tau:g}, T = {target.max_new_tokens}"
    table(f"{target.prompt!r}, {law} (nats)", ("quantity", "value"), rows)
    table("Where the two factors differ most", ("log s ± 95 %", "log s′", "difference", "text"), extremes(measured.sequences))


def extremes(sequences: pd.DataFrame, n: int = 10) -> list[tuple[str, ...]]:
    """Return rows of log s, log s′, their difference and text for the n texts whose factors differ most."""
    gap = sequences["log_s"] - sequences["log_s_prime"]
    rows: list[tuple[str, ...]] = []
    for i in gap.abs().sort_values(ascending=False, kind="stable").index[:n]:
        row = sequences.loc[i]
        half = (row["log_s_high"] - row["log_s_low"]) / 2
        numbers = (f"{row['log_s']:.2f} ± {half:.2f}", f"{row['log_s_prime']:.2f}", f"{gap[i]:+.2f}")
        rows.append((*numbers, " ".join(row["text"].split())))
    return rows


def _title(record: Record, varies: Mapping[str, bool]) -> str:
    """Return what differs between records: the prompt, the sample, the scale."""
    prompt = textwrap.shorten(record["prompt"], 60, placeholder=" …") or "(empty)"
    parts = {
        "index": f"prompt {record['index'] + 1}: {prompt}",
        "sample": f"sample {record['sample'] + 1}",
        "scale": f"γ = {record['scale']:g}",
    }
    return " · ".join(part for key, part in parts.items() if varies.get(key))
