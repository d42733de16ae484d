"""Calls for engines, in a module that a new process imports at once."""

import time

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
