"""Compute the published numbers again, and write what the package and the documentation hold of them.

Run `python -m published_page` with `tests/support` on the path.
"""

from pathlib import Path

from analysis.cli.display import as_json, bar
from analysis.engines import Engine
from analysis.experiments.published import SOURCES
from analysis.experiments.published.run import STORED, kinds, rows, stored, summary
from analysis.experiments.published.table import counts, markdown

ROOT = Path(__file__).parents[2]
DATA = ROOT / "analysis" / "experiments" / "published" / STORED
PAGE = ROOT / "docs" / "published.md"
MARK = "<!-- the rest is written by tests/support/published_page.py -->\n"


def page(found):
    """Return the page: its opening as it is, and the tables of these rows."""
    opening = PAGE.read_text(encoding="utf-8").split(MARK)[0]
    return f"{opening}{MARK}\n{kinds(found)}: {summary(found)}.\n\n{counts(found)}\n\n{markdown(found)}"


if __name__ == "__main__":
    DATA.write_text(as_json(rows(SOURCES, 0, bar("Sources"), Engine("processes", 2))) + "\n", encoding="utf-8")
    PAGE.write_text(page(stored()), encoding="utf-8")
