"""Run tests in copies of the repository: once to record what each of them runs, then against every mutant."""

import ast
import hashlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from audit.mutants import Mutant

HERE = Path(__file__).parents[1]
ENDLESS = 2, 60.0  # a mutant's tests may take so many times what they took before, and so many seconds more
PASSED, FAILED, NO_TESTS = 0, 1, 5  # exit codes of pytest
FAR = 2  # the rank of a test that runs nothing of a module
# What takes seconds to import is imported once, by the server that every process with tests is a fork of.
# `transformers` itself imports its parts only when they are used.
PRELOAD = [
    *(
        "pytest",
        "hypothesis",
        "seaborn",
        "scipy.stats",
        "sklearn.datasets",
        "sklearn.decomposition",
        "typer",
        "torch",
        "datasets",
    ),
    *("transformers.generation.utils", "transformers.models.llama.modeling_llama", "transformers.models.gpt2.modeling_gpt2"),
]


def digest(*texts: str | bytes) -> str:
    """Return a digest of texts."""
    found = hashlib.sha256()
    for text in texts:
        found.update(hashlib.sha256(text if isinstance(text, bytes) else text.encode()).digest())
    return found.hexdigest()[:16]


def read_lines(path: Path) -> list[dict]:
    """Return the objects of a file of JSON lines; a last line that was cut off is left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def append_line(path: Path, value: dict) -> None:
    """Append an object to a file of JSON lines in one write, on a line of its own even after one that was cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, f"\n{json.dumps(value)}\n".encode())
    finally:
        os.close(handle)


def listed(root: Path) -> list[str]:
    """Return the files of a repository that git does not ignore."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    found = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout.decode().split("\0")
    return sorted(name for name in found if (root / name).is_file())


class Copy:
    """A copy of the files of a repository that git does not ignore, to be changed and tested."""

    def __init__(self, root: Path, place: Path, *, slow: bool = False) -> None:
        self.marked = ["-m", ""] if slow else []
        self.folder = place.resolve() / "copy"
        self.process: BaseProcess | None = None
        self.stopped = False
        for name in listed(root):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, self.folder / name)

    def write(self, module: str, source: str) -> None:
        """Replace a module, and drop what Python has compiled of it."""
        (self.folder / module).write_text(source)
        Path(importlib.util.cache_from_source(str(self.folder / module))).unlink(missing_ok=True)

    def pytest(self, arguments: Sequence[str], seconds: float | None = None, **variables: str) -> int | None:
        """Return the exit code of pytest in this copy, None if it took longer."""
        if self.stopped:
            raise InterruptedError("the audit was stopped")
        path = os.pathsep.join([str(self.folder), str(HERE)])
        environ = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", **variables}
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        process = context.Process(target=_pytest, args=(self.folder, [*self.marked, *arguments], environ))
        process.start()
        self.process = process
        try:
            process.join(0 if self.stopped else seconds)
            code = process.exitcode
        finally:
            self._kill()
        if self.stopped:
            raise InterruptedError("the audit was stopped")
        return code

    def stop(self) -> None:
        """End what runs here, without a verdict."""
        self.stopped = True
        self._kill()

    def _kill(self) -> None:
        """Kill pytest and what it has started."""
        if self.process is not None:
            self.process.kill()  # it may not lead its group yet
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.join()


def _pytest(folder: Path, arguments: list[str], environ: dict[str, str]) -> None:
    """Run pytest in `folder`, in a process and group of its own, as `python -m pytest` does there."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    others = (path for path in sys.path if path not in ("", str(Path.cwd())))
    sys.path[:] = [*environ["PYTHONPATH"].split(os.pathsep), *others]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    quiet = ["-q", "--no-header", "--no-summary", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    sys.exit(pytest.main([*quiet, "-p", "audit.plugin", *arguments]))


@dataclass(frozen=True)
class Test:
    """A test that passes.

    Attributes:
        identity: its name and the digest of its file.
        file: where it stands, and `start`, the seconds that this file takes before its first test.
        ran: the functions that it runs, "module:function".
    """

    name: str
    identity: str
    file: str
    start: float
    seconds: float
    ran: frozenset[str]

    @cached_property
    def modules(self) -> frozenset[str]:
        """The modules of these functions."""
        return frozenset(name.split(":")[0] for name in self.ran)


def record(copy: Copy, path: Path, file: str, known_by: str) -> None:
    """Append to `path` what the tests of a file run, under a digest, and how long it takes beside its tests."""
    found, begin = copy.folder.parent / "record", time.monotonic()
    found.unlink(missing_ok=True)
    code = copy.pytest([file], AUDIT_RECORD=str(found))
    if code not in (PASSED, FAILED, NO_TESTS):
        raise RuntimeError(f"pytest did not run the tests of {file}: it ended with {code}")
    tests = read_lines(found)
    start = max(0.0, time.monotonic() - begin - sum(test["seconds"] for test in tests))
    append_line(path, {"file": file, "digest": known_by, "start": round(start, 3), "tests": tests})


def unparse_all(copy: Copy, modules: Iterable[str]) -> None:
    """Write the modules as mutants are written, so that tests which read the source fail before and are left out."""
    for module in modules:
        copy.write(module, ast.unparse(ast.parse((copy.folder / module).read_text())))


def passing(lines: Iterable[dict]) -> list[Test]:
    """Return the tests that pass."""
    return [
        Test(
            test["test"],
            f"{test['test']} {line['digest']}",
            line["file"],
            line["start"],
            test["seconds"],
            frozenset(test["ran"]),
        )
        for line in lines
        for test in line["tests"]
        if test["passed"]
    ]


def chosen(mutant: Mutant, tests: Iterable[Test], budget: float) -> list[Test]:
    """Return tests that take `budget` seconds: first those that run the changed function, then its module.

    Among them come first those of the file that the module's tests are expected in, then of its folder, and the fastest first.
    What stands outside of functions runs where the module is imported, which the file of any test may do. Files share what they
    import, so the slowest start counts once.
    """
    found, start, total = list[Test](), 0.0, 0.0
    ranked = [(rank, test) for test in tests if (rank := _rank(mutant, test)) < FAR or not mutant.function]
    folder, name = f"tests/{Path(mutant.module).parent}/", f"test_{Path(mutant.module).stem}"

    def distance(test: Test) -> int:
        """Return 0 for the file tests/FOLDER/test_MODULE….py, 1 for its folder, 2 for others."""
        if not test.file.startswith(folder) or "/" in test.file[len(folder) :]:
            return 2
        return int(not test.file[len(folder) :].startswith(name))

    for _, test in sorted(ranked, key=lambda pair: (pair[0], distance(pair[1]), pair[1].seconds)):
        more = test.seconds + max(0.0, test.start - start)
        if not found or total + more <= budget:
            found.append(test)
            start, total = max(start, test.start), total + more
    return found


def _rank(mutant: Mutant, test: Test) -> int:
    if mutant.function and f"{mutant.module}:{mutant.function}" in test.ran:
        return 0
    return 1 if mutant.module in test.modules else FAR


def _seconds(tests: Sequence[Test]) -> float:
    return sum(test.seconds for test in tests) + sum({test.file: test.start for test in tests}.values())


def verdict(copy: Copy, mutant: Mutant, tests: Sequence[Test]) -> str:
    """Return "caught", "endless" (caught by the clock) or "survived"."""
    if not tests:
        return "survived"
    names = copy.folder.parent / "tests.json"
    names.write_text(json.dumps([test.name for test in tests]))
    original = (copy.folder / mutant.module).read_text()
    copy.write(mutant.module, mutant.source)
    try:
        files = sorted({test.file for test in tests})
        times, more = ENDLESS
        code = copy.pytest(["-x", *files], times * _seconds(tests) + more, AUDIT_TESTS=str(names))
    finally:
        copy.write(mutant.module, original)
    return "endless" if code is None else "survived" if code in (PASSED, NO_TESTS) else "caught"
