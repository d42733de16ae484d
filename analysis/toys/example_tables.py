r"""Example distributions of the experiments: small tables of sequences with a given coupling, and Gaussian mixtures."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from analysis.toys.mixture import GaussianMixture
from analysis.toys.table import Table

INDEPENDENT, FIRST, CONSTANT = "independent x_t", "y seen at step 1 only", "Z_t free of the prefix"


def coupled_table(length: int, coupling: float = 1.0, size: int = 3, seed: int = 0) -> Table:
    """Return p(y, x) ∝ exp(Σ_t 0.6 a[y, x_t] + Σ_t c b[y, x_{t−1}, x_t]) with standard normal a and b.

    Args:
        length: T.
        coupling: c.
        size: V, the number of values of every x_t.
        seed: seed of a and b.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    own, pair = normal(2, size), normal(2, size, size)
    logits = 0.6 * own
    for _ in range(length - 1):
        ones = (1,) * (logits.ndim - 2)
        step = coupling * pair.reshape(2, *ones, size, size) + 0.6 * own.reshape(2, *ones, 1, size)
        logits = logits[..., None] + step
    return Table.from_log(logits)


def special_tables(length: int) -> dict[str, Table]:
    """Return three tables on which joint and sequential guidance agree; the post names independence only."""
    own = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.3, 0.5]], dtype=torch.float64)
    first = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]], dtype=torch.float64)
    step = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]], dtype=torch.float64)
    return {
        INDEPENDENT: Table(_informed_once(own, own.mean(0).expand(3, 3), length, at=length - 1)),
        FIRST: Table(_informed_once(first, step, length, at=0)),
        CONSTANT: Table(_informed_once(own, step, length, at=length - 1)),
    }


def _informed_once(own: Tensor, step: Tensor, length: int, at: int) -> Tensor:
    """Return p(y, x): a Markov chain of kernel `step` in which only x_at depends on y, with x_at ~ own[y] given its past.

    Args:
        own: p(x_at | y), [2, V].
        step: p(x_{t+1} | x_t), [V, V].
        length: T.
        at: position, counted from 0.
    """
    log_p = own.log() if at == 0 else own.mean(0).log()[None]
    for t in range(1, length):
        kernel = own[:, None].expand(2, *step.shape) if t == at else step.expand(2, -1, -1)
        log_p = log_p[..., None] + kernel.log().reshape(2, *(1,) * (log_p.ndim - 2), *step.shape)
    return log_p.exp() / 2


def independent_table(length: int) -> Table:
    """Return p(x) = Π_t p_t(x_t) under one label, with a different law p_t at every position."""
    log_p = torch.zeros(1, dtype=torch.float64)
    for t in range(length):
        log_p = log_p[..., None] + torch.linspace(0, 0.5 + 0.4 * t, 3, dtype=torch.float64)
    return Table.from_log(log_p)


def two_modes() -> GaussianMixture:
    """Return ¾ N(−1.5, 0.5) + ¼ N(1.5, 0.5). Its p^β moves mass between the modes, and rules for Gaussians do not."""
    return GaussianMixture(torch.tensor([[-1.5], [1.5]]), torch.full((2,), 0.5), torch.tensor([[0.75, 0.25]]))


def one_gaussian() -> GaussianMixture:
    """Return N(0, 1)."""
    return GaussianMixture(torch.zeros(1, 1), torch.ones(1), torch.ones(1, 1))


def two_classes(separation: float = 1.0) -> GaussianMixture:
    """Return ½ N(μ, 1) under label 0 and ½ N(−μ, 1) under label 1."""
    return GaussianMixture(torch.tensor([[separation], [-separation]]), torch.ones(2), torch.tensor([0.5, 0.5]))


def crowded_line() -> GaussianMixture:
    """Return four Gaussians on the line, two under each label, whose labels alternate and overlap."""
    means = torch.tensor([[-3.0], [-1.0], [1.0], [3.0]])
    weights = torch.tensor([[0.3, 0.0, 0.2, 0.0], [0.0, 0.2, 0.0, 0.3]])
    return GaussianMixture(means, torch.full((4,), 0.5), weights)


def trees(depth: int = 5, pieces: int = 3) -> GaussianMixture:
    """Return two branching curves in the plane, one per label, of thin Gaussians; some of their branches cross.

    Args:
        depth: number of times that a branch splits in two, counted with the trunk.
        pieces: Gaussians per branch, each along it.
    """
    means, covariances, weights = [], [], []
    for label, (start, angle) in enumerate((((-0.8, -0.3), 0.35), ((0.8, 0.0), 2.75))):
        for mean, direction, length, share in _branches(torch.tensor(start, dtype=torch.float64), angle, 0.55, 1.0, depth):
            for piece in range(pieces):
                means.append(mean + direction * length * (piece + 0.5) / pieces)
                covariances.append(torch.outer(direction, direction) * (length / pieces / 2) ** 2 + 2e-4 * torch.eye(2))
                weights.append(torch.eye(2)[label] * share / pieces)
    mass = torch.stack(weights, 1).double()
    return GaussianMixture(torch.stack(means), torch.stack(covariances), mass / mass.sum())


def _branches(
    start: Tensor, angle: float, length: float, share: float, depth: int
) -> Iterator[tuple[Tensor, Tensor, float, float]]:
    """Yield the start, direction, length and mass of a branch and of all that grow from it."""
    direction = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    yield start, direction, length, share / depth
    if depth > 1:
        for turn in (0.55, -0.45):
            rest = share * (1 - 1 / depth) / 2
            yield from _branches(start + length * direction, angle + turn, 0.68 * length, rest, depth - 1)
