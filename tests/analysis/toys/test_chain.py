import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch

from analysis import MarkovChain, Table

T = 4


def chain_of(seed=0, size=3, labels=2, zeros=0.0, **kwargs):
    rng = np.random.default_rng(seed)
    initial, transition = rng.dirichlet(np.full(size, 0.9), labels), rng.dirichlet(np.full(size, 0.9), (labels, size))
    transition[rng.random(transition.shape) < zeros] = 0
    transition += 1e-2 * np.eye(size)
    return MarkovChain(initial, transition / transition.sum(-1, keepdims=True), kwargs.pop("length", T), **kwargs)


def table(chain, label):
    """Return p(x | label), [V, …, V], multiplied out from the chain's autoregressive model."""
    model = chain.autoregressive(label)
    log_p, step = model.start(1).log_probs[0], model.append(model.start(3), torch.arange(3)).log_probs
    for _ in range(chain.length - 1):
        log_p = log_p[..., None] + step
    return log_p.exp()


def enumerated(chain, weights):
    """Return the joint law, log Z, the sequential law and its log normalizers by loops over every sequence."""

    def power(probabilities):
        return 0.0 if any(p == 0 < w for p, w in probabilities) else math.prod(p**w for p, w in probabilities if w != 0)

    tables = [(table(chain, y).numpy(), w) for y, w in weights.items()]
    shape = tables[0][0].shape
    joint, sequential = np.zeros(shape), np.zeros(shape)
    for x in product(*map(range, shape)):
        joint[x] = power([(p[x], w) for p, w in tables])
        if joint[x] == 0:
            continue
        sequential[x] = 1.0
        for t in range(len(shape)):
            rows = [(p[x[:t]].reshape(shape[t], -1).sum(1), w) for p, w in tables]
            step = [power([(row[v] / row.sum(), w) for row, w in rows]) for v in range(shape[t])]
            sequential[x] *= step[x[t]] / sum(step)
    return joint / joint.sum(), math.log(joint.sum()), sequential


CODES = torch.cartesian_prod(*[torch.arange(3)] * T)
CASES = [({None: -1.5, 0: 2.5}, 0.0), ({None: 1.3, 1: -0.3}, 0.0), ({None: 0.4, 0: 1.0, 1: -0.2}, 0.0), ({1: 1 / 0.4}, 0.0)]
CASES += [({None: -1.0, 1: 2.0}, 0.4), ({None: 0.6, 0: 0.4}, 0.4)]


@pytest.mark.parametrize(("weights", "zeros"), CASES)
def test_guided_laws_agree_with_enumeration(weights, zeros):
    chain = chain_of(3, zeros=zeros)
    p, log_z, q = enumerated(chain, weights)
    joint, (sequential, _) = chain.log_joint(weights), chain.log_sequential(weights)
    assert joint.log_normalizer.item() == pytest.approx(log_z, abs=1e-9)
    for law, expected in ((joint, p), (sequential, q)):
        np.testing.assert_allclose(law.log_prob(CODES).exp().numpy(), expected.ravel(), rtol=0, atol=1e-9)
        marginals = [expected.sum(tuple(s for s in range(T) if s != t)) for t in range(T)]
        np.testing.assert_allclose(law.marginals().numpy(), marginals, rtol=0, atol=1e-9)
        positive = expected[expected > 0]
        assert law.entropy().item() == pytest.approx(-(positive * np.log(positive)).sum(), abs=1e-9)
    for law, other, a, b in ((joint, sequential, p, q), (sequential, joint, q, p)):
        live = a > 0
        assert law.kl(other).item() == pytest.approx((a[live] * np.log(a[live] / b[live])).sum(), abs=1e-9)


def test_expectations_of_additive_functions_agree_with_enumeration():
    chain = chain_of(4)
    p, _, q = enumerated(chain, {None: -1.0, 0: 2.0})
    first, step = torch.tensor([1.0, -2.0, 0.5]).double(), torch.arange(9.0).double().reshape(3, 3) ** 1.5
    value = (first[CODES[:, 0]] + step[CODES[:, :-1], CODES[:, 1:]].sum(1)).numpy()
    assert chain.joint_guided(0, 2.0).expectation(first, step).item() == pytest.approx(p.ravel() @ value)
    assert chain.sequential_guided(0, 2.0)[0].expectation(first, step).item() == pytest.approx(q.ravel() @ value)


def test_kl_is_log_z_minus_the_expected_normalizers():
    chain = chain_of(5, length=50)
    joint, (sequential, (log_z1, log_z)) = chain.joint_guided(1, 3.0), chain.sequential_guided(1, 3.0)
    path = log_z1 + sequential.expectation(torch.zeros(3).double(), log_z[:, None].expand(3, 3))
    assert sequential.kl(joint).item() == pytest.approx((joint.log_normalizer - path).item(), abs=1e-9)
    assert sequential.kl(joint) > 0.1


def test_a_chain_and_its_table_have_the_same_laws():
    # The unconditional law is one pooled chain; a table of two labels, the law and its complement, holds it.
    chain = chain_of(6, prior=torch.tensor([0.3, 0.7]).double())
    cond, uncond = (table(chain, y) for y in (0, None))
    share = 0.5 * float((uncond / cond).min())
    whole = Table(torch.stack([share * cond, uncond - share * cond]))
    torch.testing.assert_close(whole.log_probs(0).exp(), cond)
    for name in ("joint_guided", "sequential_guided"):
        law = getattr(chain, name)(0, 2.5, temperature=0.8)
        law = law[0] if isinstance(law, tuple) and not hasattr(law, "first") else law
        expected = getattr(whole, name)(0, 2.5, temperature=0.8).probabilities
        np.testing.assert_allclose(law.log_prob(CODES).exp().numpy(), expected.flatten().numpy(), rtol=0, atol=1e-9)


def test_the_pooled_chain_has_expected_transition_counts():
    prior = np.array([0.2, 0.8])
    chain = chain_of(7, prior=torch.from_numpy(prior))
    counts, first = np.zeros((3, 3)), np.zeros(3)
    for y, weight in enumerate(prior):
        for x, p in np.ndenumerate(table(chain, y).numpy()):
            first[x[0]] += weight * p
            for i, j in pairwise(x):
                counts[i, j] += weight * p
    law = chain.log_law()
    np.testing.assert_allclose(law.first.exp().numpy(), first, atol=1e-12)
    np.testing.assert_allclose(law.step.exp().numpy(), counts / counts.sum(1, keepdims=True), atol=1e-12)


def test_endpoints_are_the_chains_themselves():
    chain = chain_of(8)
    for scale, label in ((0.0, None), (1.0, 1)):
        expected = table(chain, label).flatten()
        for law in (chain.joint_guided(1, scale), chain.sequential_guided(1, scale)[0]):
            torch.testing.assert_close(law.log_prob(CODES).exp(), expected)


def test_ten_thousand_steps_stay_finite_and_the_gap_grows_linearly():
    kl = {}
    for length in (1_000, 10_000):
        chain = chain_of(9, length=length, zeros=0.2)
        joint, (sequential, _) = chain.joint_guided(0, 3.0), chain.sequential_guided(0, 3.0)
        assert joint.log_normalizer.isfinite()
        torch.testing.assert_close(joint.marginals().sum(1), torch.ones(length).double())
        kl[length] = sequential.kl(joint).item()
    assert kl[10_000] / kl[1_000] == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize("guided", [True, False])
def test_samples_of_a_law_follow_it(guided):
    # 5 standard errors on 81 cells: a false-fail rate below 1e-4. The negative control draws from the conditional chain.
    chain, n = chain_of(10), 40_000
    law = chain.joint_guided(0, 2.5 if guided else 1.0)
    x = law.sample(n, torch.Generator().manual_seed(0)).numpy()
    p = chain.joint_guided(0, 2.5).log_prob(CODES).exp().numpy()
    counts = np.bincount(np.ravel_multi_index(tuple(x.T), (3,) * T), minlength=3**T)
    common = p * n > 20
    z = (counts - n * p)[common] / np.sqrt(n * p * (1 - p))[common]
    assert (abs(z).max() < 5) == guided


def test_a_chain_of_length_one_is_its_first_step():
    chain = chain_of(11, length=1)
    law = chain.joint_guided(0, 2.0)
    weights = table(chain, 0) ** 2 / table(chain, None)
    torch.testing.assert_close(law.marginals()[0], weights / weights.sum())
    torch.testing.assert_close(chain.sequential_guided(0, 2.0)[0].marginals()[0], weights / weights.sum())


def test_transitions_that_no_sequence_reaches_do_not_make_a_tilt_improper():
    initial = torch.tensor([[0.5, 0.5], [0.2, 0.8]])
    transition = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.1, 0.9]]])
    law = MarkovChain(initial, transition, 1).joint_guided(0, -1.0)  # one step: no transition at all
    assert law.log_normalizer.isfinite()
    first = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    transition = torch.tensor([[[0.5, 0.5], [1.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]]])
    assert MarkovChain(first, transition, 2).joint_guided(0, -1.0).log_normalizer.isfinite()  # no step from the last state
    with pytest.raises(ValueError, match="improper"):
        MarkovChain(first, transition, 3).joint_guided(0, -1.0)


def test_improper_tilts_and_disjoint_laws_raise():
    initial = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    chain = MarkovChain(initial, torch.full((2, 2, 2), 0.5), 3)
    for law in (chain.joint_guided, chain.sequential_guided):
        with pytest.raises(ValueError, match="improper"):
            law(0, -0.5)
    with pytest.raises(ValueError, match="must share a sequence"):
        chain.log_joint({0: 1.0, 1: 1.0})


def test_labels_are_found_by_name_or_index():
    chain = chain_of(12, labels=2)
    named = MarkovChain(
        *(torch.stack([law.exp() for law in laws]) for laws in zip(chain._laws[0], chain._laws[1], strict=True)),
        T,
        labels=("a", "b"),
    )
    assert named.joint_guided("b", 2.0).log_normalizer == named.joint_guided(1, 2.0).log_normalizer
    for wrong in ("c", 2, -1):
        with pytest.raises(ValueError, match="label must be one of a, b"):
            named.joint_guided(wrong, 2.0)


@pytest.mark.parametrize(
    ("initial", "transition", "length", "kwargs"),
    [
        (torch.tensor([[0.5, 0.6]]), torch.full((1, 2, 2), 0.5), 3, {}),
        (torch.tensor([[0.5, 0.5]]), torch.tensor([[[1.5, -0.5], [0.5, 0.5]]]), 3, {}),
        (torch.tensor([[0.5, math.nan]]), torch.full((1, 2, 2), 0.5), 3, {}),
        (torch.tensor([[0.5, 0.5]]), torch.full((1, 2, 3), 0.5), 3, {}),
        (torch.tensor([[0.5, 0.5]]), torch.full((1, 2, 2), 0.5), 0, {}),
        (torch.tensor([[0.5, 0.5]]), torch.full((1, 2, 2), 0.5), 3, {"prior": torch.tensor([0.4])}),
        (torch.tensor([[0.5, 0.5]]), torch.full((1, 2, 2), 0.5), 3, {"prior": torch.tensor([0.4, 0.6])}),
        (torch.full((2, 2), 0.5), torch.full((2, 2, 2), 0.5), 3, {"labels": ("a",)}),
    ],
)
def test_malformed_chains_raise(initial, transition, length, kwargs):
    with pytest.raises(ValueError, match=r"chain|prior|label|transition|length"):
        MarkovChain(initial, transition, length, **kwargs)


def test_transition_counts_agree_with_enumeration():
    law, counts = chain_of(13, zeros=0.3).joint_guided(0, 1.7), np.zeros((3, 3))
    for x, p in zip(CODES.tolist(), law.log_prob(CODES).exp().tolist(), strict=True):
        for i, j in pairwise(x):
            counts[i, j] += p
    np.testing.assert_allclose(law.transition_counts().numpy(), counts, rtol=0, atol=1e-12)
