"""Exact laws against enumeration in numpy, and what chains and n-gram models cost as they grow."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from analysis import MarkovChain, NgramModels, Table
from analysis.toys import guidance
from benchmarks.timing import Case, Ratio

Array = npt.NDArray[np.float64]
LABEL, SCALE = 1, 3.0


def cases() -> Iterator[Case]:
    """Yield the exact laws on a small and a large table, chains of three lengths, and n-gram models of three sizes."""
    small, large = random_joint(3, 8), random_joint(5, 8)
    for joint in (small, large[:, :2, :2, :2]):
        _agree(joint)
    yield Case(
        "exact laws, V = 3, T = 8",
        {
            "loop": lambda: loop(small, LABEL, SCALE),
            "numpy": lambda: vectorised(small, LABEL, SCALE),
            "arguide": lambda: arguide_laws(small, LABEL, SCALE),
        },
        (
            Ratio("numpy, loop over sequences ÷ arguide", "loop", "arguide"),
            Ratio("numpy, vectorised ÷ arguide", "numpy", "arguide"),
        ),
    )
    yield Case(
        "exact laws, V = 5, T = 8",
        {"numpy": lambda: vectorised(large, LABEL, SCALE), "arguide": lambda: arguide_laws(large, LABEL, SCALE)},
        (Ratio("numpy, vectorised ÷ arguide", "numpy", "arguide"),),
    )
    yield Case(
        "chain, V = 27: joint and sequential law, KL",
        {str(length): GapJob(chain(length)) for length in (100, 1000, 10_000)},
        (Ratio("T = 10³ ÷ T = 10²", "1000", "100"), Ratio("T = 10⁴ ÷ T = 10³", "10000", "1000")),
    )
    short, longer, more = ngrams(1500, 30), ngrams(1500, 300), ngrams(30_000, 30)
    yield Case(
        "n-gram models of order 5, V = 28: the same laws of whole texts",
        {"short": GapJob(short), "longer": GapJob(longer), "more": GapJob(more)},
        (
            Ratio(f"T = 300 ÷ T = 30, {short.states:,} contexts", "longer", "short"),
            Ratio(f"{more.states:,} ÷ {short.states:,} contexts, T = 30", "more", "short"),
        ),
    )


def random_joint(size: int, length: int) -> Array:
    """Return a positive joint table [2, V, …, V]."""
    joint = np.random.default_rng(0).exponential(size=(2, *(size,) * length))
    return joint / joint.sum()


def arguide_laws(joint: Array, label: int, scale: float) -> tuple[Array, Array]:
    """Return the joint and the sequential law in log space, from a table that has cached nothing."""
    table = Table(joint)
    weights = guidance(label, scale)
    return table.log_joint(weights)[0].numpy(), table.log_sequential(weights)[0].numpy()


def vectorised(joint: Array, label: int, scale: float) -> tuple[Array, Array]:
    """Return the same as whole-array operations, for tables without zeros."""
    uncond, cond = joint.sum(0), joint[label] / joint[label].sum()
    logits = (1 - scale) * np.log(uncond) + scale * np.log(cond)
    log_q: Array = np.zeros(())
    for t in range(uncond.ndim):
        step = (1 - scale) * _log_conditional(uncond, t) + scale * _log_conditional(cond, t)
        log_q = log_q[..., None] + step - _logsumexp(step)
    return logits - _logsumexp(logits.reshape(-1)).reshape(()), log_q


def loop(joint: Array, label: int, scale: float) -> tuple[Array, Array]:
    """Return the same, one sequence and one token at a time; only the prefix sums are arrays."""
    uncond, cond = joint.sum(0), joint[label] / joint[label].sum()
    sums = [(uncond.sum(tuple(range(t, uncond.ndim))), cond.sum(tuple(range(t, uncond.ndim)))) for t in range(uncond.ndim + 1)]
    log_p, log_q = np.empty_like(uncond), np.empty_like(uncond)
    for x in itertools.product(*map(range, uncond.shape)):
        log_p[x] = (1 - scale) * np.log(uncond[x]) + scale * np.log(cond[x])
        log_q[x] = 0.0
        for t, (u, c) in enumerate(sums[1:]):
            behind_u, behind_c = sums[t][0][x[:t]], sums[t][1][x[:t]]
            tilted = (u[x[:t]] / behind_u) ** (1 - scale) * (c[x[:t]] / behind_c) ** scale
            log_q[x] += np.log(tilted[x[t]] / tilted.sum())
    return log_p - np.log(np.exp(log_p).sum()), log_q


def chain(length: int, size: int = 27) -> MarkovChain:
    """Return two random chains of one length."""
    generator = torch.Generator().manual_seed(0)
    initial = torch.rand(2, size, generator=generator, dtype=torch.float64)
    transition = torch.rand(2, size, size, generator=generator, dtype=torch.float64)
    return MarkovChain(initial / initial.sum(-1, keepdim=True), transition / transition.sum(-1, keepdim=True), length)


def ngrams(texts: int, length: int, size: int = 27) -> NgramModels:
    """Return models of order 5 of random texts with two labels, whose tokens are as uneven as letters."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, size + 1)
    rows = [rng.choice(size, rng.integers(3, 15), p=shares / shares.sum()).tolist() for _ in range(texts)]
    return NgramModels(rows, [i % 2 for i in range(texts)], 5, alphabet=list(map(chr, range(97, 97 + size))), length=length)


class GapJob:
    """Both guided laws of a chain or of n-gram models, and KL(sequential ‖ joint)."""

    def __init__(self, models: MarkovChain | NgramModels) -> None:
        self._models = models

    def __call__(self) -> torch.Tensor:
        """Return the KL, []."""
        joint: Any = self._models.joint_guided(LABEL, SCALE)
        sequential: Any = self._models.sequential_guided(LABEL, SCALE)[0]
        found: torch.Tensor = sequential.kl(joint)
        return found


def _log_conditional(p: Array, t: int) -> Array:
    ahead, behind = (p.reshape(*p.shape[:k], -1).sum(-1) for k in (t + 1, t))
    return np.log(ahead) - np.log(behind)[..., None]


def _logsumexp(logits: Array) -> Array:
    top = logits.max(-1, keepdims=True)
    total: Array = top + np.log(np.exp(logits - top).sum(-1, keepdims=True))
    return total


def _agree(joint: Array) -> None:
    joint = joint / joint.sum()
    ours = arguide_laws(joint, LABEL, SCALE)
    for peer in (loop, vectorised):
        for law, theirs in zip(ours, peer(joint, LABEL, SCALE), strict=True):
            np.testing.assert_allclose(law, theirs, atol=1e-9)
