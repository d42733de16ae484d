"""The chapter of the report on published numbers, which reads the rows that the package holds."""

from collections.abc import Callable

import pandas as pd

from analysis.experiments.base import Experiment, Settings
from analysis.experiments.published.claims import DIFFERS
from analysis.experiments.published.run import COMMAND, kinds, stored, summary
from analysis.experiments.published.table import COLUMNS, cells, grouped, notes, placed, plain
from analysis.figures.published import masked_density
from analysis.frames import Cells, Grid, Plot, Row, Track, Verdict

UNSHOWN = ("source", "url", "read", "command")
PEERS = ("transformers", "diffusers")


def run(_settings: Settings, _track: Track) -> pd.DataFrame:
    """Return the stored rows; the published numbers are texts, as bounds are."""
    rows = [
        {"law": row["source"], "family": row["where"], "quantity": row["claim"], "value": row["ours"]}
        | {name: value for name, value in row.items() if name not in UNSHOWN}
        | {"published": plain(row)}
        for row in stored()
    ]
    return pd.DataFrame(rows)


def verdict(frame: pd.DataFrame) -> Verdict:
    """Return how many claims have which verdict, and how many differ of papers and of packages."""
    rows = _rows(frame)
    papers, peers = ([row for row in rows if (row["law"] in PEERS) == of_peers] for of_peers in (False, True))
    wrong, apart = (sum(row["verdict"] == DIFFERS for row in some) for some in (peers, papers))
    return Verdict(
        f"claims of {frame['law'].nunique()} sources, computed again",
        summary(rows),
        f"{kinds(rows)}. {apart} of {len(papers)} claims of papers differ; {wrong} of {len(peers)} uses of packages return "
        f"another law than their formula, or raise an error. The command is {COMMAND}.",
    )


def _apart(frame: pd.DataFrame) -> Cells:
    """Return the table of the claims that differ."""
    rows = [row for row in _rows(frame) if row["verdict"] == DIFFERS]
    return ["source", "place", *COLUMNS[:3]], [[row["title"].split(",")[0], row["where"], *cells(row)[:3]] for row in rows]


def _of(title: str) -> Callable[[pd.DataFrame], Cells]:
    """Return the table of a source."""

    def table(frame: pd.DataFrame) -> Cells:
        return ["place", *COLUMNS], placed(_rows(frame[frame["title"] == title]))

    return table


def _rows(frame: pd.DataFrame) -> list[Row]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _grids() -> tuple[Grid, ...]:
    apart = Grid(_apart, "What differs: the number in print, and the one found here.", wide=True)
    titled = {rows[0]["title"]: rows for rows in grouped(stored(), "source")}
    return (apart, *(Grid(_of(title), f"{title}. {' '.join(notes(rows))}", wide=True) for title, rows in titled.items()))


EXPERIMENT = Experiment(
    name="published",
    title="Published numbers, computed again",
    by="Papers and their notes",
    claim="numbers, formulas and statements about guidance and temperature, each beside a number found here by another way.",
    run=run,
    verdict=verdict,
    source="Gaussians, mixtures and small tables, as each source has them",
    tables=_grids(),
    plots=(
        Plot(
            "published_masked",
            (masked_density.one, masked_density.two),
            "Masked diffusion under guidance, on two classes that share only the value 2: density of an x by how many of its "
            "values are shared. Points: in print, with intervals of 25,000 draws. Bars: exact. Dashes: the "
            "joint tilt, which guidance does not reach.",
        ),
    ),
)
