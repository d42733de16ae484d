r"""Temperature of an autoregressive model on exact laws: the gap of the two laws, and all ways at equal likelihood.

Every setting of the temperature of the factors, of top-k and of top-p is compared with the power p^β* that has the same mean
log-likelihood, see `analysis.metrics.temperature.laws`.
"""

import math
from collections.abc import Iterator, Sequence

import torch

from analysis.experiments.base import stream
from analysis.frames import Row, per_quantity
from analysis.learning import toy_stories
from analysis.metrics import distances
from analysis.metrics.confidence import mean_of
from analysis.metrics.temperature.draws import counted, repeated
from analysis.metrics.temperature.effective_beta import effective_beta
from analysis.metrics.temperature.laws import (
    LENGTH,
    LIKELIHOOD,
    REPEATED,
    SEQUENTIAL,
    SIZE,
    TOP_K,
    TOP_P,
    OfLength,
    OfTable,
    OfTexts,
    Way,
    ways,
)
from analysis.toys import GaussianSequence, gaussian, temperature
from analysis.toys.example_tables import coupled_table, independent_table
from analysis.toys.ngrams import NgramModels
from analysis.toys.ngrams.models import codes_of

TEMPERATURES = (0.3, 0.4, 0.5, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0, 3.0)
BETAS = (1.25, 1.5, 2.0, 3.0, 5.0)
SETTINGS: dict[str, Sequence[float]] = {SEQUENTIAL: BETAS, TOP_K: (1, 2), TOP_P: (0.35, 0.5, 0.65, 0.8, 0.9)}
COUPLED, INDEPENDENT, SEQUENCE = "coupled", "independent x_t", "Gaussian sequence"
STORY, SAME_LENGTH = "stories", "stories, equal length"
STORIES, ORDER, GROUPS = 1000, 4, 32
TEXTS: dict[str, Sequence[float]] = {SEQUENTIAL: BETAS, TOP_K: (2, 3, 5, 10), TOP_P: (0.8, 0.9)}
TABLES = {COUPLED: coupled_table, INDEPENDENT: independent_table}
LONG = 5


def rows(
    lengths: Sequence[int],
    temperatures: Sequence[float],
    settings: dict[str, Sequence[float]],
    texts: dict[str, Sequence[float]],
) -> Iterator[Row]:
    """Yield the gaps of tables and of Gaussian sequences, and the ways to lower the temperature of tables.

    Args:
        lengths: T of the gaps of tables.
        temperatures: τ of the gaps.
        settings: of the ways on tables, {family: settings}; a k that keeps every token is left out.
        texts: of the ways on stories.
    """
    for tau in temperatures:
        yield from _gaussian(LONG, tau)
        for length in lengths:
            yield from _gap(length, tau)
    for law, make in TABLES.items():
        yield from of_table(law, OfTable(make(LONG)), settings)
    yield from of_texts(STORY, stories(), texts)
    yield from of_texts(SAME_LENGTH, stories(OfLength), texts)


def of_table(name: str, laws: OfTable, settings: dict[str, Sequence[float]]) -> Iterator[Row]:
    """Yield the ways to lower the temperature of a table; a k that keeps every token is left out.

    Args:
        name: of the law.
        laws: of the table.
        settings: {family: settings}.
    """
    kept = settings | {TOP_K: [k for k in settings[TOP_K] if k < max(laws.table.shape)]}
    return compared({"law": name, LENGTH: laws.table.length}, ways(laws, kept))


def stories(laws: type[OfTexts] = OfTexts) -> OfTexts:
    """Return the laws of an n-gram model of stories, one token per word: exact laws of whole texts."""
    texts = [story.split() for story in toy_stories.write(STORIES)]
    codes, alphabet = codes_of(texts, 1, "")
    return laws(NgramModels(codes, [0] * len(codes), ORDER, alphabet=alphabet))


def of_texts(name: str, laws: OfTexts, settings: dict[str, Sequence[float]]) -> Iterator[Row]:
    """Yield the ways to lower the temperature of texts; exact draws give the statistics of groups of texts.

    Args:
        name: of the law.
        laws: of the n-gram models.
        settings: {family: settings}.
    """
    case = {"law": name, LENGTH: laws.models.length}
    for power, beta in (("p", 1.0), ("p²", 2.0)):
        value = laws.merits(laws.power(beta))[LENGTH]
        yield case | {"family": power, "quantity": "mean length", "value": value}
    for number, each in enumerate(ways(laws, settings)):
        yield from compared(case, [each])
        row = case | {"family": each.family, "setting": float(each.setting)}
        for prefix, law in zip(("", "equal "), each.pair, strict=True):
            if law is None:
                continue
            tokens, ends = law.sample(GROUPS * SIZE, stream(0, number, len(prefix))), (laws.models.size - 1,)
            groups = counted(tokens, ends) | {REPEATED: repeated(tokens, ends).reshape(-1, SIZE).mean(1)}
            for quantity, values in groups.items():
                yield row | {"quantity": f"{prefix}{quantity}"} | mean_of(values)._asdict()


def _gap(length: int, tau: float) -> Iterator[Row]:
    """Yield the distance of the sequential law and of p from the joint one, and the β that the sequential law reaches."""
    for law, make in TABLES.items():
        table = make(length)
        log_p, _ = table.log_joint(temperature(tau))
        log_q, _ = table.log_sequential(temperature(tau))
        case = {"law": law, "family": "exact", "temperature": tau, LENGTH: length}
        laws = OfTable(table)
        numbers = {
            "kl_sequential_joint": distances.kl(log_q, log_p),
            "kl_untempered_joint": distances.kl(table.log_probs(), log_p),
            "effective_beta": effective_beta(laws.mean, laws.merits(log_q)[LIKELIHOOD]),
        }
        yield from per_quantity(case, numbers)


def _gaussian(length: int, tau: float) -> Iterator[Row]:
    law = GaussianSequence(length).law()
    joint, sequential = gaussian.tilt([law], [1 / tau]).law, gaussian.sequential_tilt([law], [1 / tau]).law
    case = {"law": SEQUENCE, "family": "exact", "temperature": tau, LENGTH: length}
    numbers = {
        "kl_sequential_joint": gaussian.kl(sequential, joint).abs(),
        "kl_untempered_joint": gaussian.kl(law, joint).abs(),
        "effective_beta": length / (torch.linalg.inv(law.covariance) @ sequential.covariance).trace(),
    }
    yield from per_quantity(case, numbers)


def compared(case: Row, found: Sequence[Way]) -> Iterator[Row]:
    """Yield the figures of merit of every setting, of the power of equal likelihood ("equal …"), its β*, and the lost entropy.

    Args:
        case: columns of all rows.
        found: the settings.
    """
    for each in found:
        row = case | {"family": each.family, "setting": float(each.setting)}
        equal = {f"equal {name}": value for name, value in each.equal.items()}
        numbers = each.merits | equal | {"effective_beta": each.beta, "lost": each.lost}
        yield from per_quantity(row, {name: value for name, value in numbers.items() if math.isfinite(value)})
