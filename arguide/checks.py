"""Checks at the public edge: each returns what it was given, or raises one `ValueError` of one line.

An error reads "name must be …, got …", with a hint where one is known. Arguments that have passed are trusted inside. Every
check takes the name of the argument and its value, and raises ValueError.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


def refusal(name: str, wanted: str, value: Any, hint: str = "") -> ValueError:
    """Return the error that names an argument, what it must be, and what it is."""
    return ValueError(f"{name} must be {wanted}, got {shown(value)}" + (f"; {hint}" if hint else ""))


def shown(value: Any) -> str:
    """Return a value in one short line; of a tensor with axes, its shape."""
    if isinstance(value, Tensor):
        return str(value.item()) if value.ndim == 0 else f"shape {tuple(value.shape)}"
    line = repr(value).split("\n", 1)[0]
    return line if len(line) <= 60 else f"{line[:57]}..."


def integer(name: str, value: Any, least: int = 1) -> int:
    """Require an integer of at least `least`, of 64 bits."""
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if not least <= number < 2**63:
        raise refusal(name, f"an integer of at least {least}", value)
    return number


def number(name: str, value: Any, wanted: str = "a finite number", holds: Callable[[float], bool] = math.isfinite) -> float:
    """Require a number, or a tensor of one, for which `holds` is true; it is never asked of NaN."""
    try:
        found = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError):
        found = math.nan
    if math.isnan(found) or not holds(found):
        raise refusal(name, wanted, value)
    return found


def positive(name: str, value: Any) -> float:
    """Require a positive and finite number."""
    return number(name, value, "positive and finite", lambda found: 0 < found < math.inf)


def not_negative(name: str, value: Any) -> float:
    """Require a finite number of at least 0."""
    return number(name, value, "finite and at least 0", lambda found: 0 <= found < math.inf)


def share(name: str, value: Any) -> float:
    """Require a number in [0, 1]."""
    return number(name, value, "in [0, 1]", lambda found: 0 <= found <= 1)


def finite(name: str, value: T) -> T:
    """Require a finite number, or a tensor of them: a scale or a weight."""
    if not isinstance(value, Tensor):
        number(name, value, "finite")
    elif value.is_complex() or not value.isfinite().all():
        raise refusal(name, "finite", value if value.is_complex() else value[~value.isfinite()][0])
    return value


def tensor(name: str, value: Any, axes: int = 1) -> Tensor:
    """Require a tensor of real numbers with at least so many axes, none of them empty."""
    if not isinstance(value, Tensor):
        raise refusal(name, "a tensor", value, "try torch.as_tensor")
    if value.is_complex() or value.ndim < axes or 0 in value.shape:
        raise refusal(name, f"real, not empty and of at least {axes} {'axis' if axes == 1 else 'axes'}", value)
    return value


def tokens(name: str, value: Any) -> tuple[int, ...]:
    """Require one token or more, integers of at least 0."""
    listed = value.tolist() if isinstance(value, Tensor) else value
    if isinstance(listed, str | bytes) or not isinstance(listed, Sequence | set | frozenset) or not listed:
        raise refusal(name, "a sequence of at least one token", value)
    return tuple(integer(name, token, 0) for token in listed)


def within(name: str, largest: int, size: int) -> None:
    """Require that the largest token is one of a vocabulary."""
    if largest >= size:
        raise refusal(name, f"below the size of the vocabulary, {size}", largest)


def function(name: str, value: T) -> T:
    """Require something to call."""
    if not callable(value):
        raise refusal(name, "a function", value)
    return value


def model(name: str, value: T) -> T:
    """Require an autoregressive model."""
    if not (hasattr(value, "start") and hasattr(value, "append")):
        raise refusal(name, "an autoregressive model with start, append and select", value)
    return value


def matched(name: str, values: Any, others: Any, of: str, least: int = 1) -> None:
    """Require a sequence with one value for each of the others, of which there are at least so many."""
    if not hasattr(values, "__len__") or isinstance(values, str):
        raise refusal(name, f"a sequence with one value per {of}", values)
    if len(others) < least:
        raise refusal(f"{of}s", "at least one", others)
    if len(values) != len(others):
        raise refusal(name, f"one per {of}, {len(others)}", len(values))


def shape(name: str, value: Any, axes: int = 1) -> tuple[int, ...]:
    """Require a shape of at least so many axes, integers of at least 1."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) < axes:
        raise refusal(name, f"a shape of at least {axes} {'axis' if axes == 1 else 'axes'}", value)
    return tuple(integer(name, size) for size in value)


def falling(name: str, value: Any, *, ends_at_zero: bool = True, strictly: bool = True, least: int = 2) -> Tensor:
    """Require a grid of noise levels or times: finite, at least 0, falling, and closed by 0 unless it may end above."""
    hint = "try a grid of diffusion.noise, such as diffusion.edm(50)"
    if not isinstance(value, Tensor) or value.ndim != 1 or len(value) < least or not value.is_floating_point():
        raise refusal(name, f"a floating-point tensor of at least {least} {'level' if least == 1 else 'levels'}", value, hint)
    levels = value.detach().cpu()
    if not levels.isfinite().all() or (levels < 0).any():
        raise refusal(name, "finite and at least 0", levels[~(levels.isfinite() & (levels >= 0))][0], hint)
    steps = levels.diff()
    if ((steps >= 0) if strictly else (steps > 0)).any():
        raise refusal(name, "falling", levels.tolist(), hint)
    if ends_at_zero and levels[-1] != 0:
        raise refusal(name, "a grid that ends in 0", levels[-1], hint)
    return value
