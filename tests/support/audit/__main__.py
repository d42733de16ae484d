"""Draw mutants of every module, run the tests that can see them, and print those that survive.

What is finished is kept in the folder of `--state`, and a run that was stopped goes on from there. A survivor is tried again
when its tests change; delete the folder to begin anew. `equivalent.toml` lists by hand the mutants that change no behaviour.
"""

import argparse
import signal
import sys
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory

from tqdm import tqdm

from audit import runs
from audit.mutants import draw

EQUIVALENT = Path(__file__).with_name("equivalent.toml")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    root = Path.cwd()
    modules = sorted({str(path.relative_to(root)) for glob in options.modules for path in root.glob(glob)})
    with ExitStack() as stack:  # left from its end: what runs is stopped, then the threads end, then the copies go
        places = [Path(stack.enter_context(TemporaryDirectory(prefix="audit-"))) for _ in range(options.jobs)]
        pool, copies = stack.enter_context(ThreadPoolExecutor(options.jobs)), Queue()
        for place in places:
            copy = runs.Copy(root, place, slow=options.slow)
            stack.callback(copy.stop)
            copies.put(copy)
        tests = recorded(options, root, modules, pool, copies)
        found = audited(options, root, modules, tests, pool, copies)
    return report(found, options.at_least, equivalents(options.equivalent))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    packages = [f"{package}/**/*.py" for package in ("arguide", "diffusion", "analysis")]
    parser.add_argument("--modules", nargs="+", default=packages, metavar="GLOB", help="modules that are changed")
    parser.add_argument("--tests", nargs="+", default=["tests/**/test_*.py"], metavar="GLOB", help="test files that are run")
    parser.add_argument("--per-module", type=int, default=5, metavar="N", help="mutants per module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="mutants that are tried at the same time")
    parser.add_argument("--budget", type=float, default=60, metavar="SECONDS", help="of tests per mutant")
    parser.add_argument("--at-least", type=float, default=0.95, metavar="SHARE", help="of mutants to catch, or exit with 1")
    parser.add_argument("--slow", action="store_true", help="run the tests that are marked slow too")
    parser.add_argument("--only-survivors", action="store_true", help="try again what survived before, and nothing else")
    parser.add_argument("--state", type=Path, default=Path(".audit"), metavar="FOLDER", help="what is finished")
    parser.add_argument("--equivalent", type=Path, default=EQUIVALENT, metavar="FILE", help="mutants that change no behaviour")
    return parser.parse_args(arguments)


def in_turn(title: str, work: Callable, tasks: list, pool: ThreadPoolExecutor, copies: Queue) -> None:
    """Call work(copy, task) for every task, each in a copy of its own."""

    def call(task) -> None:
        copy = copies.get()
        try:
            work(copy, task)
        finally:
            copies.put(copy)

    for _ in tqdm(pool.map(call, tasks), title, len(tasks), disable=not tasks):
        pass


def recorded(options, root: Path, modules: list[str], pool, copies: Queue) -> list[runs.Test]:
    """Return the tests that pass; files that were not recorded before with this source are recorded now."""
    sources = [name for name in runs.listed(root) if name.endswith(".py") and "/test_" not in name and "/audit/" not in name]
    path = options.state / f"tests-{runs.digest(*((root / name).read_bytes() for name in sources))}.jsonl"
    slow = ("slow",) if options.slow else ()
    paths = sorted({path for glob in options.tests for path in root.glob(glob)})
    files = {str(path.relative_to(root)): runs.digest(path.read_bytes(), *slow) for path in paths}
    known = {(line["file"], line["digest"]) for line in runs.read_lines(path)}

    def work(copy: runs.Copy, file: str) -> None:
        runs.unparse_all(copy, modules)
        runs.record(copy, path, file, files[file])

    in_turn("record", work, [file for file, digest in files.items() if (file, digest) not in known], pool, copies)
    lines = [line for line in runs.read_lines(path) if files.get(line["file"]) == line["digest"]]
    if left_out := sum(not test["passed"] for line in lines for test in line["tests"]):
        print(f"{left_out} tests are left out: they are skipped or fail in an unchanged copy")
    return runs.passing(lines)


def audited(options, root: Path, modules: list[str], tests: list[runs.Test], pool, copies: Queue) -> list[dict]:
    """Return the mutants with their verdicts; only those without one are run."""
    path, listed = options.state / "mutants.jsonl", set(map(same, equivalents(options.equivalent)))
    found = {line["key"]: line for line in runs.read_lines(path)}
    drawn = [m for name in modules for m in draw(name, (root / name).read_text(), options.per_module, options.seed)]
    mutants = {runs.digest(mutant.source): mutant for mutant in drawn if same(asdict(mutant)) not in listed}
    chosen = {key: runs.chosen(mutant, tests, options.budget) for key, mutant in mutants.items()}

    by = {key: runs.digest(*(test.identity for test in tests)) for key, tests in chosen.items()}

    def is_left(key: str) -> bool:
        if key not in found:
            return not options.only_survivors
        return found[key]["verdict"] == "survived" and found[key]["by"] != by[key]

    def work(copy: runs.Copy, key: str) -> None:
        line = {name: value for name, value in asdict(mutants[key]).items() if name != "source"} | {"key": key}
        line |= {"verdict": runs.verdict(copy, mutants[key], chosen[key]), "tests": len(chosen[key]), "by": by[key]}
        found[key] = line
        runs.append_line(path, line)

    in_turn("mutants", work, list(filter(is_left, mutants)), pool, copies)
    return [found[key] for key in mutants if key in found]


def same(mutant: dict) -> tuple[str, ...]:
    """Return what identifies a mutant wherever its line moves."""
    return tuple(mutant[name] for name in ("module", "function", "before", "after"))


def equivalents(path: Path) -> list[dict]:
    """Return the mutants that are listed as equivalent, each with its reason."""
    return tomllib.loads(path.read_text()).get("mutant", []) if path.exists() else []


def report(found: list[dict], at_least: float, listed: list[dict]) -> int:
    """Print the survivors and how many were caught; return the exit code."""
    survivors = [line for line in found if line["verdict"] == "survived"]
    for line in survivors:
        print(f"{line['module']}:{line['line']}  ({line['tests']} tests)\n  - {line['before']}\n  + {line['after']}")
    endless = sum(line["verdict"] == "endless" for line in found)
    caught = len(found) - len(survivors)
    print(f"caught {caught} of {len(found)}, {endless} of them by the clock; {len(listed)} listed as equivalent")
    return int(caught < at_least * len(found))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("audit: interrupted; what is finished is kept, and the same command goes on")
    except RuntimeError as error:
        sys.exit(f"audit: {error}")
