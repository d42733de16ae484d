"""A claim: what a source has in print, the number found here, and what would turn the verdict.

A source prints a number, or a formula, which is evaluated here, or a statement in words, for which a bound is set here, `<` or
`>`. A claim is *reproduced* if the two numbers agree within the rounding of the printed one plus an interval of 95 %, and
*differs* otherwise. Every claim has a control: the number under another rule. If control and ours both agree with the source,
the errors are too wide to separate the rules: the claim is *not decided*.
"""

import math
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import NamedTuple

from analysis.metrics.confidence import Estimate

PRINTED, FORMULA, WORDS = "number", "formula", "words"
REPRODUCED, DIFFERS, UNDECIDED = "reproduced", "differs", "not decided"
EXACT = 1e-6  # relative; for a formula, which has no rounding


class Claim(NamedTuple):
    """A published number beside the number found here.

    Attributes:
        where: the place in the source, for example "table 1".
        claim: what the number is.
        published: the number as it is in print, "4.984", or a bound for a claim in words, "> 0.1"; a float for a formula.
        ours: the number found here, by a way that does not use the source's formula.
        control: the number under another rule.
        rule: that other rule, in a few words.
        std_error: of the difference: that of `ours`, and that of the printed number if it is from draws; 0 if both are exact.
        note: how `ours` is derived, and where the source is wrong or leaves something open.
        freedom: degrees of freedom of the standard error, one less than the number of runs that it is from; many by default.
    """

    where: str
    claim: str
    published: str | float
    ours: float
    control: float
    rule: str
    std_error: float = 0.0
    note: str = ""
    freedom: float = math.inf

    @property
    def kind(self) -> str:
        """The kind of statement that the source prints: a number, a formula, or words."""
        return FORMULA if not isinstance(self.published, str) else PRINTED if self.relation == "=" else WORDS

    @property
    def half(self) -> float:
        """Half the width of the 95 % interval of the difference."""
        return Estimate(self.ours, self.std_error, self.freedom).half

    @property
    def relation(self) -> str:
        """The first character of a bound, or "="."""
        return self.published[0] if isinstance(self.published, str) and self.published[0] in "<>" else "="

    @property
    def value(self) -> float:
        """The published number, or the bound."""
        return float(self.published.lstrip("<> ")) if isinstance(self.published, str) else self.published

    @property
    def rounding(self) -> float:
        """Half of the last printed digit; for a formula what float64 may lose, and 0 for a bound."""
        if not isinstance(self.published, str):
            return EXACT * max(1.0, abs(self.published))
        return 0.0 if self.relation != "=" else 0.5 * 10.0 ** -len(self.published.partition(".")[2])

    @property
    def difference(self) -> float:
        """Ours − published."""
        return self.ours - self.value

    @property
    def verdict(self) -> str:
        """The verdict: reproduced, differs, or not decided."""
        verdict = self._judge(self.ours)
        return UNDECIDED if verdict == REPRODUCED == self._judge(self.control) else verdict

    @property
    def turned(self) -> bool:
        """True if the control and ours get different verdicts."""
        return self._judge(self.control) != self._judge(self.ours)

    def _judge(self, number: float) -> str:
        gap, slack = number - self.value, self.rounding + self.half
        if self.relation == "=":
            return REPRODUCED if abs(gap) <= slack else DIFFERS
        beyond = gap if self.relation == ">" else -gap
        return UNDECIDED if abs(beyond) <= slack else REPRODUCED if beyond > 0 else DIFFERS


class Source(NamedTuple):
    """A source, and the computation of its claims.

    Attributes:
        key: its name for `--only`, which is its arXiv number where it has one.
        title: authors, title and year.
        url: where it is.
        claims: seed ↦ its claims.
        read: what the printed numbers were taken from.
        package: an optional package that the claims run; without it there are none.
    """

    key: str
    title: str
    url: str
    claims: Callable[[int], Iterator[Claim]]
    read: str = "its text"
    package: str = ""

    @property
    def missing(self) -> str:
        """The line that says how to install a missing package, or ""."""
        there = not self.package or find_spec(self.package) is not None
        return "" if there else f"{self.package} is not installed; try pip install 'arguide[{self.package}]'"


def arxiv(number: str, title: str, claims: Callable[[int], Iterator[Claim]], read: str = "its text") -> Source:
    """Return a paper on arXiv as a source.

    Args:
        number: its arXiv number.
        title: authors, title and year.
        claims: seed ↦ its claims.
        read: what the printed numbers were taken from.
    """
    return Source(number, title, f"https://arxiv.org/abs/{number}", claims, read)
