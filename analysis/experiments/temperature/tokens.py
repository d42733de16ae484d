r"""Temperature of an autoregressive model on exact laws: the gap of the two laws, and all ways at equal likelihood.

Every setting of the temperature of the factors, of top-k and of top-p is compared with the power p^β* that has the same mean
log-likelihood, see `analysis.metrics.tempered_laws`.
"""

import math
from collections.abc import Iterator, Sequence

import torch

from analysis.frames import Row, per_quantity
from analysis.metrics import distances
from analysis.metrics.effective_beta import effective_beta
from analysis.metrics.tempered_laws import LENGTH, LIKELIHOOD, SEQUENTIAL, TOP_K, TOP_P, OfTable, Way, ways
from analysis.toys import GaussianSequence, gaussian, temperature
from analysis.toys.example_tables import coupled_table, independent_table

TEMPERATURES = (0.3, 0.4, 0.5, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0, 3.0)
BETAS = (1.25, 1.5, 2.0, 3.0, 5.0)
SETTINGS: dict[str, Sequence[float]] = {SEQUENTIAL: BETAS, TOP_K: (1, 2), TOP_P: (0.35, 0.5, 0.65, 0.8, 0.9)}
COUPLED, INDEPENDENT, SEQUENCE = "coupled", "independent x_t", "Gaussian sequence"
TABLES = {COUPLED: coupled_table, INDEPENDENT: independent_table}
LONG = 5


def rows(lengths: Sequence[int], temperatures: Sequence[float], settings: dict[str, Sequence[float]]) -> Iterator[Row]:
    """Yield the gaps of tables and of Gaussian sequences, and the ways to lower the temperature of tables.

    Args:
        lengths: T of the gaps of tables.
        temperatures: τ of the gaps.
        settings: of the ways, {family: settings}; a k that keeps every token is left out.
    """
    for tau in temperatures:
        yield from _gaussian(LONG, tau)
        for length in lengths:
            yield from _gap(length, tau)
    for law, make in TABLES.items():
        table = make(LONG)
        kept = settings | {TOP_K: [k for k in settings[TOP_K] if k < max(table.shape)]}
        yield from compared({"law": law, LENGTH: LONG}, ways(OfTable(table), kept))


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
