"""The seam to transformers: the range of releases, and that nothing private is known outside of it."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import transformers
from tiny import save

from arguide.text import seam

ROOT = Path(__file__).parents[3]
TEXT = ROOT / "arguide" / "text"


@pytest.mark.parametrize("version", ["5.5.0", "5.10.4", "5.24.0", "5.24.3", transformers.__version__])
def test_a_release_that_is_tested_is_taken(version):
    seam.check_release(version)


@pytest.mark.parametrize("version", ["4.57.6", "5.4.0", "5.25.0", "6.0.0", "5.24.0.dev0", "10.1"])
def test_another_release_is_refused_in_one_line_that_names_the_range(version):
    with pytest.raises(ImportError, match=rf"^transformers must be >=5\.5,<5\.25, got {re.escape(version)}; try: pip .*$"):
        seam.check_release(version)


@pytest.mark.slow
def test_a_command_says_so_in_one_line(tmp_path):
    save(tmp_path)
    # Models are imported first, because transformers makes its own module again when they are.
    code = "import sys, transformers.processing_utils\nsys.modules['transformers'].__version__ = '5.99.0'\n"
    code += f"sys.argv = ['arguide', 'generate', {str(tmp_path)!r}, '--prompt', 'a', '--max-new-tokens', '2']\n"
    code += "from analysis.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"arguide: transformers must be .*, got 5\.99\.0; try: .*\n", done.stderr)


def test_the_range_is_that_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest, beyond = (".".join(map(str, bound)) for bound in (seam.OLDEST, seam.BEYOND))
    assert f"transformers>={oldest},<{beyond}" in project["dependencies"]


def private(tree):
    """Return the private names of other objects that a module reads or overrides."""
    own = {"self", "cls"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr):
            inherited = isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "super"
            if not (inherited or (isinstance(node.value, ast.Name) and node.value.id in own)):
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("transformers"):
            yield from (name.name for name in node.names if name.name.startswith("_"))
        elif isinstance(node, ast.FunctionDef) and node.name.endswith("_for_generation"):
            yield node.name


@pytest.mark.parametrize("path", sorted(TEXT.glob("*.py")), ids=lambda path: path.stem)
def test_only_the_seam_knows_what_is_private_to_transformers(path):
    found = set(private(ast.parse(path.read_text(encoding="utf-8"))))
    if path.stem == "seam":
        assert "_prepare_cache_for_generation" in found
    else:
        assert not found
