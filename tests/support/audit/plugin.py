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
        self.calls: set[str] = set()
        self.fixtures: dict[str, set[str]] = defaultdict(set)
        self.passed, self.seconds = True, 0.0
        self.root = f"{Path.cwd()}{os.sep}"
        paths = os.pathsep.join([str(CHILDREN), os.environ.get("PYTHONPATH", "")])
        os.environ |= {"PYTHONPATH": paths, "AUDIT_ROOT": self.root, "AUDIT_CHILDREN": str(self.children)}

    def trace(self, frame, event, arg):
        if (name := function(frame.f_code, self.root)) is not None:
            self.calls.add(name)

    def take_children(self) -> None:
        """Add what processes have run that were started since the last call."""
        if self.children.exists():
            self.calls.update(self.children.read_text().split())
            self.children.unlink()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        outer, self.calls = self.calls, set()
        try:
            return (yield)
        finally:
            self.take_children()
            self.fixtures[fixturedef.argname] |= self.calls
            self.calls |= outer

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item, nextitem):
        self.calls, self.passed, self.seconds = set(), True, 0.0
        sys.settrace(self.trace)
        threading.settrace(self.trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            self.take_children()
            ran = self.calls.union(*(self.fixtures[name] for name in item.fixturenames))
            line = {"test": item.nodeid, "seconds": round(self.seconds, 3), "passed": self.passed, "ran": sorted(ran)}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds += report.duration
        self.passed &= report.outcome == "passed"
