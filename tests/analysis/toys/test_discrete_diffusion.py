"""Exact laws of guided discrete diffusion, against loops over x, over orders of unmasking and over the states of a chain."""

import math
from itertools import pairwise, permutations, product

import numpy as np
import pytest
import torch

from analysis.toys import Table, guidance
from analysis.toys.discrete_diffusion import masked_law, uniform_law

BITS = torch.tensor([[[0.4, 0.3], [0.2, 0.1]], [[0.1, 0.2], [0.3, 0.4]]], dtype=torch.float64) / 2
PRINTED = {  # theory B4
    False: [0.008132, 0.073846, 0.251513, 0.666509],
    True: [0.008136, 0.075290, 0.247730, 0.668845],
}


def brute_masked(joint, gamma, normalized):
    """Return the law by walking every order of every x; conditionals are sums over the whole table."""
    laws, shape = [(joint[1] / joint[1].sum(), gamma), (joint.sum(0), 1 - gamma)], joint.shape[1:]

    def rate(known, j, v):
        rates = []
        for law, w in laws:
            fits = {x: law[x] for x in product(*map(range, shape)) if all(x[i] == a for i, a in known.items())}
            p = sum(mass for x, mass in fits.items() if x[j] == v) / sum(fits.values())
            rates.append(0.0 if p == 0 else p**w)
        return math.prod(rates)

    found = np.zeros(shape)
    for x in product(*map(range, shape)):
        if joint[1][x] == 0:
            continue
        for order in permutations(range(len(shape))):
            mass, known = 1.0, {}
            for j in order:
                z = {i: sum(rate(known, i, v) for v in range(shape[i])) for i in range(len(shape)) if i not in known}
                mass *= rate(known, j, x[j]) / (len(z) * z[j] if normalized else sum(z.values()))
                known[j] = x[j]
            found[x] += mass
    return found


def brute_uniform(joint, gamma, steps=2000, end=30.0):
    """Return the law by Heun's steps of the guided chain's generator, a matrix over all states filled by loops."""
    shape, states = joint.shape[1:], list(product(*map(range, joint.shape[1:])))

    def noised(law, t):
        found = np.zeros(len(states))
        for i, x in enumerate(states):
            for a in states:
                hops = [math.exp(-t) * (u == v) + (1 - math.exp(-t)) / size for u, v, size in zip(x, a, shape, strict=True)]
                found[i] += law[a] * math.prod(hops)
        return found

    modes = {}  # noised laws are polynomials in exp(−t), one degree a token: solve for the coefficients once
    nodes = np.linspace(0.1, 3, len(shape) + 1)
    for name, law in (("c", joint[1] / joint[1].sum()), ("u", joint.sum(0))):
        powers = np.exp(-nodes[:, None] * np.arange(len(shape) + 1))
        modes[name] = np.linalg.solve(powers, np.stack([noised(law, t) for t in nodes]))

    def generator(t):
        power = np.exp(-t * np.arange(len(shape) + 1))
        pi = (power @ modes["c"]) ** gamma * (power @ modes["u"]) ** (1 - gamma)
        q = np.zeros((len(states),) * 2)
        for i, x in enumerate(states):
            for j, a in enumerate(states):
                apart = [size for u, v, size in zip(x, a, shape, strict=True) if u != v]
                if len(apart) == 1:
                    q[j, i] = pi[j] / pi[i] / apart[0]
        return q - np.diag(q.sum(0))

    law = np.full(len(states), 1 / len(states))
    grid = np.linspace(0, 1, steps + 1)[::-1] ** 3 * end
    last = generator(grid[0])
    for t, s in pairwise(grid):
        first, last = last, generator(s)
        slope = first @ law
        law = law + (t - s) * (slope + last @ (law + (t - s) * slope)) / 2
    return law.reshape(shape)


@pytest.mark.parametrize("normalized", [False, True])
def test_two_bits_have_the_printed_masked_laws(normalized):
    law = masked_law(Table(BITS), guidance(1, 3.0), normalized=normalized).exp().flatten()
    np.testing.assert_allclose(law, PRINTED[normalized], atol=6e-7)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("gamma", [3.0, 0.4])
@pytest.mark.parametrize(("seed", "shape", "zeros"), [(3, (2, 3, 3), 0.0), (5, (3, 2, 3, 2), 0.0), (8, (2, 3, 2), 0.3)])
def test_masked_laws_are_sums_over_orders(make_joint, seed, shape, zeros, gamma, normalized):
    joint = make_joint(seed, shape, zeros)
    law = masked_law(Table(joint), guidance(1, gamma), normalized=normalized).exp()
    np.testing.assert_allclose(law, brute_masked(joint, gamma, normalized), rtol=0, atol=1e-12)


def test_normalised_masks_average_sequential_laws_over_orders(joint):
    found = np.zeros(joint.shape[1:])
    orders = list(permutations(range(joint.ndim - 1)))
    for order in orders:
        turned = Table(joint.transpose(0, *(axis + 1 for axis in order))).sequential_guided(1, 2.5).probabilities
        found += turned.permute(*np.argsort(order).tolist()).numpy() / len(orders)
    law = masked_law(Table(joint), guidance(1, 2.5), normalized=True).exp()
    np.testing.assert_allclose(law, found, rtol=0, atol=1e-12)


@pytest.mark.parametrize("normalized", [False, True])
def test_masks_are_exact_without_guidance_and_for_one_token(joint, normalized):
    table = Table(joint)
    for scale, label in ((0.0, None), (1.0, 1)):
        law = masked_law(table, guidance(1, scale), normalized=normalized).exp()
        np.testing.assert_allclose(law, table.log_probs(label).exp(), rtol=0, atol=1e-12)
    token = Table(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], dtype=torch.float64) / 2)
    law = masked_law(token, guidance(1, 3.0), normalized=normalized).exp()
    np.testing.assert_allclose(law, [0.006062, 0.069833, 0.924105], atol=6e-7)


@pytest.mark.parametrize(("seed", "shape"), [(1, (2, 3)), (3, (2, 3, 2))])
@pytest.mark.parametrize("gamma", [2.5, -0.4])
def test_uniform_noise_has_the_law_of_the_guided_chain(make_joint, seed, shape, gamma):
    joint = make_joint(seed, shape)
    law = uniform_law(Table(joint), guidance(1, gamma)).exp()
    np.testing.assert_allclose(law, brute_uniform(joint, gamma), rtol=0, atol=3e-5)
    assert abs(law - Table(joint).joint_guided(1, gamma).probabilities).max() > 1e-3


def test_without_guidance_uniform_noise_gives_back_the_law(make_joint):
    table = Table(make_joint(3, (2, 3, 2)))
    for scale, label in ((0.0, None), (1.0, 1)):
        np.testing.assert_allclose(uniform_law(table, guidance(1, scale)).exp(), table.log_probs(label).exp(), atol=1e-7)


def test_without_guidance_noise_of_a_short_time_is_taken_back(make_joint):
    """Uniform x at time t become draws of p(x_0 | x_t)."""
    table, time = Table(make_joint(3, (2, 3, 2))), 0.7
    keep = [math.exp(-time) * torch.eye(size).double() + (1 - math.exp(-time)) / size for size in table.shape]
    clean = table.log_probs(1).exp()
    joint = torch.einsum("ij,ia,jb->ijab", clean, *keep)
    expected = (joint / joint.sum((0, 1))).mean((2, 3))
    np.testing.assert_allclose(uniform_law(table, {1: 1.0}, time=time).exp(), expected, atol=1e-7)
    assert abs(expected - clean).max() > 0.01


def test_uniform_noise_on_a_table_with_zeros_is_refused(make_joint):
    with pytest.raises(ValueError, match="zeros"):
        uniform_law(Table(make_joint(8, (2, 3, 2), 0.3)), guidance(1, 2.0))


# ---------------------------------------------------------------------------------------------------------------- denoisers


def test_masked_denoisers_are_sums_over_the_table(joint):
    shape = joint.shape[1:]
    x = torch.tensor(list(product(*(range(-1, size) for size in shape))))
    for label, law in ((None, joint.sum(0)), (1, joint[1] / joint[1].sum())):
        found = Table(joint).denoise_masked(x, torch.tensor(0.5), label).exp()
        assert found.shape == (len(x), len(shape), max(shape))
        for row, state in zip(found, x.tolist(), strict=True):
            for j, size in enumerate(shape):
                fits = [
                    a
                    for a in product(*map(range, shape))
                    if all(s in (-1, v) for i, (s, v) in enumerate(zip(state, a, strict=True)) if i != j)
                ]
                masses = np.array([sum(law[a] for a in fits if a[j] == v) for v in range(max(shape))])
                np.testing.assert_allclose(row[j], masses / max(masses.sum(), 1e-300), rtol=0, atol=1e-12)
                assert size == max(shape) or row[j, size:].sum() == 0


@pytest.mark.parametrize("time", [0.05, 0.9])
def test_uniform_denoisers_are_bayes_over_the_table(make_joint, time):
    joint = make_joint(5, (3, 2, 3))
    shape = joint.shape[1:]
    x = torch.tensor(list(product(*map(range, shape))))
    for label, law in ((None, joint.sum(0)), (1, joint[1] / joint[1].sum())):
        found = Table(joint).denoise_uniform(x, torch.tensor(time, dtype=torch.float64), label).exp()
        for row, state in zip(found, x.tolist(), strict=True):
            masses = np.zeros((len(shape), max(shape)))
            for a in product(*map(range, shape)):
                keep = math.exp(-time)
                p = law[a] * math.prod(keep * (u == v) + (1 - keep) / size for u, v, size in zip(a, state, shape, strict=True))
                for j, v in enumerate(a):
                    masses[j, v] += p
            np.testing.assert_allclose(row, masses / masses.sum(1, keepdims=True), rtol=0, atol=1e-12)
