"""Checks of what toys are given: each raises one `ValueError` of one line. They stand here because toys import no wing."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def refusal(name: str, wanted: str, value: Any) -> ValueError:
    """Return the error that names an argument, what it must be, and what it is."""
    found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) and value.ndim else repr(value).split("\n", 1)[0][:60]
    return ValueError(f"{name} must be {wanted}, got {found}")


def integer(name: str, value: Any, least: int = 1, most: float = math.inf) -> int:
    """Require an integer from `least` to `most`."""
    wanted = f"an integer of at least {least}" if most == math.inf else f"an integer from {least} to {most}"
    try:
        number = operator.index(value)
    except TypeError:
        raise refusal(name, wanted, value) from None
    if not least <= number <= most:
        raise refusal(name, wanted, value)
    return number


def number(name: str, value: Any, wanted: str = "finite", holds: Callable[[float], bool] = math.isfinite) -> float:
    """Require a number for which `holds` is true; it is never asked of NaN."""
    try:
        found = math.nan if isinstance(value, str) else float(value)
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


def real(name: str, value: Any) -> Tensor:
    """Require numbers, and return them in float64."""
    try:
        return torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise refusal(name, "an array of numbers", value) from None


def alike(name: str, value: Tensor, other: str, like: Tensor) -> None:
    """Require two tensors of one shape, which would broadcast otherwise."""
    if not isinstance(value, Tensor) or not isinstance(like, Tensor) or value.shape != like.shape:
        shape = tuple(like.shape) if isinstance(like, Tensor) else repr(like)[:60]
        raise refusal(name, f"of the shape of {other}, {shape}", value)


def known(name: str, value: Any) -> None:
    """Require a tensor without NaN and +∞."""
    if not isinstance(value, Tensor) or not (value < math.inf).all():
        raise refusal(name, "a tensor without NaN and +inf", value)


def points(name: str, x: Any, dim: int) -> None:
    """Require points in `dim` dimensions, [n, d]."""
    if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[1] != dim or not x.is_floating_point():
        raise refusal(name, f"floating-point [n, {dim}]", x)


def codes(name: str, x: Any, sizes: Sequence[int], least: int = 0) -> None:
    """Require sequences of codes, [n, T], of which those at t run from `least` to V_t − 1."""
    if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[1] != len(sizes) or x.is_floating_point() or x.dtype == torch.bool:
        raise refusal(name, f"integer [n, {len(sizes)}]", x)
    outside = (x < least) | (x >= torch.tensor(sizes))
    if outside.any():
        raise refusal(name, f"codes from {least} to below the number of values", int(x[outside][0]))


def weights(value: Any) -> None:
    """Require labels with finite weights, one at least."""
    if not isinstance(value, Mapping) or not value:
        raise refusal("weights", "a mapping of at least one label to its weight", value)
    for weight in value.values():
        number("weights", weight)


def names(labels: Any, count: int) -> tuple[str, ...]:
    """Require so many labels, none of them twice, as strings; "0", "1", … where none are given."""
    if isinstance(labels, str) or not isinstance(labels, Sequence | None):
        raise refusal("labels", "a sequence of names", labels)
    named = tuple(map(str, range(count) if labels is None else labels))
    if len(named) != count:
        raise refusal("labels", f"one name per label, {count}", len(named))
    twice = [name for i, name in enumerate(named) if name in named[:i]]
    if twice:
        raise refusal("labels", "all different", twice[0])
    return named
