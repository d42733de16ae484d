import math

import numpy as np
import pytest
import torch

from analysis import Table, scale_factors
from analysis.metrics.scale_factors import laws_frame, path_normalizers, summary


def test_scale_factors_are_normalised_class_probabilities(joint):
    # s_γ and s′_γ as the source defines them, by p(y|x_≤t), and not through the guided laws.
    scale, p_x = 2.5, joint.sum(0)
    factors = scale_factors(Table(joint), 0, scale)
    classes = np.divide(joint[0], p_x, out=np.zeros_like(p_x), where=p_x > 0)
    s = classes**scale / (p_x * classes**scale).sum()
    s_prime = np.ones(p_x.shape)
    for t in range(1, p_x.ndim + 1):
        rest = tuple(range(t, p_x.ndim))
        u, c = p_x.sum(rest), joint[0].sum(rest)
        power = np.divide(c, u, out=np.zeros_like(u), where=u > 0) ** scale
        before = u.sum(-1, keepdims=True)
        step = np.divide(power * before, (u * power).sum(-1, keepdims=True), out=np.zeros_like(u), where=c > 0)
        s_prime *= step.reshape(*step.shape, *[1] * len(rest))
    possible = p_x > 0
    np.testing.assert_allclose(factors.log_joint.exp().numpy()[possible], s[possible], rtol=1e-9)
    np.testing.assert_allclose(factors.log_sequential.exp().numpy()[possible], s_prime[possible], rtol=1e-9)
    assert factors.log_joint.isnan().numpy().tolist() == (~possible).tolist()


def test_path_normalizers_sum_the_right_prefixes():
    log_z = (torch.tensor(1.0), torch.tensor([10.0, 20.0]), torch.tensor([[100.0, 200, 300], [400, 500, 600]]))
    path = path_normalizers(log_z, (2, 3, 2))
    assert path.shape == (2, 3, 2)
    assert path[1, 0].tolist() == [421.0, 421.0]
    assert path[0, 2].tolist() == [311.0, 311.0]


@pytest.mark.parametrize(("scale", "tau"), [(3.0, 1.0), (0.4, 0.7), (1.0, 2.0), (8.0, 3.0)])
def test_the_summary_agrees_with_plain_sums(joint, brute, scale, tau):
    expected = brute(joint, {None: (1 - scale) / tau, 1: scale / tau})
    p, q, c = expected.joint.ravel(), expected.sequential.ravel(), (joint[1] / joint[1].sum()).ravel()

    def divergence(a, b):
        return sum(x * (math.log(x) - math.log(y)) for x, y in zip(a, b, strict=True) if x > 0)

    def entropy(a):
        return -sum(x * math.log(x) for x in a if x > 0)

    assert summary(Table(joint), 1, scale, temperature=tau) == pytest.approx(
        {
            "log_z": math.log(expected.z),
            "kl_sequential_joint": divergence(q, p),
            "kl_joint_sequential": divergence(p, q),
            "tv": abs(p - q).sum() / 2,
            "entropy_joint": entropy(p),
            "entropy_sequential": entropy(q),
            "entropy_conditional": entropy(c),
        },
        abs=1e-9,
    )


def test_kl_is_log_z_less_the_expected_path_normalizer(joint):
    table = Table(joint)
    factors, figures = scale_factors(table, 0, 3.0), summary(table, 0, 3.0)
    q = table.sequential_guided(0, 3.0).probabilities
    spread = factors.log_normalizer - (q * torch.where(q > 0, factors.log_path, 0.0)).sum()
    assert figures["kl_sequential_joint"] == pytest.approx(spread.item(), abs=1e-10)
    assert figures["kl_sequential_joint"] > 1e-4


def test_the_frame_has_one_row_a_sequence_in_the_values_of_the_file(brute):
    joint = np.array([[[0.1, 0.0, 0.2], [0.1, 0.1, 0.0]], [[0.05, 0.0, 0.05], [0.2, 0.1, 0.1]]])
    table, expected = Table(joint, values=[["lo", "hi"], [5, 6, 7]]), brute(joint, {None: -1.0, 1: 2.0})
    frame = laws_frame(table, 1, 2.0)
    assert frame["x_1"].tolist() == ["lo"] * 3 + ["hi"] * 3
    assert frame["x_2"].tolist() == [5, 6, 7] * 2
    for column, law in [
        ("p_uncond", joint.sum(0)),
        ("p_cond", joint[1] / joint[1].sum()),
        ("p_joint", expected.joint),
        ("p_sequential", expected.sequential),
    ]:
        np.testing.assert_allclose(frame[column], law.ravel(), atol=1e-12)
    live = frame["p_uncond"] > 0
    np.testing.assert_allclose(np.exp(frame["log_s"][live]) * frame["p_uncond"][live], frame["p_joint"][live], atol=1e-12)
    np.testing.assert_allclose(
        np.exp(frame["log_s_prime"][live]) * frame["p_uncond"][live], frame["p_sequential"][live], atol=1e-12
    )
    assert frame["log_s"].isna().tolist() == frame["log_s_prime"].isna().tolist() == [False, True, False, False, False, False]


def test_one_variable_makes_a_frame_too():
    assert laws_frame(Table(np.array([[0.1, 0.2], [0.3, 0.4]])), 0, 2.0)["x_1"].tolist() == [0, 1]


@pytest.mark.parametrize("function", [scale_factors, summary, laws_frame])
def test_bad_labels_scales_and_tilts_raise(function):
    table = Table(np.array([[0.1, 0.0], [0.3, 0.6]]))
    for label, scale in (("x", 2.0), (0, math.nan), (0, -0.5)):
        with pytest.raises(ValueError, match=r"label must be|finite|improper"):
            function(table, label, scale)
