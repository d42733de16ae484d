"""What an engine adds to independent tasks: `python -m benchmarks.engines`.

Every task waits 50 ms and writes a file of its own, so that the cores are free and only the engine's own work counts. The ideal
is tasks × seconds ÷ jobs. The total has the start of the engine in it; the rest is timed from the first finished task.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

from analysis.engines import ENGINES, engine
from arguide.files import write


def task(folder: Path, n: int, seconds: float) -> int:
    """Wait, and write a file."""
    time.sleep(seconds)
    write(folder / f"{n}.txt", lambda place: place.write_text(str(n)))
    return n


def measure(name: str, tasks: int, seconds: float, jobs: int) -> tuple[float, float]:
    """Return the seconds until the first task is finished, and those of all."""
    with tempfile.TemporaryDirectory() as folder:
        begin, first = time.monotonic(), 0.0
        with engine(name, jobs) as run:
            calls = [partial(task, Path(folder), n, seconds) for n in range(tasks)]
            for count, _ in enumerate(run(calls)):
                first = time.monotonic() - begin if count == 0 else first
            total = time.monotonic() - begin
        assert len(list(Path(folder).iterdir())) == tasks
    return first, total


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description="Measure engines.")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["processes", "ray"], help="default: %(default)s")
    parser.add_argument("--tasks", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=0.05, help="of a task (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="default: %(default)s")
    given = parser.parse_args()
    print("| engine | total ÷ ideal | total | until the first task | after it, per task ÷ ideal |\n|---|---:|---:|---:|---:|")
    ideal = given.tasks * given.seconds / given.jobs
    for name in given.engines:
        first, total = measure(name, given.tasks, given.seconds, given.jobs)
        rest = (total - first) / (given.tasks - 1) / (given.seconds / given.jobs)
        print(f"| {name} | {total / ideal:.2f} | {total:.1f} s | {first:.1f} s | {rest:.2f} |", flush=True)
    print(f"\n{given.tasks} tasks of {given.seconds:g} s, {given.jobs} jobs: ideal {ideal:.1f} s.")


if __name__ == "__main__":
    main()
