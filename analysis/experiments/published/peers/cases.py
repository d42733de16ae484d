"""Claims about other packages: the documented law against what the installed release returns, case by case.

A peer that is wrong stands beside arguide, which must turn the verdict. A peer that is right stands beside the law at γ − 1, as
if its scale were the ω of Ho and Salimans, because a number that two right packages share shows nothing.
"""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import NamedTuple

from torch import Tensor

from analysis.experiments.published.claims import Claim

TRIALS = 8


class Case(NamedTuple):
    """One use of a peer, [TRIALS, …] for every result.

    Attributes:
        where: the use.
        exact: the result by the documented formula.
        wrong: the same at γ − 1.
        peer: runs the peer.
        ours: runs arguide, or what `rule` says.
        defect: a sentence on what the peer does wrong, without its full stop; shown while it is wrong.
        unit: what a trial is.
        rule: what `ours` is.
    """

    where: str
    exact: Tensor
    wrong: Tensor
    peer: Callable[[], Tensor]
    ours: Callable[[], Tensor]
    defect: str = ""
    unit: str = "texts"
    rule: str = "arguide"


def judged(cases: Iterable[Case]) -> Iterator[Claim]:
    """Yield the claims of the cases; the peers' warnings and logs are not shown."""
    with _quiet():
        found = [judge(case) for case in cases]
    yield from found


def judge(case: Case) -> Claim:
    """Return the claim that a peer is right in every trial, which an exception makes wrong in all of them."""
    theirs, error = _tried(case.peer, case.exact)
    ours, _ = _tried(case.ours, case.exact)
    right = theirs == 1
    return Claim(
        case.where,
        f"share of {TRIALS} {case.unit} that are right",
        1.0,
        theirs,
        share(case.wrong, case.exact) if right else ours,
        f"γ − 1 ({case.rule}: {ours:g})" if right else case.rule,
        note="" if right else f"{case.defect}{error}.",
    )


def share(found: Tensor, exact: Tensor) -> float:
    """Return the share of trials in which a result is the exact one; NaN is not, and −∞ is where both have it."""
    if found.shape != exact.shape:
        return 0.0
    close = found.double().isclose(exact.double(), rtol=1e-4, atol=1e-5)
    return float(close.flatten(1).all(1).double().mean())


def version(package: str) -> str:
    """Return the name and the installed version of a package."""
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} (not installed)"


def _tried(run: Callable[[], Tensor], exact: Tensor) -> tuple[float, str]:
    """Return the share, and how an exception reads in a note."""
    try:
        return share(run(), exact), ""
    except Exception as error:  # whatever a peer raises, the other cases are still run
        first = next(iter(str(error).splitlines()), "").rstrip(".")
        return 0.0, f"; {type(error).__name__}: {first}"


@contextmanager
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
