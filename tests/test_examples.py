"""Every public name has an example in its help, and every example prints what it says."""

import doctest
import functools
import importlib
import inspect
import pydoc
import types
from pathlib import Path

import pandas
import pytest
import torch

PACKAGES = ("arguide", "diffusion", "analysis")
ROOT = Path(__file__).parents[1]


def public():
    """Return the public names of the packages, {dotted name: object}."""
    found = {}
    for package in map(importlib.import_module, PACKAGES):
        found |= {f"{package.__name__}.{name}": getattr(package, name) for name in package.__all__}
    return {name: value for name, value in found.items() if not isinstance(value, str)}


NAMES = public()
MODULES = {name: value for name, value in NAMES.items() if isinstance(value, types.ModuleType)}
DOCSTRINGS = {
    name: test
    for name, value in NAMES.items()
    for test in doctest.DocTestFinder(recurse=False).find(value, name, module=False)
    if test.examples
}
IN_MODULES = {
    test.name: test
    for name, value in MODULES.items()
    for each, function in inspect.getmembers(value, inspect.isfunction)
    if function.__module__ == value.__name__ and function not in NAMES.values()
    for test in doctest.DocTestFinder(recurse=False).find(function, f"{name}.{each}", module=False)
    if test.examples
}


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What an example may use without importing it; its files are in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    imported = {name: importlib.import_module(name) for name in (*PACKAGES, "transformers")}
    return imported | {"torch": torch, "pandas": pandas, "functools": functools}


def failures(test, names):
    """Return the report of an example's failures, "" if it prints what it says."""
    report = []
    test.globs = names
    doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    return "".join(report)


@pytest.mark.parametrize("name", NAMES)
def test_help_has_an_example(name):
    assert ">>> " in (pydoc.render_doc(NAMES[name]) if name in MODULES else NAMES[name].__doc__)


@pytest.mark.parametrize("name", [*DOCSTRINGS, *IN_MODULES])
def test_an_example_prints_what_it_says(name, names):
    test = (DOCSTRINGS | IN_MODULES)[name]
    if "diffusers." in test.docstring:
        names["diffusers"] = pytest.importorskip("diffusers")
    assert failures(test, names) == ""


def test_a_wrong_example_is_found(names):
    wrong = doctest.DocTestParser().get_doctest(">>> arguide.guidance_weights(3.0)\n(3.0, 2.0)\n", {}, "wrong", None, 0)
    assert "Expected:\n    (3.0, 2.0)\nGot:\n    (3.0, -2.0)" in failures(wrong, names)


@pytest.mark.parametrize("name", [*DOCSTRINGS, *IN_MODULES])
def test_an_example_is_short(name):
    assert len((DOCSTRINGS | IN_MODULES)[name].examples) <= 5


@pytest.mark.parametrize("package", PACKAGES)
def test_dir_shows_the_public_face_only(package):
    module = importlib.import_module(package)
    stub = (ROOT / package / "__init__.pyi").read_text(encoding="utf-8")
    shown = dir(module)
    assert sorted(shown) == sorted(module.__all__)
    assert [name for name in shown if f" {name} as {name}" not in stub and name != "__version__"] == []
    assert [name for name in shown if name.startswith("_")] == []


def test_help_of_guided_says_what_it_gives_to_generate():
    text = pydoc.plain(pydoc.render_doc(NAMES["arguide.guided"]))
    for word in ("generate", "guidance_scale=2.0", "negative_prompt_ids=", "shares the model's parameters"):
        assert word in text
