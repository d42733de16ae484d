import math

import numpy as np
import pytest
import torch

from analysis import Table, scale_factors
from analysis.metrics.scale_factors import summary
from analysis.toys import guidance, temperature

SHAPES = [((2, 3), 0.0), ((3, 2, 4), 0.0), ((2, 3, 1, 2, 3), 0.0), ((2, 3, 3, 2), 0.35), ((3, 4, 2, 3), 0.2)]
GRID = [(-1.0, 1.0), (0.0, 0.3), (0.35, 3.0), (1.0, 1.0), (1.0, 0.6), (3.0, 1.0), (10.0, 0.3), (10.0, 3.0)]


def check_against(table, expected, joint, sequential):
    np.testing.assert_allclose(joint.probabilities.numpy(), expected.joint, rtol=0, atol=1e-9)
    np.testing.assert_allclose(sequential.probabilities.numpy(), expected.sequential, rtol=0, atol=1e-9)
    assert joint.log_normalizer.item() == pytest.approx(math.log(expected.z), abs=1e-9)
    for prefix, z in expected.normalizers.items():
        log_z = sequential.log_normalizers[len(prefix)][prefix].item()
        assert log_z == pytest.approx(math.log(z) if z > 0 else -math.inf, abs=1e-9)


@pytest.mark.parametrize(("shape", "zeros"), SHAPES)
@pytest.mark.parametrize(("scale", "tau"), GRID)
def test_guided_laws_agree_with_plain_loops(make_joint, brute, shape, zeros, scale, tau):
    joint, label = make_joint(sum(shape), shape, zeros), shape[0] - 1
    weights = {None: (1 - scale) / tau, label: scale / tau}
    table = Table(joint)
    if scale < 0 and ((joint[label] == 0) & (joint.sum(0) > 0)).any():
        for law in (table.joint_guided, table.sequential_guided):
            with pytest.raises(ValueError, match="improper tilt"):
                law(label, scale, temperature=tau)
        with pytest.raises(ValueError, match="improper tilt"):
            brute(joint, weights)
        return
    guided = [law(label, scale, temperature=tau) for law in (table.joint_guided, table.sequential_guided)]
    check_against(table, brute(joint, weights), *guided)


def test_a_wide_table_agrees_with_plain_loops(make_joint, brute):
    joint = make_joint(1, (2, 4, 4, 4, 4, 4), zeros=0.1)
    table = Table(joint)
    check_against(table, brute(joint, {None: -2.0, 1: 3.0}), table.joint_guided(1, 3.0), table.sequential_guided(1, 3.0))


@pytest.mark.parametrize("weights", [{None: -1.0, 0: 1.3, 2: 0.7}, {None: 0.4, 1: 1.1, 0: -0.5}, {2: 0.5, 1: 0.5}])
def test_several_and_negative_conditions_agree_with_plain_loops(make_joint, brute, weights):
    joint = make_joint(2, (3, 3, 2, 2))
    table, expected = Table(joint), brute(joint, weights)
    np.testing.assert_allclose(table.log_joint(weights)[0].exp().numpy(), expected.joint, rtol=0, atol=1e-9)
    np.testing.assert_allclose(table.log_sequential(weights)[0].exp().numpy(), expected.sequential, rtol=0, atol=1e-9)


def test_what_every_law_excludes_is_excluded_under_negative_weights_too(brute):
    joint, weights = np.array([[0.1, 0.0, 0.3], [0.2, 0.0, 0.4]]), {0: -0.5, 1: -0.4}
    np.testing.assert_allclose(Table(joint).log_joint(weights)[0].exp().numpy(), brute(joint, weights).joint, atol=1e-12)


def test_without_weight_the_law_is_uniform_on_what_some_law_allows():
    joint = np.array([[0.1, 0.0, 0.3, 0.0], [0.2, 0.0, 0.0, 0.4]])
    found = Table(joint).log_joint({0: 0.0, 1: 0.0})[0].exp()
    np.testing.assert_allclose(found, [1 / 3, 0, 1 / 3, 1 / 3], atol=1e-12)


def test_weights_of_temperature_and_guidance_are_those_of_the_definition():
    assert guidance(2, 3.0, 0.5) == {None: -4.0, 2: 6.0}
    assert temperature(0.5) == {None: 2.0}
    assert temperature(0.5, 1) == {None: 0.0, 1: 2.0}


def test_endpoints_are_the_unconditional_and_the_conditional_law(joint):
    table = Table(joint)
    for law in (table.joint_guided, table.sequential_guided):
        np.testing.assert_allclose(law(1, 0.0).probabilities.numpy(), joint.sum(0), rtol=0, atol=1e-12)
        np.testing.assert_allclose(law(1, 1.0).probabilities.numpy(), joint[1] / joint[1].sum(), rtol=0, atol=1e-12)


def test_permuting_labels_or_tokens_permutes_the_laws(make_joint):
    joint, order = make_joint(6, (3, 3, 4)), [2, 0, 1]
    for name in ("joint_guided", "sequential_guided"):
        law = getattr(Table(joint), name)(1, 2.5).probabilities
        torch.testing.assert_close(getattr(Table(joint[order]), name)(2, 2.5).probabilities, law)
        torch.testing.assert_close(getattr(Table(joint[:, order]), name)(1, 2.5).probabilities, law[order])


# The closed forms of autoregressive guidance.


@pytest.fixture(scope="module")
def two_bits():
    return Table(np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]]).reshape(2, 2, 2) / 2)


def test_two_bits_have_the_printed_joint_and_sequential_laws(two_bits):
    joint, sequential = two_bits.joint_guided(1, 3.0), two_bits.sequential_guided(1, 3.0)
    np.testing.assert_allclose(joint.probabilities.flatten(), [0.01, 0.08, 0.27, 0.64], atol=1e-12)
    np.testing.assert_allclose(sequential.probabilities.flatten(), [0.008108, 0.064865, 0.275052, 0.651975], atol=5e-7)


def test_order_matters_to_the_sequential_law_and_not_to_the_joint_one(two_bits):
    backwards = Table(two_bits.log_joint_with_label.exp().mT)
    torch.testing.assert_close(backwards.joint_guided(1, 3.0).probabilities.mT, two_bits.joint_guided(1, 3.0).probabilities)
    gap = backwards.sequential_guided(1, 3.0).probabilities.mT - two_bits.sequential_guided(1, 3.0).probabilities
    assert gap.abs().max() > 1e-3


def test_one_token_has_one_law():
    table = Table(np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]) / 2)
    for law in (table.joint_guided, table.sequential_guided):
        np.testing.assert_allclose(law(0, 3.0).probabilities, [0.006062, 0.069833, 0.924105], atol=5e-7)


def gap(table, **kwargs):
    return summary(table, 0, 3.0, **kwargs)["tv"]


def test_joint_and_sequential_agree_when_tokens_are_independent_under_both_laws(make_joint):
    # p(x|y) a product for every y does not suffice: p(x), their mixture, must be one too.
    rng = np.random.default_rng(1)
    first, second = rng.dirichlet([1, 1, 1], 2), rng.dirichlet([1, 1], 2)
    informative = np.einsum("y,yi,j->yij", [0.3, 0.7], first, second[0])
    assert gap(Table(informative)) < 1e-12
    assert gap(Table(informative), temperature=0.5) < 1e-12
    mixed = np.einsum("y,yi,yj->yij", [0.3, 0.7], first, second)
    assert gap(Table(mixed)) > 1e-3


def test_joint_and_sequential_agree_when_the_label_is_seen_at_the_first_step_only(make_joint):
    shared = make_joint(4, (3, 4))  # p(x_2 | x_1) the same for every label: dependent, yet no gap; temperature opens one
    first = np.random.default_rng(2).dirichlet([1, 1, 1], 2) * [[0.4], [0.6]]
    table = Table(np.einsum("yi,ij->yij", first, shared / shared.sum(1, keepdims=True)))
    assert gap(table) < 1e-12
    assert gap(table, temperature=0.5) > 1e-4


def test_the_ratio_of_the_scale_factors_is_the_path_normalizer_over_z(joint, brute):
    table = Table(joint)
    factors, expected = scale_factors(table, 0, 2.5), brute(joint, {None: -1.5, 0: 2.5})
    live = (expected.joint > 0).nonzero()
    for x in zip(*live, strict=True):
        path = math.prod(expected.normalizers[tuple(x[:t])] for t in range(len(x)))
        assert (factors.log_joint - factors.log_sequential)[x].item() == pytest.approx(math.log(path / expected.z), abs=1e-10)


def test_weighting_the_sequential_law_by_its_normalizers_gives_the_joint_law_and_z(joint):
    table = Table(joint)
    sequential, joint_law = table.sequential_guided(0, 2.5), table.joint_guided(0, 2.5)
    weighted = sequential.probabilities
    for t, log_z in enumerate(sequential.log_normalizers):
        weighted = weighted * log_z.exp().reshape(*log_z.shape, *[1] * (table.length - t))
    assert weighted.sum().log().item() == pytest.approx(joint_law.log_normalizer.item(), abs=1e-12)
    torch.testing.assert_close(weighted / weighted.sum(), joint_law.probabilities)


# Its other faces.


def test_class_probability_and_conditionals_are_ratios_of_sums(joint):
    table, p_x = Table(joint), joint.sum(0)
    classes = np.divide(joint, p_x, out=np.zeros_like(joint), where=p_x > 0)
    np.testing.assert_allclose(table.log_class_probability().exp().numpy(), classes, atol=1e-12)
    first, second, *_ = (law.exp().numpy() for law in table.log_conditionals(1))
    rest = joint[1].reshape(*joint.shape[1:3], -1).sum(-1)
    np.testing.assert_allclose(first, rest.sum(1) / rest.sum(), atol=1e-12)
    np.testing.assert_allclose(second * rest.sum(1, keepdims=True), rest, atol=1e-12)


def test_as_an_autoregressive_model_it_multiplies_back_to_itself(make_joint):
    joint = make_joint(3, (2, 2, 4, 3), zeros=0.3)
    model, x = Table(joint).autoregressive(1), torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(3))
    state, log_p = model.start(len(x)), torch.zeros(len(x), dtype=torch.float64)
    for token in x.T:
        assert state.log_probs.shape == (24, 4)
        log_p += state.log_probs[torch.arange(24), token]
        state = model.append(state, token)
    np.testing.assert_allclose(log_p.exp().numpy(), (joint[1] / joint[1].sum()).ravel(), atol=1e-12)


def test_as_points_it_has_the_class_probabilities_of_its_cells(make_joint):
    joint = make_joint(3, (2, 2, 3))
    mixture = Table(joint).mixture(spacing=2.0)
    np.testing.assert_allclose(mixture.means.numpy(), [[a, b] for a in (-1, 1) for b in (-2, 0, 2)])
    posterior = mixture.log_class_probability(mixture.means, 0.05).exp().numpy()
    np.testing.assert_allclose(posterior, (joint / joint.sum(0)).reshape(2, -1).T, atol=1e-9)


def test_points_can_be_drawn_without_noise(make_joint):
    mixture = Table(make_joint(3, (2, 2, 3))).mixture()
    x = mixture.sample(50, 0.0, 1, torch.Generator().manual_seed(0))
    assert (torch.cdist(x, mixture.means).amin(1) < 1e-12).all()


def test_a_table_given_in_log_space_may_underflow():
    table = Table.from_log(torch.tensor([[-4000.0, -4001.0], [-5000.0, -4000.0]], dtype=torch.float64))
    assert table.log_probs(0).exp().tolist() == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))])
    assert table.log_probs(1)[0].item() == pytest.approx(-1000)


def test_labels_are_found_by_name_or_index():
    table = Table(np.array([[0.1, 0.2], [0.3, 0.4]]), labels=["cat", "dog"])
    assert torch.equal(table.log_probs("dog"), table.log_probs(1))
    for wrong in ("bird", 2, -1, 0.5):
        with pytest.raises(ValueError, match=r"no label.*cat, dog"):
            table.joint_guided(wrong, 2.0)


@pytest.mark.parametrize(
    ("joint", "words"),
    [
        ([[0.5, -0.1], [0.3, 0.3]], "negative"),
        ([[0.5, math.nan], [0.3, 0.2]], "NaN"),
        ([[0.5, math.inf], [0.3, 0.2]], "infinite"),
        ([[0.5, 0.5], [0.3, 0.2]], "sum to 1"),
        ([0.5, 0.5], "at least one variable"),
        (np.zeros((2, 0)), "at least one variable"),
    ],
)
def test_entries_that_are_no_probabilities_raise(joint, words):
    with pytest.raises(ValueError, match=words):
        Table(np.array(joint))


def test_names_that_do_not_fit_raise():
    for wrong in ({"labels": ["a"]}, {"values": [[1, 2, 3]]}):
        with pytest.raises(ValueError, match=r"per (label|code)"):
            Table(np.full((2, 2), 0.25), **wrong)


@pytest.mark.parametrize(("scale", "tau"), [(math.nan, 1.0), (math.inf, 1.0), (2.0, 0.0), (2.0, -1.0), (2.0, math.nan)])
def test_a_scale_or_temperature_out_of_range_raises(scale, tau):
    table = Table(np.full((2, 2), 0.25))
    for law in (table.joint_guided, table.sequential_guided):
        with pytest.raises(ValueError, match="finite"):
            law(0, scale, temperature=tau)


def test_a_label_of_probability_zero_and_laws_without_common_support_raise():
    table = Table(np.array([[0.5, 0.0], [0.0, 0.5], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="probability 0"):
        table.joint_guided(2, 2.0)
    with pytest.raises(ValueError, match="share no x"):
        table.log_joint({0: 1.0, 1: 1.0})
