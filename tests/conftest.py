"""What the tests share, as fixtures: asymmetric tables, plain-loop laws of them, and replay of every branch of a sampler."""

import math
import os
import signal
from itertools import product
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest
import torch

torch.set_num_threads(1)

DATA = Path(__file__).parents[1].parent / "shared" / "data"


def make_joint(seed=0, shape=(2, 3, 3), zeros=0.0):
    """Return a joint table, float64, asymmetric and not factorised; about a fraction `zeros` of its cells is 0."""
    rng = np.random.default_rng(seed)
    joint = rng.gamma(0.8, size=shape) + 0.02
    joint[rng.random(shape) < zeros] = 0.0
    for y in range(shape[0]):  # no label has probability 0
        joint[y].flat[y % joint[y].size] += 0.1
    return joint / joint.sum()


class Brute:
    """Every law of a log-linear combination {label: weight} of a joint table, by loops over x in probability space."""

    def __init__(self, joint, weights):
        laws = [(joint.sum(0) if y is None else joint[y] / joint[y].sum(), w) for y, w in weights.items() if w != 0]
        shape = joint.shape[1:]
        self.joint, self.sequential = np.zeros(shape), np.zeros(shape)
        self.normalizers, self.steps = {}, {}
        for x in product(*map(range, shape)):
            self.joint[x] = self._tilt([(law[x], w) for law, w in laws])
        self.z = self.joint.sum()
        self.joint /= self.z
        for t, size in enumerate(shape):
            for prefix in product(*map(range, shape[:t])):
                marginals = [(law[prefix].reshape(size, -1).sum(1), w) for law, w in laws]
                rows = [(m / m.sum() if m.sum() > 0 else m, w) for m, w in marginals]
                step = np.array([self._tilt([(row[v], w) for row, w in rows]) for v in range(size)])
                self.normalizers[prefix] = step.sum()
                self.steps[prefix] = step / step.sum() if step.sum() > 0 else step
        for x in product(*map(range, shape)):
            self.sequential[x] = math.prod(self.steps[x[:t]][x[t]] for t in range(len(shape)))

    @staticmethod
    def _tilt(pairs):
        if any(p == 0 and w > 0 for p, w in pairs) or all(p == 0 for p, _ in pairs):
            return 0.0
        if any(p == 0 for p, _ in pairs):
            raise ValueError("improper tilt")
        return math.prod(p**w for p, w in pairs)


def every_branch(run):
    """Yield (probability, result) of run(choose) for every way the calls choose(probabilities) ↦ index can go."""
    pending = [()]
    while pending:
        forced, taken, mass = pending.pop(), [], [1.0]

        def choose(probabilities, forced=forced, taken=taken, mass=mass):
            options = [i for i, p in enumerate(probabilities) if p > 0]
            if len(taken) < len(forced):
                index = forced[len(taken)]
            else:
                index = options[0]
                pending.extend((*taken, other) for other in options[1:])
            taken.append(index)
            mass[0] *= probabilities[index]
            return index

        result = run(choose)
        yield mass[0], result


def drawing(choose):
    """Return the draw seam that asks `choose` for every row's token."""
    return lambda log_probs: torch.tensor([choose(row) for row in log_probs.exp().tolist()])


def replayed_law(sample, shape):
    """Return the exact law, [V_1, …, V_T], of sample(draw) ↦ tokens [1, T]."""
    law = np.zeros(shape)
    for mass, tokens in every_branch(lambda choose: sample(drawing(choose))):
        law[tuple(tokens[0].tolist())] += mass
    return law


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Let interrupts through as in a terminal: a shell starts what runs in the background without them, and tests send some."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(name="make_joint", scope="session")
def _make_joint():
    return make_joint


@pytest.fixture(scope="session")
def brute():
    return Brute


@pytest.fixture(scope="session")
def replay():
    return replayed_law


@pytest.fixture(scope="session")
def branches():
    return every_branch


@pytest.fixture(scope="session")
def seam():
    return drawing


@pytest.fixture(scope="session", params=[(3, (2, 3, 3), 0.0), (5, (3, 2, 3, 2), 0.0), (8, (2, 3, 2, 3), 0.3)], ids=str)
def joint(request):
    """Float64 tables [y, x_1, …, x_T], asymmetric and not factorised, one with zeros."""
    seed, shape, zeros = request.param
    return make_joint(seed, shape, zeros)


@pytest.fixture(scope="session")
def data():
    """Folder of real inputs beside the repository."""
    if not DATA.is_dir():
        pytest.skip("the real inputs are not beside the repository")
    return DATA
