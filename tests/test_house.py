"""The rules of the house: sizes of modules and folders, and what a public docstring must say."""

import ast
import re
import statistics
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("arguide", "diffusion", "analysis")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SCRIPTS = sorted((ROOT / "docs" / "explore").glob("*.js"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def lines_of(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def public_functions(body):
    """Yield the public functions of a module and the public methods of its public classes."""
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            if "overload" not in map(ast.unparse, node.decorator_list):
                yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)


def own_nodes(function):
    """Yield the nodes of a function without those of functions inside it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            yield node
            yield from own_nodes(node)


def missing_sections(function):
    """Return the sections that a function's docstring lacks: Args from three parameters on, Raises where it raises itself."""
    doc = ast.get_docstring(function) or ""
    arguments = function.args
    names = {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)} - {"self", "cls"}
    raises = any(isinstance(node, ast.Raise) and node.exc is not None for node in own_nodes(function))
    described = "Args:" in doc or "rguments as in `" in doc or "rguments and errors as in `" in doc
    said = "Raises:" in doc or "raise " in doc.split("\n")[0].lower()
    return [name for name, lacks in (("Args", len(names) >= 3 and not described), ("Raises", raises and not said)) if lacks]


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.stem != "checks"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_public_docstrings_have_args_and_raises(path):
    functions = public_functions(ast.parse(path.read_text(encoding="utf-8")).body)
    if path.parent.name == "cli":  # a command's docstring is its help, and every option has a help text of its own
        functions = (function for function in functions if function.name != path.stem)
    assert {function.name: missing for function in functions if (missing := missing_sections(function))} == {}


def test_a_docstring_without_args_or_raises_is_found():
    source = 'def f(a, b, c):\n    """Return a."""\n    if a:\n        raise ValueError(a)\n    return a'
    assert missing_sections(ast.parse(source).body[0]) == ["Args", "Raises"]


def test_modules_are_short():
    sizes = {path: lines_of(path) for path in MODULES}
    assert {str(path): size for path, size in sizes.items() if size > 300} == {}
    assert statistics.median(sizes.values()) <= 130


def test_scripts_of_the_page_are_short_and_can_be_joined():
    """`analysis.explore` joins them: named imports, one per module, and no name twice at the top."""
    sources = {path.name: path.read_text(encoding="utf-8") for path in SCRIPTS}
    assert len(sources) > 5
    assert {name: len(source.splitlines()) for name, source in sources.items() if len(source.splitlines()) > 300} == {}
    assert {name for name, source in sources.items() if max(map(len, source.splitlines())) > 128} == set()
    joined = re.compile(r'import \{[^}]*\} from "\./\w+\.js";')
    assert {name for name, source in sources.items() if re.search(r"^import ", joined.sub("", source), re.MULTILINE)} == set()
    top = re.compile(r"^(?:export )?(?:async )?(?:const|let|function) (\w+)", re.MULTILINE)
    names = Counter(found for source in sources.values() for found in top.findall(source))
    assert [name for name, count in names.items() if count > 1] == []


def test_test_files_are_short():
    assert {str(path): size for path in TESTS if (size := lines_of(path)) > 400} == {}


def test_folders_hold_few_modules():
    folders = {path.parent for path in MODULES}
    sizes = {folder: len({*folder.glob("*.py")} - {folder / "__main__.py"}) for folder in folders}
    assert {str(folder): size for folder, size in sizes.items() if size > 14} == {}
    assert len([folder for folder in folders if folder.parent == ROOT / "analysis"]) <= 9


def test_the_figure_of_the_architecture_names_what_exists():
    figure = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```")[1]
    top, bottom = figure.split("◂ the wings ▸")
    folders = {path.name for path in (ROOT / "analysis").iterdir() if (path / "__init__.py").is_file()}
    assert folders <= {line.split()[0] for line in top.splitlines() if line.startswith("   ")}
    for row in bottom.splitlines():
        if row.startswith("   ") and len(row.split()) > 3 and row[3] != " ":
            for wing, name in (("diffusion", row[3:].split()[0]), ("arguide", row[49:].split()[0])):
                assert (ROOT / wing / name).is_dir() or (ROOT / wing / f"{name}.py").is_file(), (wing, name)


def test_the_tests_that_the_makefile_names_exist():
    named = re.findall(r"\btests/[\w/.]+", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert len(named) >= 6
    assert [name for name in named if not (ROOT / name).exists()] == []
