"""Guided laws of whole texts with the mixture as p(x): estimates from exact draws against sums over every text."""

import itertools
import math

import numpy as np
import pytest
import torch

import arguide
from analysis import NgramModels
from analysis.metrics.confidence import mean_of
from analysis.metrics.mixture_texts import MixtureLaws

T, END, LABEL, SCALE = 5, 2, 1, 2.5
TEXTS = [(*x, END) for n in range(T) for x in itertools.product((0, 1), repeat=n)]


@pytest.fixture(scope="module")
def models():
    rng = np.random.default_rng(3)
    labels = [0, 1, 2] * 8
    texts = [(rng.random(rng.integers(0, T)) < 0.2 + 0.3 * label).astype(int).tolist() for label in labels]
    return NgramModels(texts, labels, 2, alphabet=("a", "b"), length=T, names=("x", "y", "z"))


@pytest.fixture(scope="module")
def drawn(models):
    return MixtureLaws(models, "y").sample(SCALE, 4000, torch.Generator().manual_seed(0))


def steps(models, text):
    """p_k of every token of a text after its prefix, and of all tokens in its place, [K, t] and [K, t, V]."""
    tables = [models.log_probs(k).exp().numpy() for k in range(3)]
    state, of, every = models.contexts.start, [], []
    for token in text:
        of.append([table[state, token] for table in tables])
        every.append([table[state] for table in tables])
        state = models.contexts.following[state, token]
    return np.array(of).T, np.array(every).transpose(1, 0, 2)


def exact(models):
    """Both laws of all texts, log Z, and the share of sequential texts that end in time, by their definitions."""
    joint, sequential = [], []
    for text in TEXTS:
        of, every = steps(models, text)
        before = models.prior.numpy()[:, None] * np.cumprod(np.insert(of, 0, 1.0, 1), 1)
        mixture, own = before[:, -1].sum(), of[LABEL].prod()
        joint.append(mixture ** (1 - SCALE) * own**SCALE)
        ratio = 1.0
        for t, token in enumerate(text):
            pooled = (before[:, t, None] * every[:, t]).sum(0) / before[:, t].sum()
            weights = pooled ** (1 - SCALE) * every[LABEL, t] ** SCALE
            ratio *= weights[token] / weights.sum()
        sequential.append(ratio)
    return np.array(joint) / sum(joint), np.array(sequential) / sum(sequential), math.log(sum(joint)), sum(sequential)


def test_the_figures_are_those_of_all_texts(models, drawn):
    p, q, log_z, ended = exact(models)
    sizes, cond = np.array(list(map(len, TEXTS))), np.array([steps(models, text)[0][LABEL].prod() for text in TEXTS])
    cond /= cond.sum()
    expected = {
        "log_z": log_z,
        "kl_sequential_joint": (q * np.log(q / p)).sum(),
        "kl_joint_sequential": (p * np.log(p / q)).sum(),
        "kl_joint_conditional": (p * np.log(p / cond)).sum(),
        "tv": np.abs(p - q).sum() / 2,
        "entropy_joint": -(p * np.log(p)).sum(),
        "entropy_sequential": -(q * np.log(q)).sum(),
        "mean_length_joint": (p * sizes).sum(),
        "mean_length_sequential": (q * sizes).sum(),
    }
    found = drawn.summary()
    for name, value in expected.items():
        assert abs(found[name].value - value) < 4 * found[name].std_error < 0.15, name
    assert found["entropy_conditional"].value == pytest.approx(-(cond * np.log(cond)).sum())
    assert found["mean_length_conditional"].value == pytest.approx((cond * sizes).sum())
    assert abs(drawn.share_ended.value - ended) < 4 * drawn.share_ended.std_error
    assert 0 < found["kept"].value < 1
    rows, share = mean_of(drawn.log_probs(drawn.sequential)["log_sequential"]), drawn.share_ended
    error = math.hypot(rows.std_error, share.std_error / share.value)  # of the mean, and of the log of the share that ends
    assert found["entropy_sequential"].std_error == pytest.approx(error)
    wrong = MixtureLaws(models, "y").sample(SCALE + 1, 4000, torch.Generator().manual_seed(0)).summary()
    assert abs(wrong["log_z"].value - log_z) > 8 * wrong["log_z"].std_error


def test_texts_carry_their_log_probabilities(models, drawn):
    p, q, _, _ = exact(models)
    frame = drawn.frame(50)
    index = [TEXTS.index((*map("ab".index, text), END)) for text in frame["text"]]
    joint, sequential = (frame[name].to_numpy() for name in ("log_joint", "log_sequential"))
    np.testing.assert_allclose(joint - joint[0], np.log(p)[index] - np.log(p)[index[0]], atol=1e-9)
    np.testing.assert_allclose(sequential - sequential[0], np.log(q)[index] - np.log(q)[index[0]], atol=1e-9)
    assert frame["law"].value_counts().to_dict() == {"conditional": 50, "joint": 50, "sequential": 50}
    assert frame.index.is_unique


def test_a_mixture_needs_a_label_and_a_scale_of_at_least_0(models):
    with pytest.raises(ValueError, match="label must be one of the labels"):
        MixtureLaws(models, None).sample(2.0, 10)
    with pytest.raises(ValueError, match="scale must be finite and at least 0"):
        MixtureLaws(models, 0).sample(-1.0, 10)


def test_too_few_texts_that_end_in_time_are_refused(drawn):
    """Texts of a label that never end after one token, and more draws than texts that ended."""
    endless = NgramModels([[0, 1, 0], [1, 0, 1]] * 200, [0, 1] * 200, 2, alphabet=("a", "b"), length=1)
    with pytest.raises(ValueError, match="sequential texts two must end within 1 tokens"):
        MixtureLaws(endless, 0).sample(1.0, 64, torch.Generator().manual_seed(0))
    ended = len(drawn.sequential)
    assert len(drawn.frame(ended)) == 3 * ended < 3 * 4000
    with pytest.raises(ValueError, match=f"at most {ended}, "):
        drawn.frame(ended + 1)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_acceptance_draws_whole_texts_of_at_most_t_tokens(models, scale):
    """A forced end has its own probability, as everywhere else; a free one gives another Z."""
    logs = [[steps(models, text)[0][k].prod() for text in TEXTS] for k in range(3)]
    mixture = models.prior.numpy() @ np.array(logs)
    z = (mixture ** (1 - scale) * np.array(logs[LABEL]) ** scale).sum()
    law = MixtureLaws(models, LABEL)
    whole, cut = (
        arguide.sample_accepted(
            arguide.Ending(law.mixture, (END,), T, cap=cap), LABEL, scale, 4000, T, generator=torch.Generator().manual_seed(1)
        )
        for cap in ("force", "truncate")
    )
    assert abs(float(whole.log_evidence) - math.log(z)) < 4 * float(whole.std_error)
    assert abs(float(cut.log_evidence) - math.log(z)) > 6 * float(whole.std_error)
    assert (whole.x[:, -1] == END).all()
