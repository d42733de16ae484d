"""Rung 2 of the ladder: the samplers are run along every branch of their `draw` seam, and the whole law is compared."""

import math
from itertools import product

import numpy as np
import pytest
import torch

import arguide
from analysis import MarkovChain, Table
from arguide import LogLinear, sample, sampling
from arguide.smc.draws import torch_categorical

# Plain numpy truncations of one row, written from their definitions.


def by_rank(p, rank, mass):
    kept, order = np.zeros_like(p), sorted(range(len(p)), key=lambda v: rank[v])
    for v in order:
        if kept.sum() >= mass:
            break
        kept[v] = p[v]
    return kept / kept.sum()


def top_k_row(p, k=2):
    return np.where(p >= sorted(p)[-min(k, len(p))], p, 0) / sum(sorted(p)[-min(k, len(p)) :])


def nucleus_row(p, mass=0.7):
    return by_rank(p, -p, mass)


def typical_row(p, mass=0.6):
    surprise = np.array([-math.log(q) if q > 0 else 1e9 for q in p])
    return by_rank(p, abs(surprise - (p * surprise * (p > 0)).sum()), mass)


def tempered_row(p, tau=0.6):
    return p ** (1 / tau) / (p ** (1 / tau)).sum()


TRUNCATIONS = {
    "none": (arguide.compose(), lambda p: p),
    "temperature": (arguide.temperature(0.6), tempered_row),
    "top_k": (arguide.top_k(2), top_k_row),
    "nucleus": (arguide.nucleus(0.7), nucleus_row),
    "typical": (arguide.typical(0.6), typical_row),
    "temperature, then nucleus": (
        arguide.compose(arguide.temperature(0.6), arguide.nucleus(0.7)),
        lambda p: nucleus_row(tempered_row(p)),
    ),
    "nucleus, then temperature": (
        arguide.compose(arguide.nucleus(0.7), arguide.temperature(0.6)),
        lambda p: tempered_row(nucleus_row(p)),
    ),
}


def chained(steps, shape, row=lambda p: p):
    """Return Π_t row(steps[x_<t])[x_t], [V_1, …, V_T]."""
    law = np.zeros(shape)
    for x in product(*map(range, shape)):
        law[x] = math.prod(row(steps[x[:t]])[x[t]] if steps[x[:t]].sum() > 0 else 0.0 for t in range(len(shape)))
    return law


def guided(table, weights, **kwargs):
    return LogLinear(tuple(table.autoregressive(y) for y in weights), tuple(weights.values()), **kwargs)


WEIGHTS = {
    "conditional": {0: 1.0},
    "unconditional": {None: 1.0},
    "guided": {None: -1.5, 0: 2.5},
    "reversed": {None: 1.4, 1: -0.4},
    "tempered": {None: 1 / 0.4},
    "guided and tempered": {None: -1.5 / 1.7, 1: 2.5 / 1.7},
    "two conditions": {None: -1.2, 0: 1.4, 1: 0.8},
    "a negative condition": {None: 0.1, 0: 1.2, 1: -0.3},
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_sampler_has_the_sequential_law_on_every_branch(make_joint, brute, replay, name):
    joint = make_joint(17, (2, 3, 2, 4))  # ragged: V_t differ
    expected, model = brute(joint, WEIGHTS[name]), guided(Table(joint), WEIGHTS[name])
    law = replay(lambda draw: sample(model, 1, 3, draw=draw).tokens, (3, 2, 4))
    np.testing.assert_allclose(law, expected.sequential, rtol=0, atol=1e-9)
    toy, _ = Table(joint).log_sequential(WEIGHTS[name])
    np.testing.assert_allclose(law, toy.exp().numpy(), rtol=0, atol=1e-9)
    if len(WEIGHTS[name]) > 1:  # negative control: the joint law is another
        assert abs(law - expected.joint).max() > 1e-4


@pytest.mark.parametrize("scale", [0.0, 0.6, 1.0, 3.0])
def test_the_sampler_has_the_sequential_law_with_zeros(make_joint, brute, replay, scale):
    joint = make_joint(8, (2, 3, 2, 3), zeros=0.4)
    assert (joint == 0).any()
    model = LogLinear.guidance(Table(joint).autoregressive(1), Table(joint).autoregressive(), scale)
    law = replay(lambda draw: sample(model, 1, 3, draw=draw).tokens, (3, 2, 3))
    np.testing.assert_allclose(law, brute(joint, {None: 1 - scale, 1: scale}).sequential, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", TRUNCATIONS)
def test_the_truncated_sampler_has_the_truncated_law_on_every_branch(make_joint, brute, replay, name):
    joint, weights = make_joint(23, (2, 4, 3, 4)), {None: -1.0, 1: 2.0}
    transform, row = TRUNCATIONS[name]
    law = replay(lambda draw: sample(guided(Table(joint), weights), 1, 3, draw=draw, transform=transform).tokens, (4, 3, 4))
    steps = brute(joint, weights).steps
    np.testing.assert_allclose(law, chained(steps, (4, 3, 4), row), rtol=0, atol=1e-9)
    if name != "none":  # negative control: the truncation put before guidance, or left out, is another law
        assert abs(law - chained(steps, (4, 3, 4))).max() > 1e-3


@pytest.mark.parametrize(
    ("ours", "theirs", "value"),
    [("top_k", "TopKLogitsWarper", 2), ("nucleus", "TopPLogitsWarper", 0.7), ("typical", "TypicalLogitsWarper", 0.6)],
)
def test_the_truncated_sampler_agrees_with_the_warpers_of_transformers(make_joint, brute, replay, ours, theirs, value):
    from transformers.generation import logits_process

    warper = getattr(logits_process, theirs)(value)
    joint, weights = make_joint(29, (2, 4, 4, 4)), {None: -1.0, 0: 2.0}
    transform = getattr(arguide, ours)(value)
    law = replay(lambda draw: sample(guided(Table(joint), weights), 1, 3, draw=draw, transform=transform).tokens, (4, 4, 4))

    def row(p):
        return warper(None, torch.from_numpy(p).log()[None]).softmax(-1)[0].numpy()

    np.testing.assert_allclose(law, chained(brute(joint, weights).steps, (4, 4, 4), row), rtol=0, atol=1e-9)


def test_a_schedule_of_the_scale_over_positions_has_its_law_on_every_branch(make_joint, brute, replay):
    joint, scales = make_joint(31, (2, 3, 3, 2)), (3.0, 1.0, -0.5)
    table = Table(joint)
    model = LogLinear.guidance(table.autoregressive(0), table.autoregressive(), lambda t: (*scales, 1.0)[t])
    law = replay(lambda draw: sample(model, 1, 3, draw=draw).tokens, (3, 3, 2))
    steps = {}
    for t, scale in enumerate(scales):
        steps |= {x: p for x, p in brute(joint, {None: 1 - scale, 0: scale}).steps.items() if len(x) == t}
    np.testing.assert_allclose(law, chained(steps, (3, 3, 2)), rtol=0, atol=1e-9)


def test_chains_go_through_the_same_sampler(replay):
    initial = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], dtype=torch.float64)
    rng = torch.Generator().manual_seed(2)
    transition = torch.rand((2, 3, 3), generator=rng, dtype=torch.float64) + 0.05
    chain = MarkovChain(initial, transition / transition.sum(-1, keepdim=True), 4)
    model = LogLinear.guidance(chain.autoregressive(0), chain.autoregressive(), 2.5)
    law = replay(lambda draw: sample(model, 1, 4, draw=draw).tokens, (3,) * 4)
    sequential, _ = chain.sequential_guided(0, 2.5)
    x = torch.cartesian_prod(*[torch.arange(3)] * 4)
    np.testing.assert_allclose(law.ravel(), sequential.log_prob(x).exp().numpy(), rtol=0, atol=1e-9)


def test_a_batch_of_every_branch_is_its_rows_and_records_its_own_law(make_joint, brute):
    joint, weights = make_joint(37, (2, 3, 3, 3)), {None: -1.0, 0: 2.0}
    x = torch.cartesian_prod(*[torch.arange(3)] * 3)
    columns = iter(x.unbind(1))
    result = sample(guided(Table(joint), weights), len(x), 3, draw=lambda _: next(columns))
    expected = brute(joint, weights)
    assert torch.equal(result.tokens, x)
    np.testing.assert_allclose(result.log_proposal.sum(1).exp().numpy(), expected.sequential.ravel(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.log_target.sum(1).exp().numpy(), expected.joint.ravel() * expected.z, rtol=1e-9)
    paths = [math.prod(expected.normalizers[tuple(row[:t])] for t in range(3)) for row in x.tolist()]
    np.testing.assert_allclose((result.log_target - result.log_proposal).sum(1).exp().numpy(), paths, rtol=1e-9)


def test_init_and_step_are_pure(make_joint):
    model = guided(Table(make_joint()), {None: -1.0, 0: 2.0})
    first = sampling.init(model, 2)
    assert first.x.shape == (2, 0)
    before = first.model.log_probs.clone()
    states = [sampling.step(model, first, lambda _, v=v: torch.tensor([v, 1]))[0] for v in (0, 2)]
    assert torch.equal(first.model.log_probs, before)
    assert [state.x.tolist() for state in states] == [[[0], [1]], [[2], [1]]]


def test_the_same_seed_gives_the_same_sample_and_leaves_the_global_one_alone(make_joint):
    model, before = guided(Table(make_joint()), {None: -1.0, 0: 2.0}), torch.get_rng_state()
    draws = [sample(model, 200, 2, generator=torch.Generator().manual_seed(seed)).tokens for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("weights", "agrees"), [({None: -1.0, 0: 2.0}, True), ({None: -1.0, 1: 2.0}, False)])
def test_categorical_draws_follow_the_law(make_joint, brute, weights, agrees):
    # 5 standard errors on 9 cells: a false-fail rate below 1e-5. The negative control draws with the labels swapped.
    joint, n = make_joint(3, (2, 3, 3)), 40_000
    tokens = sample(guided(Table(joint), weights), n, 2, generator=torch.Generator().manual_seed(0)).tokens
    expected = brute(joint, {None: -1.0, 0: 2.0}).sequential.ravel()
    counts = np.bincount(tokens[:, 0].numpy() * 3 + tokens[:, 1].numpy(), minlength=9)
    z = (counts - n * expected) / np.sqrt(n * expected * (1 - expected))
    assert (abs(z).max() < 5) == agrees


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_extreme_levels_draw_the_extreme_tokens_and_none_of_probability_zero(monkeypatch, dtype):
    """At u = 0 and at the largest u < 1, under laws whose sums round in every way; a search from the left draws token 0."""
    laws = torch.rand(500, 40, generator=torch.Generator().manual_seed(0)).log().mul(9).to(dtype)
    laws[:, [0, 1, 20, 38, 39]] = -math.inf
    for level, token in ((0.0, 2), (1 - 2**-53, 37)):
        monkeypatch.setattr(torch, "rand", lambda *size, level=level, dtype, **_: torch.full(size, level, dtype=dtype))
        drawn = sampling.categorical()(laws)
        assert laws.gather(1, drawn[:, None]).isfinite().all()
        assert (drawn == token).float().mean() > 0.9  # the others' extreme tokens are too rare for 53 bits
    monkeypatch.undo()
    cumulated = laws.double().exp().cumsum(-1)
    assert (torch.searchsorted(cumulated, torch.zeros(500, 1).double()) == 0).all()


def test_even_levels_draw_every_token_as_often_as_the_law_says(monkeypatch):
    """M levels (i + ½)/M visit a token M p ± 1 times, rare ones too; those of a tempered law do not."""
    m, law = 20_000, torch.randn(512, generator=torch.Generator().manual_seed(0)).mul(3).log_softmax(-1)
    levels = ((torch.arange(m, dtype=torch.float64) + 0.5) / m)[:, None]
    monkeypatch.setattr(torch, "rand", lambda n, _, **options: levels[:n])
    counts = sampling.categorical()(law.expand(m, -1)).bincount(minlength=512)
    assert (counts - m * law.double().softmax(-1)).abs().max() <= 1 + 1e-6 * m
    assert (counts - m * (0.95 * law.double()).softmax(-1)).abs().max() > 10


@pytest.mark.parametrize("value", [-math.inf, math.nan, math.inf])
def test_a_row_without_a_law_is_refused(value):
    law = torch.zeros(3, 4)
    law[1] = value
    with pytest.raises(ValueError, match="possible index in every row"):
        sampling.categorical()(law)


def test_a_dead_end_is_named_not_sampled():
    joint = np.zeros((2, 2, 2))
    joint[0, 0, 0], joint[0, 1, 1], joint[1, 0, 1], joint[1, 1, 0] = 0.3, 0.2, 0.25, 0.25
    model = guided(Table(joint), {0: 1.0, 1: 1.0})  # labels that share every first token and no pair
    with pytest.raises(ValueError, match="dead end at position 1"):
        sample(model, 3, 2)


def test_a_dead_end_in_one_row_leaves_the_others_their_law():
    joint = np.array([[[0.3, 0.0], [0.1, 0.2]], [[0.0, 0.25], [0.05, 0.1]]])  # after token 0 the labels share no token
    model = guided(Table(joint), {0: 1.0, 1: 1.0})
    state, _ = sampling.step(model, sampling.init(model, 2), lambda _: torch.tensor([0, 1]))
    last, info = sampling.step(model, state, lambda _: torch.tensor([1, 1]), last=True)
    assert last.x.tolist() == [[0, 0], [1, 1]]
    assert info.log_target[0] == info.log_normalizer[0] == -math.inf
    assert float(info.log_proposal[1].exp()) == pytest.approx(0.8)  # in proportion to (1/3)² and (2/3)²
    assert float(info.log_target[1].exp()) == pytest.approx((2 / 3) ** 2)


def test_no_token_outside_the_support_is_drawn(make_joint):
    table = Table(make_joint(41, (2, 2, 4, 3), zeros=0.4))
    tokens = sample(guided(table, {None: -1.0, 0: 2.0}), 2000, 3, generator=torch.Generator().manual_seed(0)).tokens
    assert (table.log_probs(0)[tuple(tokens.T)] > -math.inf).all()


def test_no_tokens_is_a_sample_of_length_zero(make_joint):
    assert sample(guided(Table(make_joint()), {0: 1.0}), 3, 0).tokens.shape == (3, 0)


def test_retraced_sequences_have_the_densities_that_they_were_drawn_with(make_joint):
    table = Table(make_joint(5, (2, 3, 2, 3)))
    options = {"transform": arguide.temperature(0.5), "propose": sampling.branch(1)}
    drawn = sample(guided(table, {0: 2.0, None: -1.0}), 20, 3, generator=torch.Generator().manual_seed(0), **options)
    again = sampling.retrace(guided(table, {0: 2.0, None: -1.0}), drawn.tokens, **options)
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))


def test_a_row_of_a_plain_model_without_a_possible_token_has_no_mass(make_joint):
    """The second row; a model without a log normalizer of its own."""
    model = Table(make_joint(3, (2, 2, 2))).autoregressive()
    state = sampling.State(model.start(2), torch.zeros(2, 0, dtype=torch.long))
    state.model.log_probs[1] = -math.inf
    _, info = sampling.step(model, state, torch_categorical())
    assert info.log_normalizer.tolist() == [0.0, -math.inf]
    assert info.log_target[1] == -math.inf < info.log_target[0]
