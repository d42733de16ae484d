"""What a bad call must end in: one error of one line, raised on purpose, that names the argument."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = tuple(str(ROOT / name) for name in ("arguide", "diffusion", "analysis"))

INF, NAN = float("inf"), float("nan")
NUMBERS = [NAN, INF, -INF, "3", None, [1.0, 2.0, 3.0]]  # where a number is asked for
COUNTS = [0, -1, 2.5, "3", None]  # where an integer of at least 1 is
SHARES = [NAN, -0.1, 1.5, INF, "0.5"]  # where a number in [0, 1] is
POSITIVE = [NAN, 0.0, -1.0, INF, "1"]  # where a positive number is
FUNCTIONS = [3, "heun"]  # where a function is


def cases(*groups):
    """Return pytest parameters (call, name) of groups (public name, argument, function of a bad value, bad values)."""
    return [
        pytest.param(lambda call=call, value=value: call(value), argument, id=f"{public}-{argument}-{i}")
        for public, argument, call, values in groups
        for i, value in enumerate(values)
    ]


def refused(call, argument):
    """Assert that a call is refused as it should be."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    message = str(caught.value)
    assert argument in message
    assert len(message.splitlines()) == 1
    assert len(message) < 250
    assert str(caught.traceback[-1].path).startswith(PACKAGES), f"from deep inside: {message}"


def advised(call, argument, *hints):
    """Assert that a call is refused as it should be, with advice that has these hints."""
    refused(call, argument)
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert [hint for hint in hints if hint not in str(caught.value)] == []
