"""What this machine and its numbers hold, checked before anything is computed."""

import math
import os

LARGEST = 2**63 - 1
WIDEST = 1e30  # log-probabilities times this are finite in float32
GIGA = 1e9


def check_memory(what: str, numbers: float, width: int = 4) -> None:
    """Refuse a computation that no memory here holds.

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
    """Return the bytes of memory of this machine, ∞ where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


def check_network(what: str, width: int, depth: int, copies: int = 4) -> None:
    """Refuse a network that no memory here holds, of at least 6 · width² weights per layer.

    Args:
        copies: numbers per weight; a training keeps its gradient and two moments beside it.

    Raises:
        ValueError: more memory than the machine has.
    """
    check_memory(what, copies * 6 * width**2 * depth)


def check_range(option: str, value: float) -> None:
    """Refuse a temperature or a power that is not positive, or that float32 does not hold together with its inverse.

    Raises:
        ValueError: such a number.
    """
    if not 1 / WIDEST <= value <= WIDEST:
        raise ValueError(f"{option} must be positive, between {1 / WIDEST:g} and {WIDEST:g}, not {value:g}")
