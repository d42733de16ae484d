"""The documentation site: every public name has an entry, and the site builds without a warning, a network or a dead link."""

import importlib
import inspect
import re
import shutil
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GENERATED = ("_build", "api", "pictures", "notebooks", "__pycache__")
SUBPACKAGES = ("arguide.continuous", "diffusion.coherent", "diffusion.discrete", "diffusion.networks")
PACKAGES = ("arguide", "diffusion", "analysis", *SUBPACKAGES)


@pytest.fixture
def extensions(monkeypatch):
    """The folder of Sphinx extensions on the path."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")


def names_of(package, name):
    """Return the full names under which a public name of a package may have its entry."""
    value = getattr(importlib.import_module(package), name)
    if inspect.ismodule(value):
        return {value.__name__}
    if not inspect.isclass(value) and not inspect.isfunction(value):
        return {f"{package}.{each}.{name}" for each in vars(importlib.import_module(package))}
    parts = value.__module__.split(".")
    return {f"{'.'.join(parts[:count])}.{value.__name__}" for count in range(1, len(parts) + 1)}


def without_entry(entries):
    """Return the public names that have no entry."""
    public = [(package, name) for package in PACKAGES for name in importlib.import_module(package).__all__]
    assert len(public) > 100
    return [f"{package}.{name}" for package, name in public if not names_of(package, name) & entries]


@pytest.mark.usefixtures("extensions")
def test_every_public_name_has_one_entry():
    pages = importlib.import_module("api_pages")
    entries = re.findall(r"auto(?:module|class|function|data):: (\S+)", "".join(map(pages.page, pages.PAGES)))
    assert len(set(entries)) == len(entries)
    assert without_entry(set(entries)) == []
    assert without_entry(set(entries) - {"arguide.guide", "diffusion.noise"}) == ["arguide.guide", "diffusion.noise"]


@pytest.mark.usefixtures("extensions")
def test_docstrings_become_restructured_text():
    translate = importlib.import_module("docstrings").escaped
    lines = ["p(x|y):", "", "    a | b", "", "p|q"]
    assert translate(lines) == [r"p(x\|y):", "", "::", "", "    a | b", "", r"p\|q"]
    assert translate(["Args:", "    x: |x|."]) == ["Args:", r"    x: \|x\|."]


@pytest.mark.usefixtures("extensions")
def test_fields_of_a_named_tuple_are_attributes():
    described = importlib.import_module("docstrings").with_attributes
    lines = ["A pair.", "", "x, y: numbers,", "    both positive.", "", "More."]
    assert described(lines, ("x", "y")) == [
        "A pair.",
        "",
        "Attributes:",
        "    x/y: numbers,",
        "        both positive.",
        "",
        "More.",
    ]
    assert described(lines, ()) == lines


class Links(HTMLParser):
    """The addresses that a page refers to; `loaded` are those that the browser fetches by itself."""

    def __init__(self, page):
        super().__init__()
        self.links, self.loaded = [], []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.links += [found[key] for key in ("href", "src") if found.get(key)]
        self.loaded += [found["src"]] if found.get("src") else []
        self.loaded += [found["href"]] if tag == "link" and found.get("rel") == "stylesheet" else []


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site, built from copies of the pages."""
    home = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", home / "docs", ignore=shutil.ignore_patterns(*GENERATED))
    (home / "docs" / "explore").mkdir(exist_ok=True)
    (home / "docs" / "explore" / "index.html").touch()
    for name in ("notebooks", "benchmarks"):
        (home / name).symlink_to(ROOT / name)
    command = ["-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "docs", "html"]
    done = subprocess.run([sys.executable, *command], cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return home / "html"


@pytest.mark.slow
def test_the_inventory_has_every_public_name(site):
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    names = {line.split()[0] for line in zlib.decompress(packed).decode().splitlines()}
    assert without_entry(names) == []


@pytest.mark.slow
def test_pages_load_nothing_from_the_network(site):
    assert [(page.name, link) for page in site.rglob("*.html") for link in Links(page).loaded if "//" in link] == []


@pytest.mark.slow
def test_links_of_the_built_pages_lead_somewhere(site):
    pages = [page for page in site.rglob("*.html") if "explore" not in page.parts]
    local = {
        (page, re.split("[#?]", link)[0]) for page in pages for link in Links(page).links if not re.match(r"[a-z]+:|#|//", link)
    }
    dead = [(page.name, link) for page, link in local if link and not (page.parent / link).exists()]
    assert dead == []
    assert "explore/index.html" in {link for page, link in local if page.name == "index.html"}


@pytest.mark.slow
def test_a_broken_page_fails(tmp_path):
    (tmp_path / "conf.py").write_text("extensions = ['myst_nb']\n")
    (tmp_path / "index.md").write_text("# Title\n\n[nothing](nowhere.md)\n")
    command = ["-m", "sphinx", "-b", "html", "-W", "-q", ".", "html"]
    assert subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True).returncode != 0
