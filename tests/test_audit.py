"""The mutation audit, on a made package of two functions of which one is tested."""

import ast
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from audit import __main__ as audit
from audit import mutants, runs

MODULE = '''"""A module; 1 + 1 here is text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal

LIMIT: int = 3


def count(n: int) -> int:
    """Return 0; 1 < 2 here is text."""
    while n > 0:
        n -= 1
    return n


def triple(a):
    if a < 0:
        raise ValueError(f"a must be at least 0, got {a + 0}")
    return 2 * a + a
'''
TRIPLE = """import pytest
from rule import triple

def test_triple():
    assert triple(3) == 9
    assert triple(0) == 0
    with pytest.raises(ValueError):
        triple(-1)
"""
COUNT = """from rule import count

def test_count():
    assert count(3) == 0
    assert count(-1) == -1
"""
SLEEP = """import os, time

def test_sleep():
    with open("part", "w") as file:
        file.write(str(os.getpid()))
    os.rename("part", "begun")
    time.sleep(99)
"""


CHILD = """import subprocess, sys

def test_child():
    subprocess.run([sys.executable, "-c", "import rule; rule.count(3)"], check=True)

def test_none():
    pass
"""


@pytest.fixture
def made(tmp_path, monkeypatch):
    (tmp_path / "tests").mkdir()
    (tmp_path / "rule.py").write_text(MODULE)
    (tmp_path / "tests" / "test_triple.py").write_text(TRIPLE)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "ENDLESS", (2, 3.0))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # which starts sooner
    return tmp_path


def run(*options):
    """Return the exit code and the verdicts of an audit of all mutants, {(before, after): verdict}."""
    code = audit.main(["--modules", "rule.py", "--per-module", "100", "--equivalent", "same.toml", *options])
    return code, {(line["before"], line["after"]): line["verdict"] for line in lines()}


def lines():
    return runs.read_lines(audit.Path(".audit/mutants.jsonl"))


def survivors(found):
    return {mutant for mutant, verdict in found.items() if verdict == "survived"}


def entry(line):
    fields = (f"{name} = {json.dumps(line[name])}" for name in ("module", "function", "before", "after"))
    return "\n".join(["[[mutant]]", *fields, 'reason = "none"', ""])


@pytest.mark.slow
def test_survivors_are_what_no_test_sees_and_no_list_excuses(made, capsys):
    code, found = run("--seed", "1")
    assert code == 1
    assert len(survivors(found)) == 3
    assert {line["verdict"] for line in lines() if line["function"] == "triple"} == {"caught"}
    assert f"caught {len(found) - len(survivors(found))} of {len(found)}" in capsys.readouterr().out
    assert (made / "rule.py").read_text() == MODULE
    (made / "same.toml").write_text("".join(entry(line) for line in lines() if line["verdict"] == "survived"))
    assert run("--seed", "1")[0] == 0
    assert "caught 3 of 3" in capsys.readouterr().out


@pytest.mark.slow
def test_a_new_test_that_passes_catches_survivors_and_the_clock_what_does_not_end(made, capsys):
    (made / "tests" / "test_count.py").write_text(COUNT.replace("== -1", "== 1"))  # it fails before any change
    before = survivors(run("--seed", "1")[1])
    assert len(before) == 3
    assert "1 tests are left out" in capsys.readouterr().out
    (made / "tests" / "test_count.py").write_text(COUNT)
    caught = {(line["before"], line["after"]): line for line in (run("--seed", "1", "--only-survivors"), lines())[1]}
    verdicts = {line["verdict"] for mutant, line in caught.items() if mutant in before and line["function"] == "count"}
    assert verdicts <= {"caught", "endless"}
    assert "endless" in verdicts


@pytest.fixture
def places():
    """A folder with a short path, for it holds a socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield audit.Path(folder)


@pytest.mark.slow
def test_a_signal_ends_an_audit_without_a_verdict_and_leaves_no_process(made, places):
    (made / "tests" / "test_count.py").write_text(SLEEP)
    path = str(audit.Path(audit.__file__).parents[1])
    command = [sys.executable, "-m", "audit", "--modules", "rule.py"]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(places)}, stderr=subprocess.PIPE)
    while not (begun := list(places.glob("*/copy/begun"))):
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)
    pid = int(begun[0].read_text())
    child.send_signal(signal.SIGTERM)
    assert b"interrupted" in child.communicate(timeout=20)[1]
    assert child.returncode == 1
    assert not lines()
    assert not list(places.iterdir())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_file_of_tests_that_cannot_run_is_named(made):
    (made / "tests" / "test_count.py").write_text("import nothing_of_that_name")
    with pytest.raises(RuntimeError, match=r"tests/test_count\.py: it ended with 2"):
        run()
    assert not lines()


@pytest.mark.slow
def test_what_a_started_process_runs_counts_for_its_test(made):
    (made / "tests" / "test_child.py").write_text(CHILD)
    run("--tests", "tests/test_child.py")
    (line,) = runs.read_lines(next((made / ".audit").glob("tests-*.jsonl")))
    ran = {test["test"]: test["ran"] for test in line["tests"]}
    assert "rule.py:count" in ran["tests/test_child.py::test_child"]
    assert ran["tests/test_child.py::test_none"] == []


@pytest.mark.slow
def test_a_run_goes_on_where_it_was_stopped(made):
    state = made / ".audit" / "mutants.jsonl"
    _, found = run()
    whole = state.read_text()
    run()
    assert state.read_text() == whole  # nothing was left to do
    state.write_text(whole[: len(whole) // 2])
    kept = len(lines())
    assert 0 < kept < len(found)
    assert run()[1] == found
    assert state.read_text().startswith(whole[: len(whole) // 2])


@pytest.mark.parametrize("seed", range(8))
def test_every_mutant_is_one_change_of_code_that_runs(seed):
    drawn = mutants.draw("rule.py", MODULE, 100, seed)
    assert len({mutant.line for mutant in drawn}) == len(drawn) > 5
    plain = ast.unparse(ast.parse(MODULE)).splitlines()
    for mutant in drawn:
        compile(mutant.source, "rule.py", "exec")
        changed = mutant.source.splitlines()
        assert changed[0] == plain[0]
        assert mutant.before in map(str.strip, set(plain) - set(changed))
        assert mutant.line not in {3, 5, 6, 12}  # imports and docstrings
        assert "-> int" in mutant.source
        assert "got {a + 0}" in mutant.source or "raise" not in mutant.source
    assert drawn == mutants.draw("rule.py", MODULE, 100, seed)


def test_arguments_that_no_test_can_see_stay():
    (mutant,) = mutants.draw("rule.py", "draw(x, alpha=0.5, loc=-1, strict=True)", 100, 0)
    assert mutant.after == "pass"


def test_files_that_are_named_after_the_module_come_first():
    """Files of one start share it: the budget is spent on their tests."""

    def made(file, seconds):
        return runs.Test(file, file, f"tests/{file}.py", 4.0, seconds, frozenset(["a/b.py:f"]))

    tests = [made("c/test_b", 0.1), made("a/test_c", 0.2), made("a/test_b", 0.4), made("a/test_b_more", 0.3)]
    mutant = mutants.Mutant("a/b.py", "f", 1, "", "", "")
    names = [test.name for test in runs.chosen(mutant, tests, 4.95)]
    assert names == ["a/test_b_more", "a/test_b", "a/test_c"]


def test_the_tests_of_the_function_come_first_then_those_of_the_module():
    """What stands outside of functions may be seen by any test."""

    def made(name, seconds, *ran):
        return runs.Test(name, name, f"{name}.py", 1.0, seconds, frozenset(ran))

    near, module, far = made("near", 3.0, "a.py:f"), made("module", 2.0, "a.py:g"), made("far", 1.0, "b.py:f")
    for function, budget, names in (("f", 99, ["near", "module"]), ("f", 1, ["near"]), ("", 99, ["module", "near", "far"])):
        mutant = mutants.Mutant("a.py", function, 1, "", "", "")
        assert [test.name for test in runs.chosen(mutant, [far, module, near], budget)] == names
