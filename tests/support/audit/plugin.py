"""A pytest plugin: record which functions every test runs, or run chosen tests in the order given.

AUDIT_RECORD names a file that gets one line of JSON per test; AUDIT_TESTS names a JSON list of the tests to run. What the
processes run that a test starts is recorded by `children/sitecustomize.py`.
"""

import json
import os
import sys
import threading
from collections import defaultdict
from pathlib import Path
from types import CodeType

import pytest

from audit.children.sitecustomize import function

CHILDREN = Path(__file__).with_name("children")
MEMORY = 12 * 2**30  # bytes of a process; a mutant may allocate without end


def pytest_configure(config: pytest.Config) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    except (ImportError, ValueError, OSError):
        pass
    if "AUDIT_RECORD" in os.environ:
        config.pluginmanager.register(Recorder(Path(os.environ["AUDIT_RECORD"])))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "AUDIT_TESTS" in os.environ:
        rank = {name: i for i, name in enumerate(json.loads(Path(os.environ["AUDIT_TESTS"]).read_text()))}
        items[:] = sorted((item for item in items if item.nodeid in rank), key=lambda item: rank[item.nodeid])


class Recorder:
    """Records the functions under the current folder that a test runs, those of its fixtures of a wider scope included."""

    def __init__(self, path: Path) -> None:
        self.path, self.children = path, path.with_name("children")
        self.codes: dict[int, CodeType] = {}
        self.calls: set[str] = set()
        self.fixtures: dict[str, set[str]] = defaultdict(set)
        self.passed, self.seconds = True, 0.0
        self.root = f"{Path.cwd()}{os.sep}"
        paths = os.pathsep.join([str(CHILDREN), os.environ.get("PYTHONPATH", "")])
        os.environ |= {"PYTHONPATH": paths, "AUDIT_ROOT": self.root, "AUDIT_CHILDREN": str(self.children)}

    def trace(self, frame, event, arg):
        self.codes[id(frame.f_code)] = frame.f_code  # equal code may stand in two files

    def take(self) -> set[str]:
        """Return the functions that ran since the last call, those of started processes included."""
        codes, self.codes = self.codes.values(), {}
        found = {name for code in codes if (name := function(code, self.root)) is not None}
        if self.children.exists():
            found.update(self.children.read_text().split())
            self.children.unlink()
        return found

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        outer, self.calls = self.calls | self.take(), set()
        try:
            return (yield)
        finally:
            self.calls |= self.take()
            self.fixtures[fixturedef.argname] |= self.calls
            self.calls |= outer

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item, nextitem):
        self.take()
        self.calls, self.passed, self.seconds = set(), True, 0.0
        sys.settrace(self.trace)
        threading.settrace(self.trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            ran = self.calls.union(self.take(), *(self.fixtures[name] for name in item.fixturenames))
            line = {"test": item.nodeid, "seconds": round(self.seconds, 3), "passed": self.passed, "ran": sorted(ran)}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds += report.duration
        self.passed &= report.outcome == "passed"
