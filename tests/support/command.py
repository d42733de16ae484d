"""The installed command, for tests that start it as a user does."""

import json
import sys
from pathlib import Path

ARGUIDE = str(Path(sys.executable).with_name("arguide"))


def completions(run, *arguments):
    """Return the completions that a run of `arguide generate` prints."""
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (0, "")
    return [record["completion"] for record in json.loads(out)]
