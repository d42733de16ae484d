"""Ways to lower a temperature on exact laws, against plain loops over all texts."""

import math
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
import torch

import arguide
from analysis import NgramModels, Table
from analysis.metrics.temperature import laws as tempered_laws
from analysis.metrics.temperature.laws import (
    ENTROPY,
    LENGTH,
    LIKELIHOOD,
    SEQUENTIAL,
    TOP_K,
    TOP_P,
    OfLength,
    OfTable,
    OfTexts,
    way,
    ways,
)


@pytest.fixture(scope="module")
def table(make_joint):
    return Table(make_joint(3, (2, 3, 4, 3)))


def law_of(table):
    p = table.log_probs().exp()
    return {x: float(p[x]) for x in product(*map(range, table.shape))}


def factors(p, prefix):
    """Return p(v | prefix) by loops."""
    size = len(prefix) + 1
    ahead = Counter()
    for x, mass in p.items():
        if x[: size - 1] == prefix:
            ahead[x[:size]] += mass
    total = sum(ahead.values())
    return {x[-1]: mass / total for x, mass in ahead.items()}


def kept_k(law, k):
    return sorted(law, key=law.get, reverse=True)[: int(k)]


def kept_p(law, mass):
    kept, total = [], 0.0
    for v in sorted(law, key=law.get, reverse=True):
        if total < mass:
            kept.append(v)
            total += law[v]
    return kept


KEPT = {TOP_K: kept_k, TOP_P: kept_p}


def by_loops(p, family, setting):
    """Return the law of a way by loops over prefixes."""
    q = {}
    for x in p:
        q[x] = 1.0
        for t in range(len(x)):
            law = factors(p, x[:t])
            if family == SEQUENTIAL:
                rows = {v: mass**setting for v, mass in law.items()}
            else:
                rows = {v: law[v] for v in KEPT[family](law, setting)}
            q[x] *= rows.get(x[t], 0.0) / sum(rows.values())
    return q


def entropy(q):
    return -sum(mass * math.log(mass) for mass in q.values() if mass > 0)


def likelihood(q, p):
    return sum(mass * math.log(p[x]) for x, mass in q.items() if mass > 0)


CASES = [(SEQUENTIAL, 1.7), (SEQUENTIAL, 0.6), (TOP_K, 1), (TOP_K, 2), (TOP_P, 0.4), (TOP_P, 0.75)]


@pytest.mark.parametrize(("family", "setting"), CASES)
def test_a_way_is_compared_at_equal_likelihood(table, family, setting):
    p = law_of(table)
    q = by_loops(p, family, setting)
    found = way(OfTable(table), family, setting)
    assert found.merits[LIKELIHOOD] == pytest.approx(likelihood(q, p), abs=1e-10)
    assert found.merits[ENTROPY] == pytest.approx(entropy(q), abs=1e-10)
    power = {x: mass**found.beta for x, mass in p.items()}
    total = sum(power.values())
    power = {x: mass / total for x, mass in power.items()}
    assert likelihood(power, p) == pytest.approx(likelihood(q, p), abs=1e-7)
    kl = sum(mass * math.log(mass / power[x]) for x, mass in q.items() if mass > 0)
    assert found.lost == pytest.approx(entropy(power) - entropy(q), abs=1e-7) == pytest.approx(kl, abs=1e-7)
    assert found.lost > 1e-3


def test_a_table_with_zeros_keeps_them(make_joint):
    zeros = Table(make_joint(8, (2, 3, 3, 2), 0.4))
    p = {x: mass for x, mass in law_of(zeros).items() if mass > 0}
    for family, setting in CASES:
        q = by_loops(p, family, setting)
        law = OfTable(zeros).transformed(tempered_laws.TRANSFORMS[family](setting)).exp()
        assert float(law.sum()) == pytest.approx(1)
        assert all(float(law[x]) == pytest.approx(q.get(x, 0.0), abs=1e-12) for x in np.ndindex(*zeros.shape))


def test_the_joint_law_loses_nothing(table):
    laws = OfTable(table)
    merits = laws.merits(laws.power(2.3))
    beta = tempered_laws.effective_beta(laws.mean, merits[LIKELIHOOD])
    assert beta == pytest.approx(2.3)


def test_groups_have_the_expected_statistics(table):
    """Over all pairs of texts, for groups of two."""
    log_q = OfTable(table).transformed(arguide.temperature(0.5))
    q = {x: float(log_q[x].exp()) for x in product(*map(range, table.shape))}
    texts = bigrams = 0.0
    for (x, first), (y, second) in product(q.items(), repeat=2):
        texts += first * second * len({x, y}) / 2
        pairs = [*pairwise(x), *pairwise(y)]
        bigrams += first * second * len(set(pairs)) / len(pairs)
    repeated = sum(mass * (1 - len(set(pairwise(x))) / 2) for x, mass in q.items())
    found = tempered_laws.group_means(log_q, 2)
    assert found[tempered_laws.DISTINCT] == pytest.approx(texts)
    assert found[tempered_laws.BIGRAMS] == pytest.approx(bigrams)
    assert found[tempered_laws.REPEATED] == pytest.approx(repeated)
    assert found[LENGTH] == 3


def test_a_group_has_16_texts():
    """Two texts that are equally likely: each is in a group unless 16 draws miss it."""
    found = tempered_laws.group_means(torch.full((2, 1), 0.5).log())
    assert found[tempered_laws.DISTINCT] == pytest.approx(2 * (1 - 0.5**16) / 16)


@pytest.fixture(scope="module")
def texts():
    rows = [[0, 1, 0], [1, 1], [0, 0, 1, 2], [2], [0, 1, 2, 2], [0, 1]]
    return OfTexts(NgramModels(rows, [0] * len(rows), 2, alphabet=("a", "b", "c"), length=5))


def whole_texts(laws, transform=lambda law: law):
    """Return the law of all whole texts by loops: {text: weight}, before it is normalised."""
    models, found = laws.models, {}
    contexts, probs = models.contexts, transform(models.log_probs()).exp()
    for length in range(1, models.length + 1):
        for x in product(range(models.size - 1), repeat=length - 1):
            state, mass = contexts.start, 1.0
            for v in (*x, models.size - 1):
                mass *= float(probs[state, v])
                state = int(contexts.following[state, v])
            if mass > 0:
                found[x] = mass
    return found


def normal(law):
    total = sum(law.values())
    return {x: mass / total for x, mass in law.items()}


@pytest.mark.parametrize(("family", "setting"), [(SEQUENTIAL, 2.0), (TOP_K, 2), (TOP_P, 0.8)])
def test_ways_of_whole_texts_are_exact(texts, family, setting):
    p = whole_texts(texts)
    q = normal(whole_texts(texts, tempered_laws.TRANSFORMS[family](setting)))
    found = way(texts, family, setting)
    assert found.merits[LIKELIHOOD] == pytest.approx(likelihood(q, p), abs=1e-9)
    assert found.merits[ENTROPY] == pytest.approx(entropy(q), abs=1e-9)
    assert found.merits[LENGTH] == pytest.approx(sum(mass * (len(x) + 1) for x, mass in q.items()))
    power = normal({x: mass**found.beta for x, mass in p.items()})
    assert likelihood(power, p) == pytest.approx(likelihood(q, p), abs=1e-6)
    assert found.equal[ENTROPY] == pytest.approx(entropy(power), abs=1e-6)
    assert found.lost >= -1e-9


@pytest.mark.parametrize(("family", "setting"), [(SEQUENTIAL, 2.0), (TOP_P, 0.8)])
def test_a_power_of_equal_length_loses_the_divergence(texts, family, setting):
    """By loops: p^β e^{ρ·length} with the two means of q, and H(p^β) − H(q) = KL(q ‖ p^β); a power alone has another length."""
    p = whole_texts(texts)
    q = normal(whole_texts(texts, tempered_laws.TRANSFORMS[family](setting)))
    found = way(OfLength(texts.models), family, setting)
    length = sum(mass * (len(x) + 1) for x, mass in q.items())
    x, y = (0,), (0, 1)
    near = {each: float(mass) for each, mass in zip((x, y), found.pair[1].log_prob(padded(texts, [x, y])).exp(), strict=True)}
    reward = math.log(near[y] / near[x]) - found.beta * math.log(p[y] / p[x])  # ρ of one more token
    power = normal({each: mass**found.beta * math.exp(reward * len(each)) for each, mass in p.items()})
    assert near == {each: pytest.approx(power[each], abs=1e-8) for each in (x, y)}
    assert likelihood(power, p) == pytest.approx(likelihood(q, p), abs=1e-6)
    assert sum(mass * (len(x) + 1) for x, mass in power.items()) == pytest.approx(length, abs=1e-6)
    kl = sum(mass * math.log(mass / power[x]) for x, mass in q.items())
    assert found.lost == pytest.approx(kl, abs=1e-6)
    alone = way(texts, family, setting)
    assert abs(alone.equal[LENGTH] - length) > 0.01
    assert found.lost < alone.lost


def padded(laws, rows):
    return torch.tensor([[*row, *[laws.models.size - 1] * (laws.models.length - len(row))] for row in rows])


def test_a_way_without_an_end_is_left_out():
    """The likeliest token of a model that writes one letter for ever never ends a text."""
    rows = [[0] * 6] * 5
    laws = OfTexts(NgramModels(rows, [0] * 5, 2, alphabet=("a",), length=8))
    assert way(laws, TOP_K, 1) is None
    assert [each.setting for each in ways(laws, {TOP_K: (1, 2)})] == [2]
