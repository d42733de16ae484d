"""A report in a browser: nothing but tables scrolls sideways, on a desk and on a phone, and all texts can be read."""

import shutil

import pytest

from analysis import report
from analysis.experiments.base import Experiment
from analysis.figures import style
from analysis.files import run_folder
from analysis.frames import Chapter, Grid, Plot, Verdict, tidy

pytestmark = pytest.mark.slow
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZES = """() => [...document.querySelectorAll('body *')]
    .filter(each => [...each.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
    .map(each => parseFloat(getComputedStyle(each).fontSize))"""
WIDE = """() => [...document.querySelectorAll('body *')]
    .filter(each => each.getBoundingClientRect().right > innerWidth + 1 && !each.closest('.wide') && !each.closest('pre'))
    .map(each => each.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def page():
    """Return a page of a headless browser; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; pip install playwright")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser; install one of {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        yield running.new_page()
        running.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Return a report with a long conclusion, a wide table, long words and three panels."""

    def panel(frame, ax):
        ax.plot(frame["scale"], frame["value"], label="a line with a long name")
        return style.label(ax, title="A title that is much longer than one line of a panel", x="scale γ", y="value")

    story = Experiment(
        name="one",
        title="A chapter",
        claim="“claim”",
        run=lambda settings, track: None,
        verdict=lambda frame: Verdict("what decides it", ", ".join(["0.123 ± 0.004"] * 8), "It is so.\nAnd so."),
        plots=(Plot("three", (panel,) * 3, "A caption. " * 9),),
        source="tables of " + 40 * "long",
        tables=(Grid(lambda frame: ([f"column {i}" for i in range(12)], [["0.123 ± 0.004"] * 12]), "Wide."),),
    )
    folder = tmp_path_factory.mktemp("report")
    run_folder.claim(folder, {"text": 200 * "x"})
    frame = tidy([{"quantity": "q", "scale": float(i), "value": 2.0} for i in range(3)])
    return report.publish(folder, [Chapter(story, frame, False)], frame, "made by " + 99 * "y", conclusion=["So it is. " * 30])


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_but_tables_scrolls_sideways(page, path, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDE) == []
    assert min(page.evaluate(SIZES)) >= 12  # pixels, 9 points


def test_panels_keep_their_size_on_a_phone(page, path):
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto(path.as_uri())
    sizes = page.evaluate("[...document.images].map(each => [each.width, +each.getAttribute('width')])")
    assert len(sizes) == 3
    assert all(shown == meant for shown, meant in sizes)


def test_a_page_that_is_too_wide_is_found(page):
    page.set_viewport_size({"width": 390, "height": 900})
    page.set_content("<p style='width: 500px; font-size: 8px'>wide</p>")
    assert len(page.evaluate(WIDE)) == 1
    assert min(page.evaluate(SIZES)) < 12
