"""The page of published numbers is that of the stored rows, and the chapter of the report shows them."""

import published_page

from analysis.experiments.base import Settings
from analysis.experiments.published.chapter import EXPERIMENT
from analysis.experiments.published.run import stored, summary


def test_the_page_is_that_of_the_stored_rows():
    assert published_page.PAGE.read_text(encoding="utf-8") == published_page.page(stored())
    changed = [row | {"verdict": "differs"} for row in stored()]
    assert published_page.PAGE.read_text(encoding="utf-8") != published_page.page(changed)


def test_the_chapter_names_what_differs():
    frame = EXPERIMENT.run(Settings(), lambda items: items)
    verdict = EXPERIMENT.verdict(frame)
    assert verdict.number == summary(stored())
    assert "7 of 98 claims of papers differ; 17 of 23 uses of packages" in verdict.verdict
    first, *tables = (grid.filled(frame)[1] for grid in EXPERIMENT.tables)
    assert sum(map(len, tables)) == len(stored())
    assert ["Karan and Du", "example 1, α = 2", "sum of the four probabilities", "1.00", "0.9"] in first
    assert len(first) == 24
