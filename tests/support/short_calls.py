"""Calls for engines, in a module that a new process imports at once."""

import sys
import time
from functools import partial
from pathlib import Path

from analysis.engines import engine
from arguide.files import write


def note(folder, n):
    """Note that a call begins, work, write its file, and return its number."""
    with (folder / "begun").open("a") as file:
        file.write(f"{n}\n")
    time.sleep(0.5)
    write(folder / f"{n}.txt", lambda place: place.write_text(str(n)))
    return n


def node(n):
    """Return the node of Ray that does this call."""
    import ray

    time.sleep(1)
    return ray.get_runtime_context().get_node_id()


def claim_at(folder, moment, config):
    """Claim a folder at a moment; return the settings of the run that has it, or the error."""
    from analysis.files import run_folder  # which imports pandas, in a second

    while time.time() < moment:
        pass
    try:
        run_folder.claim(folder, config, parts=("experiments", "figures"), shared=True)
        (folder / "experiments" / f"{config}").touch()
    except ValueError as error:
        return str(error)
    return config


def main():
    """Do the calls of a folder that are not finished, on an engine: FOLDER COUNT ENGINE JOBS [ADDRESS]."""
    folder, count, name, jobs, *address = sys.argv[1:]
    left = [n for n in range(int(count)) if not (Path(folder) / f"{n}.txt").exists()]
    with engine(name, int(jobs), *address) as run:
        for n in run([partial(note, Path(folder), n) for n in left]):
            print(n, flush=True, file=sys.__stdout__)


if __name__ == "__main__":
    main()
