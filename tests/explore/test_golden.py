"""The numbers of the page: files of the package's, which are made again here, and what node computes from the modules."""

import json
import math
import re
import shutil
import subprocess

import explore_golden
import pytest

from analysis import explore

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(
    NODE is None, reason="needs node 20 (apt-get install nodejs); the slow browser tests compare too"
)


def same(found, expected):
    """Whether two contents of a golden file agree to 1e-9."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, float) and isinstance(found, float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)
    return found == expected


@pytest.mark.parametrize("name", explore_golden.GOLDEN)
def test_golden_numbers_are_those_of_the_package(name):
    kept = json.loads((explore_golden.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert same(json.loads(json.dumps(explore_golden.GOLDEN[name]())), kept), "python tests/support/explore_golden.py"


def test_a_number_that_differs_is_found():
    assert not same({"a": [1.0, 2.0]}, {"a": [1.0, 2.0 + 1e-7]})
    assert not same({"a": None}, {"a": 1.0})


def test_closed_forms_agree_with_the_moment_equations():
    for closed, integrated in explore_golden.check_moments():
        assert closed == pytest.approx(integrated, rel=1e-7)


@needs_node
def test_the_page_computes_the_golden_numbers():
    done = subprocess.run([NODE, "--test", explore_golden.FOLDER.parent], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"^# pass (\d+)", done.stdout, re.MULTILINE)[1]) > 70


@needs_node
def test_the_joined_script_is_valid(tmp_path):
    (tmp_path / "joined.mjs").write_text(explore.script_of(explore.folder()), encoding="utf-8")
    done = subprocess.run([NODE, "--check", tmp_path / "joined.mjs"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
