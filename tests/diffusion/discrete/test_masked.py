"""Guided masked diffusion: every sampler's law by replay of all its branches, weighted and not; Monte Carlo with resampling."""

import math

import numpy as np
import pytest
import torch

from analysis.toys import Table, guidance
from analysis.toys.discrete_diffusion import masked_law
from diffusion import LogLinear, conditioned
from diffusion.discrete import masked
from diffusion.discrete.base import State
from diffusion.discrete.masked import Jump, defensive, left_to_right, normalized, sample, sample_joint, step, unnormalized

RULES = [normalized, unnormalized, left_to_right]
SHAPES = [(3, (2, 3, 3), 0.0), (5, (3, 2, 3, 2), 0.0), (8, (2, 3, 2, 3), 0.3)]


def boldest(log_rates, masked):
    """Unmask where the best value's probability is greatest: an order that looks at the data, as MaskGIT's does."""
    law = normalized(log_rates, masked).log_probs
    best = law.amax(-1, keepdim=True)
    order = torch.where((best == best.amax(1, keepdim=True)).squeeze(-1), 0.0, -math.inf).double()
    return Jump(law - law.logsumexp(-1, keepdim=True).nan_to_num(neginf=0.0) + order[..., None], order)


def guided(table, gamma):
    return LogLinear.guidance(conditioned(table.denoise_masked, 1), conditioned(table.denoise_masked), gamma)


@pytest.fixture(params=SHAPES[:2], ids=str)
def table(request, make_joint):
    return Table(make_joint(*request.param))


@pytest.fixture
def weighted(branches, seam):
    """(run, shape) ↦ E[Ẑ] and E[Ẑ Σ_i W_i δ(x_i)], [V_1, …, V_T], of run(choose seam) ↦ JointSample, by replay."""

    def law(run, shape):
        evidence, found = 0.0, np.zeros(shape)
        for mass, result in branches(lambda choose: run(seam(choose), choose)):
            evidence += mass * math.exp(result.log_evidence)
            for x, weight in zip(result.x.tolist(), result.log_weights.exp().tolist(), strict=True):
                found[tuple(x)] += mass * math.exp(result.log_evidence) * weight
        return evidence, found

    return law


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("gamma", [2.5, 0.0, 1.0])
def test_the_samplers_law_is_the_sum_over_its_orders(table, replay, rule, gamma):
    found = replay(lambda draw: sample(guided(table, gamma), 1, table.length, rule=rule, draw=draw).x, table.shape)
    if rule is left_to_right:
        expected = table.sequential_guided(1, gamma).probabilities
    else:
        expected = masked_law(table, guidance(1, gamma), normalized=rule is normalized).exp()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    wrong = masked_law(table, guidance(1, gamma), normalized=rule is unnormalized).exp()
    if gamma == 2.5:
        assert abs(found - wrong.numpy()).max() > 1e-5


@pytest.mark.parametrize("rule", [*RULES, boldest])
@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_weights_make_every_order_exact_and_the_evidence_unbiased(make_joint, weighted, case, rule):
    table, gamma = Table(make_joint(*case)), 2.5
    law, log_z = table.joint_guided(1, gamma)

    def run(choose, _):
        try:
            return sample_joint(guided(table, gamma), 1, table.length, rule=rule, draw=choose)
        except ValueError:  # the one particle died: Ẑ = 0
            return dead

    dead = sample_joint(guided(table, 0.0), 1, table.length)._replace(log_evidence=torch.tensor(-math.inf))
    evidence, found = weighted(run, table.shape)
    assert evidence == pytest.approx(float(log_z.exp()), rel=1e-12)
    np.testing.assert_allclose(found, law * log_z.exp(), rtol=0, atol=1e-12)


def test_weights_do_not_correct_what_they_were_not_made_for(make_joint, weighted):
    """Negative control: a target without its order, and jumps not drawn from the law that is weighed."""

    def forgotten(log_rates, masked):
        return unnormalized(log_rates, masked)._replace(log_order=torch.where(masked, 0.0, -math.inf).double())

    def sharper(choose):
        return lambda log_probs: choose((1.3 * log_probs).log_softmax(1))

    table = Table(make_joint(3, (2, 3, 3)))
    law, log_z = table.joint_guided(1, 2.5)
    evidence, _ = weighted(lambda choose, _: sample_joint(guided(table, 2.5), 1, 2, rule=forgotten, draw=choose), table.shape)
    assert abs(evidence - float(log_z.exp())) > 1e-2
    for rule in RULES:
        evidence, found = weighted(
            lambda choose, _, rule=rule: sample_joint(guided(table, 2.5), 1, 2, rule=rule, draw=sharper(choose)), table.shape
        )
        assert abs(evidence - float(log_z.exp())) > 1e-2
        assert abs(found - (law * log_z.exp()).numpy()).max() > 1e-2


@pytest.mark.parametrize("rule", RULES[:2])
def test_resampling_between_jumps_keeps_the_evidence_and_the_law_unbiased(make_joint, weighted, rule):
    table = Table(make_joint(2, (2, 2, 2)))
    law, log_z = table.joint_guided(1, 3.0)

    def run(choose, index):
        def resample(log_weights, _generator):
            return torch.full((2,), index(log_weights.softmax(0).tolist()))

        return sample_joint(guided(table, 3.0), 2, 2, rule=rule, draw=choose, resample=resample, threshold=1.0)

    evidence, found = weighted(run, table.shape)
    assert evidence == pytest.approx(float(log_z.exp()), rel=1e-12)
    np.testing.assert_allclose(found, law * log_z.exp(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("threshold", [0.0, 0.9])
def test_many_particles_reach_the_joint_law_and_unweighted_ones_do_not(make_joint, rule, threshold):
    table, n = Table(make_joint(7, (2, 3, 3, 2))), 6000
    law, log_z = table.joint_guided(1, 3.0)

    def far(x, weights):
        cells = x @ torch.tensor([6, 2, 1])
        found = torch.zeros(18, dtype=torch.float64).index_add(0, cells, weights)
        return float((found - law.flatten()).abs().sum() / 2)

    result = sample_joint(guided(table, 3.0), n, 3, rule=rule, threshold=threshold, generator=torch.Generator().manual_seed(0))
    effective = min(float(result.ess[-1]), result.ancestors)
    # TV of m draws on 18 cells: mean at most ½√(17/m), and beyond it by t with probability exp(−2mt²).
    limit = 0.5 * (17 / effective) ** 0.5 + (14 / (2 * effective)) ** 0.5
    assert far(result.x, result.log_weights.exp()) < limit < 0.15
    assert abs(float(result.log_evidence - log_z)) < 5 * (n / effective / n) ** 0.5
    plain = sample(guided(table, 3.0), n, 3, rule=rule, generator=torch.Generator().manual_seed(0)).x
    assert far(plain, torch.full((n,), 1 / n, dtype=torch.float64)) > limit


def test_rows_do_not_see_each_other(table):
    x = torch.tensor([[-1, 1, *[-1] * (table.length - 2)], [0, *[-1] * (table.length - 1)]])
    laws = []
    for rows in (x, x[:1], x[1:]):
        step(guided(table, 2.0), State(rows), unnormalized, lambda law: laws.append(law) or law.argmax(1))
    torch.testing.assert_close(laws[0], torch.cat(laws[1:]), rtol=0, atol=1e-14)


def test_known_tokens_stay_and_one_mask_a_row_goes(table):
    x = torch.full((50, table.length), -1)
    x[:, 1] = 1
    (found,), _ = step(guided(table, 2.0), State(x), normalized, lambda law: torch.multinomial(law.exp(), 1).squeeze(1))
    assert (found[:, 1] == 1).all()
    assert ((found == -1).sum(1) == table.length - 2).all()


def test_a_denoiser_is_given_the_share_of_masked_tokens_as_its_time(table):
    times = []

    def denoise(x, time, label=None):
        assert float(time) == pytest.approx(float((x == -1).double().mean()))
        times.append(float(time))
        return table.denoise_masked(x, time, label)

    for run in (sample, sample_joint):
        run(LogLinear((denoise,), (1.0,)), 4, table.length)
        assert times == pytest.approx([left / table.length for left in range(table.length, 0, -1)])
        times.clear()
    step(
        LogLinear((denoise,), (1.0,)),
        State(torch.tensor([[0, *[-1] * (table.length - 1)]] * 2)),
        normalized,
        lambda law: law.argmax(1),
    )


@pytest.mark.parametrize(("other", "left", "options"), [((1, 1), 2, {}), ((0, 1), 1, {"rule": left_to_right})])
def test_branches_that_share_no_token_are_a_dead_end(other, left, options):
    joint = np.zeros((2, 2, 2))
    joint[0, 0, 0] = joint[(1, *other)] = 0.5
    table = Table(joint)
    model = LogLinear((conditioned(table.denoise_masked, 0), conditioned(table.denoise_masked, 1)), (0.5, 0.5))
    with pytest.raises(ValueError, match=f"dead end with {left} masks left"):
        sample(model, 3, 2, **options)
    with pytest.raises(ValueError, match="weight 0"):
        sample_joint(model, 3, 2, **options)


def test_a_scale_a_row_guides_each_row_by_its_own(table, replay):
    scale = torch.tensor([0.7, 2.0], dtype=torch.float64)
    laws = []
    x = torch.full((2, table.length), -1)
    for gamma, rows in ((scale, x), (0.7, x[:1]), (2.0, x[:1])):
        step(guided(table, gamma), State(rows), normalized, lambda law: laws.append(law) or law.argmax(1))
    torch.testing.assert_close(laws[0], torch.cat(laws[1:]))
    with pytest.raises(ValueError, match="share one target"):
        sample_joint(guided(table, scale), 2, table.length)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_defensive_rule_gives_every_possible_jump_its_share(share):
    log_rates = torch.tensor([[[0.1, 0.3, 0.0], [0.2, 0.0, 0.4]]]).log()
    masked = torch.ones(1, 2, dtype=torch.bool)
    plain = unnormalized(log_rates, masked)
    wider = defensive(unnormalized, share)(log_rates, masked)
    even = (log_rates > -torch.inf).double() / 4
    torch.testing.assert_close(wider.log_probs.exp().double(), (1 - share) * plain.log_probs.exp() + share * even)
    assert wider.log_order.equal(plain.log_order)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match="share must be in"):
        defensive(unnormalized, share)


def test_runs_that_are_compared_follow_their_own_rule(table):
    """Every jump of the runs and of the probe, which is defensive, asks the rule."""
    asked = []

    def rule(*given):
        asked.append(1)
        return unnormalized(*given)

    masked.repeat_joint(guided(table, 2.0), 4, table.length, repeats=2, probes=1, rule=rule)
    assert len(asked) == 3 * table.length
