"""Claims about other packages: the documented law against what the installed release returns, case by case.

A peer that is wrong stands beside arguide, or beside another use of the peer where arguide has no such law. Either must turn
the verdict. A peer that is right stands beside another law, mostly that at γ − 1, as if its scale were the ω of Ho and
Salimans, because a number that two right packages share shows nothing.
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
        wrong: the result by the formula that `wrong_rule` says.
        peer: runs the peer.
        ours: runs what `rule` says; None for a peer that needs no witness, because it is right.
        defect: a sentence on what the peer does wrong, without its full stop; shown while it is wrong.
        unit: what a trial is.
        rule: what `ours` is.
        wrong_rule: what `wrong` is.
        remark: a sentence on how the peer is run, or on what it documents; always shown.
    """

    where: str
    exact: Tensor
    wrong: Tensor
    peer: Callable[[], Tensor]
    ours: Callable[[], Tensor] | None
    defect: str = ""
    unit: str = "texts"
    rule: str = "arguide"
    wrong_rule: str = "γ − 1"
    remark: str = ""


def judged(cases: Iterable[Case]) -> Iterator[Claim]:
    """Yield the claims of the cases; the peers' warnings and logs are not shown."""
    with _quiet():
        found = [judge(case) for case in cases]
    yield from found


def judge(case: Case) -> Claim:
    """Return the claim that a peer is right in every trial; a peer that raises an error returns nothing, and the share is 0."""
    theirs, error = _tried(case.peer, case.exact)
    right = theirs == 1
    control, rule = share(case.wrong, case.exact), case.wrong_rule
    if case.ours:
        ours, _ = _tried(case.ours, case.exact)
        control, rule = (control, f"{rule} ({case.rule}: {ours:g})") if right else (ours, case.rule)
    notes = (case.remark, "" if right else f"{case.defect}{error}.")
    return Claim(
        case.where,
        f"share of {TRIALS} {case.unit} that are right" + ("; it raises an error, which counts as 0" if error else ""),
        1.0,
        theirs,
        control,
        rule,
        note=" ".join(filter(None, notes)),
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
        return 0.0, f"; it raises {type(error).__name__}: {first}"


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
