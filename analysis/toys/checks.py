"""Check the arguments of toys and metrics; every check raises a `ValueError` of one line.

They are not those of `arguide.checks`, because toys import no wing.
"""

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


def require(holds: Any, name: str, wanted: str, value: Any) -> None:
    """Raise the refusal of an argument unless a condition holds."""
    if not holds:
        raise refusal(name, wanted, value)


def integer(name: str, value: Any, least: int = 1, most: float = math.inf) -> int:
    """Require an integer from `least` to `most`."""
    wanted = f"an integer of at least {least}" if most == math.inf else f"an integer from {least} to {most}"
    try:
        number = operator.index(value)
    except TypeError:
        raise refusal(name, wanted, value) from None
    require(least <= number <= most, name, wanted, value)
    return number


def number(name: str, value: Any, wanted: str = "finite", holds: Callable[[float], bool] = math.isfinite) -> float:
    """Require a number, not NaN, for which `holds` is true."""
    try:
        found = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, RuntimeError):
        found = math.nan
    require(not math.isnan(found) and holds(found), name, wanted, value)
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


def probabilities(name: str, *laws: Tensor) -> None:
    """Require probabilities [..., V] whose sum over the last axis is 1, to 1e-6."""
    for law in laws:
        totals = law.sum(-1).flatten()
        if not (law >= 0).all() or not ((totals - 1).abs() <= 1e-6).all():
            worst = float(totals[(totals - 1).abs().argmax()])
            found = f"a smallest entry of {float(law.amin()):.6g} and a sum of {worst:.6g}"
            raise ValueError(f"{name} must be probabilities that are finite, not negative and sum to 1, got {found}")


def alike(name: str, value: Tensor, other: str, like: Tensor) -> None:
    """Require two tensors of one shape, so that they do not broadcast."""
    shape = tuple(like.shape) if isinstance(like, Tensor) else repr(like)[:60]
    same = isinstance(value, Tensor) and isinstance(like, Tensor) and value.shape == like.shape
    require(same, name, f"of the shape of {other}, {shape}", value)


def known(**tensors: Tensor | None) -> None:
    """Require tensors without NaN and +∞; None passes."""
    for name, value in tensors.items():
        require(value is None or (isinstance(value, Tensor) and (value < math.inf).all()), name, "without NaN and +inf", value)


def points(name: str, x: Any, dim: int) -> None:
    """Require points in `dim` dimensions, [n, d]."""
    fits = isinstance(x, Tensor) and x.ndim == 2 and x.shape[1] == dim and x.is_floating_point()
    require(fits, name, f"floating-point [n, {dim}]", x)


def gaussian(name: str, law: Any) -> None:
    """Require a Gaussian of a finite mean [d] and a symmetric, positive definite covariance [d, d]."""
    mean: Any = getattr(law, "mean", None)
    covariance: Any = getattr(law, "covariance", None)
    known = isinstance(mean, Tensor) and isinstance(covariance, Tensor)
    shaped = known and mean.ndim == 1 and covariance.shape == 2 * mean.shape
    require(shaped, name, "a Gaussian of mean [d] and covariance [d, d]", law)
    proper = mean.isfinite().all() and covariance.isfinite().all() and torch.allclose(covariance, covariance.mT)
    wanted = "a Gaussian with a finite mean and a symmetric, positive definite covariance"
    require(proper and torch.linalg.eigvalsh(covariance)[0] > 0, name, wanted, law)


def codes(name: str, x: Any, sizes: Sequence[int], least: int = 0) -> None:
    """Require sequences of codes, [n, T], with those of x_t from `least` to V_t − 1."""
    fits = isinstance(x, Tensor) and x.ndim == 2 and x.shape[1] == len(sizes)
    require(fits and not x.is_floating_point() and x.dtype != torch.bool, name, f"integer [n, {len(sizes)}]", x)
    outside = (x < least) | (x >= torch.tensor(sizes))
    if outside.any():
        raise refusal(name, f"codes from {least} to below the number of values", int(x[outside][0]))


def weights(value: Any) -> None:
    """Require a mapping of at least one label to a finite weight."""
    require(isinstance(value, Mapping) and value, "weights", "a mapping of at least one label to its weight", value)
    for weight in value.values():
        number("weights", weight)


def names(labels: Any, count: int) -> tuple[str, ...]:
    """Require one name per label, all different, and return them as strings; "0", "1", … for None."""
    require(not isinstance(labels, str) and isinstance(labels, Sequence | None), "labels", "a sequence of names", labels)
    named = tuple(map(str, range(count) if labels is None else labels))
    require(len(named) == count, "labels", f"one name per label, {count}", len(named))
    require(len(set(named)) == count, "labels", "all different", named)
    return named


def label(value: Any, names: Sequence[Any]) -> int | None:
    """Return the index of a label that is given by its index or its name; None stays None."""
    index = names.index(value) if isinstance(value, str) and value in names else value
    known = index is None or (isinstance(index, int) and 0 <= index < len(names))
    require(known, "label", f"one of {', '.join(map(str, names[:20]))}, or its index", value)
    return index
