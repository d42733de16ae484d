"""Check that numbers and sizes fit into this machine, before anything is computed."""

import math
import os
from collections.abc import Iterable

LARGEST = 2**63 - 1
WIDEST = 1e30  # log-probabilities times this are finite in float32
GIGA = 1e9


def check_memory(what: str, numbers: float, width: int = 4) -> None:
    """Refuse a computation that exceeds the memory of this machine.

    Args:
        what: the options that decide it, with their values.
        numbers: how many numbers it keeps, at least.
        width: bytes per number.

    Raises:
        ValueError: more memory than the machine has.
    """
    asked, here = numbers * width / GIGA, _memory() / GIGA
    if asked > here:
        raise ValueError(f"{what} must fit into the memory of {here:.3g} GB, got at least {asked:.3g} GB; try smaller ones")


def _memory() -> float:
    """Return the memory of this machine in bytes, or ∞ if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


def check_network(what: str, width: int, depth: int, copies: int = 4) -> None:
    """Refuse a network that exceeds the memory of this machine; it has at least 6 · width² weights per layer.

    Args:
        what: the options that decide it, with their values.
        width: the width of a layer.
        depth: the number of layers.
        copies: numbers per weight: 4 in a training, which also keeps a gradient and two moments.

    Raises:
        ValueError: more memory than the machine has.
    """
    check_memory(what, copies * 6 * width**2 * depth)


def check_range(option: str, value: float) -> None:
    """Refuse a temperature or a power that is not positive, or that float32 cannot represent together with its inverse.

    Args:
        option: the option that gives the number.
        value: the number.

    Raises:
        ValueError: such a number.
    """
    if not 1 / WIDEST <= value <= WIDEST:
        raise ValueError(f"{option} must be positive, between {1 / WIDEST:g} and {WIDEST:g}, got {value:g}; try 1")


def check_temperatures(betas: Iterable[float], top_k: Iterable[float], top_p: Iterable[float]) -> None:
    """Refuse settings of ways to lower a temperature that are out of range.

    Args:
        betas: β of --beta.
        top_k: k of --top-k.
        top_p: p of --top-p.

    Raises:
        ValueError: β ≤ 0, a k that is no whole number or below 1, or p outside (0, 1].
    """
    for beta in betas:
        check_range("--beta", beta)
    for k in top_k:
        if not (k >= 1 and k == int(k)):
            raise ValueError(f"--top-k must be whole numbers of at least 1, got {k:g}; try 1,5,50")
    for p in top_p:
        if not 0 < p <= 1:
            raise ValueError(f"--top-p must be in (0, 1], got {p:g}; try .5,.9")


def alone() -> bool:
    """Return whether this is the only process, by the environment variable that torchrun sets."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1
