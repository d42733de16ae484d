"""The page as one file: everything is inside, in the order of the imports, and nothing in a user's file ends a script."""

import json
import re
import shutil
from pathlib import Path

import pytest

from analysis import explore
from analysis.text import explored_texts

PLACE = Path(explore.folder())
MODULES = sorted(PLACE.glob("*.js"))
ROOT = Path(__file__).parents[2]


def test_the_page_needs_no_other_file():
    page = explore.page()
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == ["data:,"]
    assert not re.findall(r"https?://(?!localhost:8000|www\.w3\.org/2000/svg)", page)
    assert not re.findall(r"^(?:import|export) ", page, re.MULTILINE)


def test_every_module_is_in_the_page_once_and_after_its_imports():
    script = explore.script_of(PLACE)
    starts = {path.name: script.find(path.read_text(encoding="utf-8").splitlines()[0]) for path in MODULES}
    assert -1 not in starts.values()
    for path in MODULES:
        assert script.count(path.read_text(encoding="utf-8").splitlines()[0]) == 1
        for imported in explore.IMPORT.findall(path.read_text(encoding="utf-8")):
            assert starts[imported] < starts[path.name]


def test_an_example_cannot_end_its_script(tmp_path, monkeypatch):
    shutil.copytree(PLACE, tmp_path / "page")
    (tmp_path / "page" / "example.json").write_text(json.dumps({"prompt": "</script><b>"}), encoding="utf-8")
    monkeypatch.setattr(explore, "folder", lambda: tmp_path / "page")
    page = explore.page()
    inside = re.search(r'<script type="application/json" id="example">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(inside) == {"prompt": "</script><b>"}


def test_an_installed_package_has_its_own_copy(tmp_path, monkeypatch):
    assert explore.folder() == ROOT / "docs" / "explore"
    monkeypatch.setattr(explore, "__file__", str(tmp_path / "analysis" / "explore.py"))
    assert explore.folder() == tmp_path / "docs" / "explore"
    (tmp_path / "analysis" / "explore_page").mkdir(parents=True)
    assert explore.folder() == tmp_path / "analysis" / "explore_page"
    assert '"docs/explore" = "analysis/explore_page"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_page_is_written_whole_and_is_small(tmp_path):
    path = explore.write(tmp_path)
    assert path == tmp_path / "explore.html"
    assert path.read_text(encoding="utf-8") == explore.page()
    assert path.stat().st_size < 150_000
    with pytest.raises(ValueError, match="cannot write"):
        explore.write(tmp_path / "none")


def test_the_bundled_example_is_of_this_version():
    example = json.loads((PLACE / "example.json").read_text(encoding="utf-8"))
    assert (example["format"], example["version"]) == (explored_texts.FORMAT, explored_texts.VERSION)
    source = (PLACE / "text.js").read_text(encoding="utf-8")
    assert f'export const FORMAT = "{explored_texts.FORMAT}";' in source
    assert f"export const VERSION = {explored_texts.VERSION};" in source
    assert {text["law"] for text in example["texts"]} == {"sequential", "joint"}


def test_the_page_has_the_colours_of_the_figures():
    from analysis.figures import style

    css = (PLACE / "style.css").read_text(encoding="utf-8").split("@media")[0]
    names = {
        "joint": "joint",
        "sequential": "sequential",
        "ode": "diffusion ODE",
        "sde": "diffusion SDE",
        "cond": "conditional",
    }
    for name, family in names.items():
        assert f"--{name}: {style.look(family)[0].lower()};" in css
