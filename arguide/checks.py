"""Checks of arguments: each returns its argument, or raises a `ValueError` of one line.

An error reads "name must be …, got …", with a hint where there is one. Public functions check their arguments; functions inside
trust them.
"""

import functools
import inspect
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

from torch import Generator, Tensor

GRID = "try a grid of noise levels, such as diffusion.edm(50)"
T = TypeVar("T")
P = ParamSpec("P")


def refusal(name: str, wanted: str, value: Any, hint: str = "") -> ValueError:
    """Return the error "name must be wanted, got value; hint".

    Args:
        name: of the argument.
        wanted: what the argument must be.
        value: what it is.
        hint: what to try.
    """
    return ValueError(f"{name} must be {wanted}, got {shown(value)}" + (f"; {hint}" if hint else ""))


def shown(value: Any) -> str:
    """Return a value in one short line; of a tensor with axes, its shape; of an object with no such line, its type."""
    if isinstance(value, Tensor):
        return str(value.item()) if value.ndim == 0 else f"shape {tuple(value.shape)}"
    line = repr(value)
    if " at 0x" in line or "\n" in line:
        return f"an object of type {type(value).__name__}"
    return line if len(line) <= 60 else f"{line[:57]}..."


def with_hint(hint: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that adds a hint to the TypeError of a call with missing or unknown arguments."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{function.__name__}: {error}; {hint}") from None
            return function(*args, **kwargs)

        return call

    return decorate


def integer(name: str, value: Any, least: int = 1) -> int:
    """Return an integer of 64 bits, at least `least`, or raise ValueError.

    Args:
        name: of the argument.
        value: its value.
        least: the smallest integer that passes.
    """
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if not least <= number < 2**63:
        raise refusal(name, f"an integer of at least {least}", value)
    return number


def number(name: str, value: Any, wanted: str = "a finite number", holds: Callable[[float], bool] = math.isfinite) -> float:
    """Return a number that satisfies `holds`, or raise ValueError; NaN never passes.

    Args:
        name: of the argument.
        value: a number, or a tensor of one number.
        wanted: what the number must be, for the message.
        holds: whether a number, not NaN, passes.
    """
    try:
        found = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError):
        found = math.nan
    if math.isnan(found) or not holds(found):
        raise refusal(name, wanted, value)
    return found


def positive(name: str, value: Any) -> float:
    """Return a positive and finite number, or raise ValueError."""
    return number(name, value, "positive and finite", lambda found: 0 < found < math.inf)


def not_negative(name: str, value: Any) -> float:
    """Return a finite number of at least 0, or raise ValueError."""
    return number(name, value, "finite and at least 0", lambda found: 0 <= found < math.inf)


def share(name: str, value: Any) -> float:
    """Return a number in [0, 1], or raise ValueError."""
    return number(name, value, "in [0, 1]", lambda found: 0 <= found <= 1)


def finite(name: str, value: T) -> T:
    """Return a finite number or a tensor of finite numbers, such as a scale or a weight, or raise ValueError."""
    if not isinstance(value, Tensor):
        number(name, value, "finite" if isinstance(value, float) else "a finite number")
    elif value.is_complex() or not value.isfinite().all():
        raise refusal(name, "finite", value if value.is_complex() else value[~value.isfinite()][0])
    return value


def tensor(name: str, value: Any, axes: int = 1) -> Tensor:
    """Return a tensor of real numbers, or raise ValueError.

    Args:
        name: of the argument.
        value: its value.
        axes: the smallest number of axes that passes; an empty tensor does not pass.
    """
    if not isinstance(value, Tensor):
        raise refusal(name, "a tensor", value, "try torch.as_tensor")
    if value.is_complex() or value.ndim < axes or 0 in value.shape:
        raise refusal(name, f"real, not empty and of at least {axes} {'axis' if axes == 1 else 'axes'}", value)
    return value


def tokens(name: str, value: Any) -> tuple[int, ...]:
    """Return one token or more, integers of at least 0, or raise ValueError."""
    listed = value.tolist() if isinstance(value, Tensor) else value
    if isinstance(listed, str | bytes) or not isinstance(listed, Sequence | set | frozenset) or not listed:
        raise refusal(name, "a sequence of at least one token", value)
    return tuple(integer(name, token, 0) for token in listed)


def within(name: str, largest: int, size: int) -> None:
    """Raise ValueError if a token is outside the vocabulary.

    Args:
        name: of the argument.
        largest: the largest token.
        size: V.
    """
    if largest >= size:
        raise refusal(name, f"below the size of the vocabulary, {size}", largest)


def function(name: str, value: T) -> T:
    """Return a function, or raise ValueError."""
    if not callable(value):
        raise refusal(name, "a function", value, f"try its method {name}" if callable(getattr(value, name, None)) else "")
    return value


def functions(**named: Any) -> None:
    """Raise ValueError unless all arguments are functions; each keyword is the name of an argument."""
    for name, value in named.items():
        function(name, value)


def model(name: str, value: T) -> T:
    """Return an autoregressive model, or raise ValueError."""
    if not (hasattr(value, "start") and hasattr(value, "append")):
        raise refusal(name, "an autoregressive model with start, append and select", value, _other_way(value))
    return value


def _other_way(value: Any) -> str:
    """Return what to try with an object that is not an autoregressive model."""
    if hasattr(value, "generate"):
        return "try arguide.guided(model).generate(…), or the law arguide.continuation(model, input_ids, …)"
    if hasattr(value, "autoregressive"):
        return "try its method autoregressive(label)"
    return "try diffusion.sample or diffusion.sample_joint" if hasattr(value, "guided") else ""


def generator(value: Generator | None) -> Generator | None:
    """Return a generator or None, or raise ValueError."""
    if value is not None and not isinstance(value, Generator):
        raise refusal("generator", "a torch.Generator", value, "try torch.Generator().manual_seed(0)")
    return value


def matched(name: str, values: Any, others: Any, of: str, least: int = 1) -> None:
    """Raise ValueError unless there is one value for each of the others.

    Args:
        name: of the argument.
        values: a sequence.
        others: a sequence.
        of: the noun for one of the others.
        least: the smallest number of others that passes.
    """
    if not hasattr(values, "__len__") or isinstance(values, str):
        raise refusal(name, f"a sequence with one value per {of}", values)
    if len(others) < least:
        raise refusal(f"{of}s", "at least one", others)
    if len(values) != len(others):
        raise refusal(name, f"one per {of}, {len(others)}", len(values))


def shape(name: str, value: Any, axes: int = 1) -> tuple[int, ...]:
    """Return a shape, integers of at least 1, or raise ValueError.

    Args:
        name: of the argument.
        value: its value.
        axes: the smallest number of axes that passes.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) < axes:
        sizes = "(n, …)" if axes == 1 else "(n, d, …)"
        raise refusal(name, f"a tuple of integers {sizes}", value, "try (1000, 2) for 1000 samples of 2 numbers")
    return tuple(integer(name, size) for size in value)


def falling(name: str, value: Any, *, ends_at_zero: bool = True, least: int = 2) -> Tensor:
    """Return a falling grid of noise levels or times, finite and at least 0, or raise ValueError.

    Args:
        name: of the argument.
        value: its value.
        ends_at_zero: whether the last level must be 0.
        least: the smallest number of levels that passes.
    """
    if not isinstance(value, Tensor) or value.ndim != 1 or len(value) < least or not value.is_floating_point():
        raise refusal(name, f"a floating-point tensor of at least {least} {'level' if least == 1 else 'levels'}", value, GRID)
    levels = value.detach().cpu()
    allowed = levels.isfinite() & (levels >= 0)
    if not allowed.all():
        raise refusal(name, "finite and at least 0", levels[~allowed][0], GRID)
    if (levels.diff() >= 0).any():
        raise refusal(name, "falling", levels.tolist(), GRID)
    if ends_at_zero and levels[-1] != 0:
        raise refusal(name, "a grid that ends in 0", levels[-1], GRID)
    return value
