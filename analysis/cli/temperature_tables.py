"""Print the ways to lower a temperature: figures of merit, differences at equal likelihood, and texts side by side."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from analysis.cli import display
from analysis.metrics.confidence import Difference
from analysis.metrics.temperature.claims import USELESS, Claim
from analysis.metrics.temperature.draws import MERITS, Point
from analysis.metrics.temperature.laws import FORMS, LIKELIHOOD
from analysis.text.tempered_texts import Measured, Pair, Target, nearest


def show(target: Target, measured: Measured, written: pd.DataFrame, count: int) -> None:
    """Print a measurement of texts.

    Args:
        target: the texts that were drawn.
        measured: the measurement.
        written: the texts, see `tempered_texts.texts`.
        count: texts of every way to print.
    """
    columns = ("way", "log p", *MERITS)
    rows = [(_way(each), *_merits(each)) for each in measured.points]
    display.table(f"{target.prompt!r}, T = {target.max_new_tokens} (nats; means ± 95 %)", columns, rows)
    columns = ("power", "other way", *MERITS)
    title = "At equal likelihood, the power p^β minus the other way (* matters, = would not matter, ? not decided)"
    display.table(title, columns, list(map(_compared, measured.pairs)))
    _claim(measured.useless())
    for each in side_by_side(measured, written, count):
        texts = Table(*(Column(name, ratio=1) for name in each["texts"]), show_lines=True, expand=True)
        for row in zip(*each["texts"].values(), strict=True):
            texts.add_row(*map(Text, row))
        print(f"Texts as likely as those of p^{each['beta']:g}")
        Console().print(texts)


def show_exact(frame: pd.DataFrame, betas: Sequence[float]) -> None:
    """Print the ways on exact laws and exact scores.

    Args:
        frame: of `analysis.experiments.temperature.exact`.
        betas: β.
    """
    from analysis.experiments.temperature import claims

    display.table("Exact laws of tokens (nats), each way / p^β of equal likelihood", *claims.at_equal_likelihood(frame))
    for law, claim in claims.useless(frame).items():
        _claim(claim, f", {law}")
    for beta in betas:
        display.table(f"The β that is reached at β = {beta:g}, and the distance to p^β", *claims.reached_cells(frame, beta))


def side_by_side(measured: Measured, written: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    """Return the first texts of every power, and of the setting of every other way with the nearest likelihood.

    Args:
        measured: the measurement.
        written: the texts.
        count: texts of every way.
    """
    shown: dict[float, dict[str, list[str]]] = {}
    for pair in measured.pairs if count else ():
        texts = shown.setdefault(pair.point.setting, {_name(pair.point): _first(written, pair.point, count)})
        other = nearest(pair, measured.points)
        if other is not None:
            texts[_name(other)] = _first(written, other, count)
    return [{"beta": beta, "texts": texts} for beta, texts in shown.items()]


def _first(written: pd.DataFrame, point: Point, count: int) -> list[str]:
    rows = written[(written["family"] == point.family) & (written["setting"] == point.setting)]
    return [text.strip() for text in rows["text"].head(count)]


def _name(point: Point) -> str:
    return FORMS[point.family].format(point.setting)


def _way(point: Point) -> str:
    return _name(point) if point.converged else f"{_name(point)}, not converged"


def _merits(point: Point) -> tuple[str, ...]:
    return tuple(f"{point.estimate(name):.2f}" for name in (LIKELIHOOD, *MERITS))


def _compared(pair: Pair) -> tuple[str, ...]:
    """Return the row of a power beside another way."""
    if pair.matched is None:
        return (_way(pair.point), f"no {pair.family}", *["–"] * len(MERITS))
    found = pair.differences()
    setting = FORMS[pair.family].format(float(f"{pair.matched.setting:.3g}"))
    return (_way(pair.point), setting, *(f"{found[name].text} {_mark(found[name])}" for name in MERITS))


def _mark(found: Difference) -> str:
    return "=" if found.small else "*" if found.clear else "?"


def _claim(claim: Claim, where: str = "") -> None:
    print(f"{USELESS}{where}: {claim.answer}" + (f" ({claim.reason})" if claim.reason else ""))
