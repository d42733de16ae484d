"""A mixture of autoregressive models is p(x), and guided by it each token follows the sequential law: by plain loops."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch

import arguide
from analysis import Table
from analysis.toys.autoregressive import ChainModel
from arguide import Mixture, sampling
from arguide.coherent import mixture as module

SCALES = [-1.0, 0.0, 0.5, 1.0, 1.5, 3.0, 10.0]


def mixture_of(joint):
    table = Table(joint)
    return Mixture([table.autoregressive(y) for y in range(len(joint))], table.log_prior())


def posterior(joint, prefix):
    """Return p(y | prefix), [K], by sums over the table."""
    mass = joint[(slice(None), *prefix)].reshape(len(joint), -1).sum(1)
    return mass / mass.sum()


def after(model, prefixes):
    state = model.start(len(prefixes))
    for column in torch.tensor(prefixes).unbind(1):
        state = model.append(state, column)
    return state


class Counted:
    """A model that counts how often it is read."""

    def __init__(self, model):
        self.model, self.reads = model, 0

    def start(self, n):
        self.reads += 1
        return self.model.start(n)

    def append(self, state, token):
        self.reads += 1
        return self.model.append(state, token)

    def select(self, state, index):
        self.reads += 1
        return self.model.select(state, index)


def test_the_law_of_a_mixture_is_the_sum_over_labels(joint, replay):
    law = replay(lambda draw: arguide.sample(mixture_of(joint), 1, joint.ndim - 1, draw=draw).tokens, joint.shape[1:])
    np.testing.assert_allclose(law, joint.sum(0), atol=1e-12)


@pytest.mark.parametrize("scale", SCALES)
def test_guided_by_its_mixture_a_label_follows_the_sequential_law(make_joint, brute, replay, scale):
    joint = make_joint(4, (3, 2, 3, 2))
    model = mixture_of(joint).guidance(1, scale)
    law = replay(lambda draw: arguide.sample(model, 1, 3, draw=draw).tokens, (2, 3, 2))
    np.testing.assert_allclose(law, brute(joint, {1: scale, None: 1 - scale}).sequential, atol=1e-12)


def test_a_temperature_divides_both_weights(make_joint, brute, replay):
    joint = make_joint(4, (3, 2, 3, 2))
    model = mixture_of(joint).guidance(1, 2.0, temperature=0.5)
    law = replay(lambda draw: arguide.sample(model, 1, 3, draw=draw).tokens, (2, 3, 2))
    np.testing.assert_allclose(law, brute(joint, {1: 4.0, None: -2.0}).sequential, atol=1e-12)


def test_a_uniform_prior_in_place_of_the_labels_own_is_another_law(make_joint, brute, replay):
    joint = make_joint(4, (3, 2, 3, 2))
    model = Mixture(mixture_of(joint).models, torch.full((3,), 1 / 3).log()).guidance(1, 3.0)
    law = replay(lambda draw: arguide.sample(model, 1, 3, draw=draw).tokens, (2, 3, 2))
    assert abs(law - brute(joint, {1: 3.0, None: -2.0}).sequential).max() > 1e-3


@pytest.mark.parametrize("scale", [0.5, 3.0, 10.0])
def test_the_sequential_law_and_its_normalizers_are_those_of_the_table(make_joint, scale):
    joint = make_joint(6, (4, 5, 5, 5))
    table = Table(joint)
    every = torch.cartesian_prod(*[torch.arange(5)] * 3)
    found = sampling.retrace(mixture_of(joint).guidance(2, scale), every)
    probs, log_normalizers = table.sequential_guided(2, scale)
    torch.testing.assert_close(found.log_proposal.sum(1).exp().view(5, 5, 5), probs)
    torch.testing.assert_close(found.log_normalizer[:, 2].view(5, 5, 5)[:, :, 0], log_normalizers[2])


def test_chains_mix_too():
    rng = np.random.default_rng(3)
    first, step = (torch.tensor(rng.dirichlet(np.ones(3), size=size)) for size in ((2,), (2, 3)))
    prior = torch.tensor([0.2, 0.8], dtype=torch.float64)
    models = [ChainModel(first[y].log(), step[y].log()) for y in range(2)]
    every = torch.cartesian_prod(*[torch.arange(3)] * 4)
    found = sampling.retrace(Mixture(models, prior.log()), every).log_target.sum(1).exp()
    for x, mass in zip(every.tolist(), found.tolist(), strict=True):
        laws = [first[y][x[0]] * np.prod([step[y][a][b] for a, b in pairwise(x)]) for y in range(2)]
        assert mass == pytest.approx(float(prior[0] * laws[0] + prior[1] * laws[1]), rel=1e-12)


def test_the_posterior_of_every_prefix_is_bayes_rule(make_joint):
    joint = make_joint(2, (3, 2, 3, 2))
    for t in (1, 2, 3):
        prefixes = list(product(*map(range, joint.shape[1 : t + 1])))
        found = after(mixture_of(joint), prefixes).log_posterior.exp()
        np.testing.assert_allclose(found, [posterior(joint, prefix) for prefix in prefixes], atol=1e-12)


def test_the_posterior_follows_its_row(make_joint):
    joint, index = make_joint(2, (3, 2, 3, 2)), torch.tensor([5, 0, 0, 3])
    prefixes = list(product(range(2), range(3)))
    model = mixture_of(joint)
    chosen = model.select(after(model, prefixes), index)
    chosen = model.append(chosen, torch.zeros(4, dtype=torch.long))
    expected = [posterior(joint, (*prefixes[i], 0)) for i in index]
    np.testing.assert_allclose(chosen.log_posterior.exp(), expected, atol=1e-12)
    guided = model.guidance(1, 3.0)
    states = guided.select(after(guided, prefixes), index)
    np.testing.assert_allclose(
        states.branches[1].log_posterior.exp(), [posterior(joint, prefixes[i]) for i in index], atol=1e-12
    )
    assert abs(np.diff(expected, axis=0)).max() > 0.05  # so another order of the rows would be another result


def test_components_are_read_once(make_joint):
    counted = [Counted(model) for model in mixture_of(make_joint()).models]
    model = Mixture(counted, torch.tensor([0.5, 0.5]).log()).guidance(1, 3.0)
    state = model.select(model.append(model.start(2), torch.tensor([0, 1])), torch.tensor([1, 1]))
    assert [each.reads for each in counted] == [3, 3]
    assert state.branches[0] is state.branches[1].branches[1]


def test_a_component_of_a_nested_mixture_is_read_once(make_joint):
    counted = [Counted(model) for model in mixture_of(make_joint()).models]
    half = torch.tensor([0.5, 0.5]).log()
    inner = Mixture(counted, half)
    law = arguide.LogLinear((counted[0], inner, Mixture([inner, counted[1]], half)), (2.0, -0.5, -0.5))
    law.append(law.start(1), torch.tensor([0]))
    assert [each.reads for each in counted] == [2, 2]


def test_a_mixture_satisfies_what_samplers_assume(make_joint):
    mixture = mixture_of(make_joint(4, (3, 2, 2, 2, 2)))
    arguide.check_law(mixture)
    arguide.check_law(mixture.guidance(0, 2.0))


def test_a_label_that_a_prefix_excludes_drops_out():
    joint = np.array([[[0.2, 0.1], [0.0, 0.0]], [[0.1, 0.2], [0.3, 0.1]]])
    state = after(mixture_of(joint), [(1,)])
    np.testing.assert_allclose(state.log_posterior.exp(), [[0.0, 1.0]])
    np.testing.assert_allclose(state.log_probs.exp(), [[0.75, 0.25]])


def test_a_prefix_that_all_labels_exclude_has_no_law():
    joint = np.array([[[0.4, 0.1], [0.0, 0.0]], [[0.1, 0.4], [0.0, 0.0]]])
    state = after(mixture_of(joint), [(1,), (0,)])
    assert (state.log_posterior[0] == -torch.inf).all()
    assert (state.log_probs[0] == -torch.inf).all()
    np.testing.assert_allclose(state.log_probs[1].exp(), [0.5, 0.5])


def test_half_precision_keeps_a_posterior_of_log_probs():
    laws = [torch.tensor([[0.5, 0.5]]).log().half(), torch.tensor([[0.9, 0.1]]).log().half()]
    found = module.updated(torch.tensor([[0.5, 0.5]]).log(), laws, torch.tensor([0]))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.exp(), torch.tensor([[0.5, 0.9]]) / 1.4, atol=1e-3, rtol=0)


BAD = [
    (lambda models: Mixture(models, [0.0, 0.0]), "log_prior"),
    (lambda models: Mixture(models, torch.tensor([0.5, 0.6]).log()), "sum 1"),
    (lambda models: Mixture(models, torch.tensor([1.0]).log()), "one per model, 2, got 1"),
    (lambda models: Mixture(models, "ab"), "log_prior"),
    (lambda models: Mixture(models, [float("nan"), 0.0]), "log_prior"),
    (lambda models: Mixture(models, [[0.0], [0.0]]), "log_prior"),
    (lambda models: Mixture([3, 4], torch.tensor([0.5, 0.5]).log()), "models"),
    (lambda models: Mixture([], []), "at least one"),
    (lambda models: Mixture(models, torch.tensor([0.5, 0.5]).log()).guidance(2, 3.0), "label"),
    (lambda models: Mixture(models, torch.tensor([0.5, 0.5]).log()).guidance("a", 3.0), "label"),
    (lambda models: Mixture(models, torch.tensor([1.0, 0.0]).log()).guidance(1, 3.0), "positive prior"),
    (lambda models: Mixture([models[0], wide()], torch.tensor([0.5, 0.5]).log()).start(2), "one vocabulary"),
]


def wide():
    return Table(np.full((1, 5, 5), 0.04)).autoregressive(0)


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_mixtures_are_refused_in_one_line(make_joint, call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(list(mixture_of(make_joint()).models))
    assert len(str(caught.value).splitlines()) == 1
