"""Draws by acceptance have the joint law, and log Ẑ has the error that it states: against tables and plain loops."""

import math

import numpy as np
import pytest
import torch

import arguide
from analysis import Table
from analysis.toys.autoregressive import ChainModel
from arguide import Ending, Mixture, sample_accepted
from arguide.coherent.acceptance import proposals
from arguide.smc import acceptance

SCALES = [0.0, 0.5, 1.0, 1.5, 3.0, 10.0]


def mixture_of(joint):
    table = Table(joint)
    return Mixture([table.autoregressive(y) for y in range(len(joint))], table.log_prior())


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def weights_of(joint, label, scale):
    """Return p(x) p(y|x)^γ π_y^{−γ} at every x, whose sum is Z, by the definition."""
    p, prior = joint.sum(0), joint[label].sum()
    return p * (joint[label] / p / prior) ** scale


@pytest.mark.parametrize("component", [None, 0, 1, 2])
def test_proposals_have_the_law_of_their_component_on_every_branch(make_joint, replay, component):
    joint = make_joint(4, (3, 2, 3, 2))
    law = replay(lambda draw: proposals(mixture_of(joint), component, 1, 3, draw)[0], (2, 3, 2))
    np.testing.assert_allclose(
        law, joint.sum(0) if component is None else joint[component] / joint[component].sum(), atol=1e-12
    )


def test_proposals_carry_the_posterior_of_the_whole_sequence(make_joint):
    joint = make_joint(4, (3, 2, 3, 2))
    x, log_posterior, _ = proposals(mixture_of(joint), None, 50, 3, arguide.smc.draws.categorical(seeded()))
    expected = [joint[(slice(None), *row)] / joint[(slice(None), *row)].sum() for row in x.tolist()]
    np.testing.assert_allclose(log_posterior.exp(), expected, atol=1e-12)


@pytest.mark.parametrize("scale", SCALES)
def test_even_levels_keep_every_sequence_as_often_as_the_joint_law_says(make_joint, brute, scale):
    """Every x is proposed in proportion to its probability, and accepted at M even levels: nothing is left to chance."""
    joint, label, m = make_joint(4, (3, 2, 3, 2)), 1, 4000
    proposal = joint[label] / joint[label].sum() if scale >= 1 else joint.sum(0)
    counts = np.round(proposal.flatten() * m).astype(int)
    log_posterior = torch.tensor(np.log(joint[label] / joint.sum(0))).flatten()
    index = torch.arange(counts.size).repeat_interleave(torch.tensor(counts))
    levels = torch.cat([(torch.arange(count) + 0.5) / count for count in counts])
    (found,) = acceptance.accept(
        lambda rows: acceptance.Proposed(index, log_posterior[index]),
        [scale - (scale >= 1)],
        1,
        math.log(joint[label].sum()),
        uniform=lambda _: levels,
        tolerance=math.inf,
    )
    kept = acceptance.Proposals([scale - (scale >= 1)], 1)
    kept.add(acceptance.Proposed(index, log_posterior[index]), lambda _: levels)
    law = np.bincount(torch.cat([x for x, _ in kept.kept[0]]), minlength=counts.size).reshape(proposal.shape)
    exact = brute(joint, {label: scale, None: 1 - scale})
    np.testing.assert_allclose(law / law.sum(), exact.joint, atol=3e-3)
    assert found.log_evidence.exp() == pytest.approx(exact.z, rel=3e-3)
    assert found.log_acceptance.exp() == pytest.approx(law.sum() / m, rel=3e-3)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", [(2, 3, 2, 3), (3, 5, 5, 5), (3, *[2] * 8)], ids=str)
def test_draws_follow_the_joint_law(make_joint, shape, scale):
    """Each cell at 5 standard errors: an error of 3 % of the law's largest cell is found, a false fail has odds below 1e-3."""
    joint, n = make_joint(7, shape), 20_000
    found = sample_accepted(mixture_of(joint), 1, scale, n, len(shape) - 1, generator=seeded(3))
    law = torch.zeros(shape[1:], dtype=torch.float64)
    law.index_put_(tuple(found.tokens.T), torch.tensor(1 / n).double(), accumulate=True)
    expected = weights_of(joint, 1, scale)
    expected /= expected.sum()
    error = 5 * np.sqrt(expected / n) + 3 / n
    assert (abs(law.numpy() - expected) < error).all()
    wrong = weights_of(joint, 1, scale / 2 if scale else 0.5)
    assert (abs(law.numpy() - wrong / wrong.sum()) > error).any()  # a wrong exponent is caught
    assert found.tokens.shape == (n, len(shape) - 1)
    posterior = joint[1] / joint.sum(0)
    np.testing.assert_allclose(found.log_posterior.exp(), posterior[tuple(found.tokens.T.numpy())], atol=1e-9)


def standardised(mixture, label, scale, length, exact, runs=200):
    """Return (log Ẑ − log Z)/std_error of independent runs, and the largest standard error."""
    found = [sample_accepted(mixture, label, scale, 400, length, generator=seeded(i), rows=2000) for i in range(runs)]
    z = torch.stack([(each.log_evidence - exact) / each.std_error for each in found])
    return z, max(float(each.std_error) for each in found)


@pytest.mark.parametrize("scale", [0.5, 1.5, 3.0, pytest.param(10.0, marks=pytest.mark.slow)])
def test_log_evidence_has_the_error_that_it_states(make_joint, scale):
    """The standard deviation of 200 scores is in .8–1.25 with odds of 1e-4 against it."""
    joint = make_joint(9, (3, 5, 4))
    exact = math.log(weights_of(joint, 1, scale).sum())
    z, error = standardised(mixture_of(joint), 1, scale, 2, exact)
    assert error <= 0.02
    assert 0.8 < float(z.std()) < 1.25
    assert abs(float(z.mean())) < 0.35
    wrong = math.log(weights_of(joint, 1, scale + 0.5).sum())
    assert abs(float(z.mean()) + (exact - wrong) / 0.02) > 0.35  # the same test on another exponent


def test_chains_of_long_sequences_have_their_log_evidence():
    """Against transfer matrices over both labels' counts: here by the mixture of two chains that differ in one step."""
    length, prior = 8, torch.tensor([0.3, 0.7], dtype=torch.float64)
    rng = np.random.default_rng(5)
    first, step = torch.tensor(rng.dirichlet([1, 1], size=2)), torch.tensor(rng.dirichlet([1, 1], size=(2, 2)))
    every = torch.cartesian_prod(*[torch.arange(2)] * length)
    laws = torch.stack([first[y][every[:, 0]] * step[y][every[:, :-1], every[:, 1:]].prod(1) for y in range(2)])
    p = (prior[:, None] * laws).sum(0)
    mixture = Mixture([ChainModel(first[y].log(), step[y].log()) for y in range(2)], prior.log())
    for scale in (0.5, 1.5, 3.0, 10.0):
        found = sample_accepted(mixture, 0, scale, 2000, length, generator=seeded(1))
        exact = (p ** (1 - scale) * laws[0] ** scale).sum().log()
        assert abs(float(found.log_evidence - exact)) < 5 * float(found.std_error)


def test_several_scales_share_proposals(make_joint):
    mixture = mixture_of(make_joint(7, (3, 5, 4, 3)))
    found = sample_accepted(mixture, 1, [1.5, 3.0, 0.5, 1.0], 300, 3, generator=seeded(2))
    assert len({found[i].tried for i in (0, 1, 3)}) == 1
    alone = sample_accepted(mixture, 1, 3.0, 300, 3, generator=seeded(2))
    for each, expected in zip(alone, found[1], strict=True):
        assert each == expected if isinstance(each, int) else torch.equal(each, expected)
    assert float(found[3].log_acceptance) == 0.0
    assert float(found[3].std_error) == 0.0
    assert float(found[0].log_acceptance) > float(found[1].log_acceptance)


def test_the_acceptance_is_the_mean_weight_of_whole_batches(make_joint):
    """Accepted over tried, stopped at the n-th acceptance, is biased and noisier; the mean of the weights is neither."""
    joint = make_joint(7, (3, 5, 4, 3))
    a = float(weights_of(joint, 1, 3.0).sum() * joint[1].sum() ** 2)
    found = [
        sample_accepted(mixture_of(joint), 1, 3.0, 20, 3, generator=seeded(i), rows=64, tolerance=math.inf) for i in range(300)
    ]
    assert all(each.tried % 64 == 0 for each in found)
    acceptance = torch.stack([each.log_acceptance.exp() for each in found])
    assert abs(float(acceptance.mean()) - a) < 4 * float(acceptance.std()) / math.sqrt(300) + 2e-3


@pytest.mark.parametrize("scale", [1.5, 3.0, 10.0])
def test_the_share_that_is_kept_bounds_the_change(make_joint, scale):
    joint = make_joint(7, (3, 5, 4, 3))
    found = sample_accepted(mixture_of(joint), 1, scale, 20_000, 3, generator=seeded(), tolerance=0.004)
    law, cond = weights_of(joint, 1, scale), joint[1] / joint[1].sum()
    law /= law.sum()
    assert (law * np.log(law / cond)).sum() < float(found.most_kl) + 0.02
    assert abs(law - cond).sum() / 2 < float(found.most_tv) + 0.02


@pytest.mark.parametrize("cap", ["truncate", "force"])
@pytest.mark.parametrize("inside", [False, True])
def test_texts_that_end_have_the_joint_law_of_whole_texts(make_joint, cap, inside):
    """A cap around the mixture counts a forced end with its own probability; components that force it have probability 1."""
    joint, label, scale, n = make_joint(3, (2, 2, 2, 2)), 1, 3.0, 20_000
    table = Table(joint)
    models, prior = [table.autoregressive(y) for y in range(2)], table.log_prior()
    ending = lambda model: Ending(model, (0,), 3, cap)  # noqa: E731
    mixture = Mixture([ending(each) for each in models], prior) if inside else ending(Mixture(models, prior))
    found = sample_accepted(mixture, label, scale, n, 3, generator=seeded(4))
    masses = {}
    for x in [(0,), (1, 0), (1, 1, 0), *([(1, 1, 1)] if cap == "truncate" else [])]:
        free = inside and cap == "force"
        mass = [float(joint[(y, *(x[:2] if free and len(x) == 3 else x))].sum()) for y in range(2)]
        masses[(*x, 0, 0)[:3]] = sum(mass) * (mass[label] / sum(mass)) ** scale
    total = sum(masses.values())
    counts = {x: int((found.tokens == torch.tensor(x)).all(1).sum()) for x in masses}
    assert sum(counts.values()) == n
    for x, mass in masses.items():
        assert abs(counts[x] / n - mass / total) < 5 * math.sqrt(mass / total / n)
    exact = math.log(total) - scale * float(prior[label])
    assert abs(float(found.log_evidence) - exact) < 5 * float(found.std_error)


def test_seeds_repeat_and_draws_are_the_only_randomness(make_joint):
    mixture = mixture_of(make_joint())
    one, two = (sample_accepted(mixture, 0, 3.0, 50, 2, generator=seeded(9)) for _ in range(2))
    assert torch.equal(one.tokens, two.tokens)
    assert not torch.equal(one.tokens, sample_accepted(mixture, 0, 3.0, 50, 2, generator=seeded(8)).tokens)


def test_a_finer_tolerance_makes_more_proposals(make_joint):
    mixture = mixture_of(make_joint(7, (3, 5, 4, 3)))
    loose, tight = (sample_accepted(mixture, 1, 3.0, 50, 3, generator=seeded(), tolerance=t) for t in (math.inf, 0.005))
    assert float(tight.std_error) <= 0.005 < float(loose.std_error)
    assert len(tight.tokens) == len(loose.tokens) == 50


def test_batches_grow_by_default_and_keep_a_given_size(make_joint):
    sizes = []

    def draw(law):
        sizes.append(len(law))
        return arguide.smc.draws.categorical(seeded(len(sizes)))(law)

    mixture = mixture_of(make_joint(7, (3, 5)))
    for rows, expected in ((None, [64, 128, 256, 512, 512]), (100, [100] * 5)):
        sizes.clear()
        sample_accepted(mixture, 1, 10.0, 10, 1, draw=draw, generator=seeded(), tolerance=0.015, rows=rows)
        assert sizes[:5] == expected
    sizes.clear()
    sample_accepted(mixture, 1, 1.0, 700, 1, draw=draw)
    assert sizes == [700]


def far():
    """Two labels that share one sequence only, which label 0 has with probability 1 and label 1 with 1 - 1e-4."""
    joint = np.array([[0.5 * 1.0, 0.0], [0.5 * (1 - 1e-4), 0.5 * 1e-4]])
    return mixture_of(joint)


def test_a_share_that_is_too_small_is_refused_with_its_estimate():
    with pytest.raises(
        arguide.LowAcceptanceError, match=r"A must be at least 0.001, got .*e-10; one draw needs about 1/A"
    ) as caught:
        sample_accepted(far(), 0, 33.0, 10, 1, generator=seeded())
    assert len(str(caught.value).splitlines()) == 1
    assert len(sample_accepted(far(), 0, 8.0, 10, 1, generator=seeded()).tokens) == 10  # A = 2⁻⁷


BAD = [
    (lambda m: sample_accepted(m, 0, -0.5, 5, 2), "scale must be finite and at least 0"),
    (lambda m: sample_accepted(m, 0, float("nan"), 5, 2), "scale"),
    (lambda m: sample_accepted(m, 0, [1.0, "2"], 5, 2), "scale"),
    (lambda m: sample_accepted(m, 2, 3.0, 5, 2), "label must be the index of a component, below 2, got 2"),
    (lambda m: sample_accepted(m, -1, 3.0, 5, 2), "label"),
    (lambda m: sample_accepted(m, 0, 3.0, 0, 2), "n must"),
    (lambda m: sample_accepted(m, 0, 3.0, 5, 0), "length"),
    (lambda m: sample_accepted(m, 0, 3.0, 5, 2, tolerance=0.0), "tolerance"),
    (lambda m: sample_accepted(m, 0, 3.0, 5, 2, rows=0), "rows"),
    (lambda m: sample_accepted(m, 0, 3.0, 5, 2, least=2.0), "least"),
    (lambda m: sample_accepted(m, 0, 3.0, 5, 2, draw=3), "draw"),
    (lambda m: sample_accepted(m, 0, 3.0, 5, 2, uniform=3), "uniform"),
    (lambda m: sample_accepted(m.models[0], 0, 3.0, 5, 2), "mixture must be an arguide.Mixture"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_arguments_are_refused_in_one_line(make_joint, call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(mixture_of(make_joint()))
    assert len(str(caught.value).splitlines()) == 1
