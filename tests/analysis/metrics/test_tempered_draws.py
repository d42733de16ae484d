"""Draws at lower temperatures: their means and intervals against exact laws of a table, and comparison at equal likelihood."""

import pytest
import torch

import arguide
from analysis import Table
from analysis.metrics.confidence import mean_of
from analysis.metrics.temperature import draws as tempered_draws
from analysis.metrics.temperature.draws import Plan, Point, at_likelihood, counted, measure, repeated
from analysis.metrics.temperature.laws import (
    BIGRAMS,
    DISTINCT,
    ENTROPY,
    JOINT,
    LENGTH,
    LIKELIHOOD,
    REPEATED,
    SEQUENTIAL,
    SIZE,
    TOP_K,
    TOP_P,
    TRANSFORMS,
    OfTable,
    effective_beta,
)

LADDER = "joint, by ladders"
WAYS = [(JOINT, 2.0), (LADDER, 2.0), (SEQUENTIAL, 2.0), (TOP_K, 2), (TOP_P, 0.7)]
QUANTITIES = (LIKELIHOOD, ENTROPY, DISTINCT, BIGRAMS, REPEATED)
ERRORS = 5.0  # standard errors with 15 degrees of freedom: a false failure in 6,000 numbers
PLAN = Plan(16, 24)
BY_LADDERS = Plan(16, 24, "ladder")


@pytest.fixture(scope="module")
def laws(make_joint):
    return OfTable(Table(make_joint(3, (2, 3, 4, 3))))


@pytest.fixture(scope="module")
def power(laws):
    return lambda beta: arguide.LogLinear.temperature(laws.table.autoregressive(), 1 / beta)


@pytest.fixture(scope="module")
def points(power):
    generator = torch.Generator().manual_seed(0)
    found = {family: measure(power, family, setting, 3, PLAN, generator) for family, setting in WAYS if family != LADDER}
    return found | {LADDER: measure(power, JOINT, 2.0, 3, BY_LADDERS, generator)}


def exact(laws, family, setting):
    law = laws.power(setting) if family in (JOINT, LADDER) else laws.transformed(TRANSFORMS[family](setting))
    return laws.merits(law)


def off(point, merits):
    """Return the largest difference of a point's means from exact ones, in standard errors."""
    estimates = {name: point.estimate(name) for name in QUANTITIES}
    return max(abs(each.value - merits[name]) / each.std_error for name, each in estimates.items())


@pytest.mark.parametrize(("family", "setting"), WAYS)
def test_means_of_groups_are_those_of_the_exact_law(laws, points, family, setting):
    assert off(points[family], exact(laws, family, setting)) < ERRORS
    assert points[family].estimate(LENGTH).value == pytest.approx(3)


@pytest.mark.parametrize("family", [JOINT, LADDER, SEQUENTIAL])
def test_another_temperature_is_found(laws, points, family):
    """The negative control: the same statistic for β = 1.3."""
    assert off(points[family], exact(laws, family, 1.3)) > 1.5 * ERRORS


def test_the_joint_law_is_not_the_sequential_one(laws, points):
    assert off(points[JOINT], exact(laws, SEQUENTIAL, 2.0)) > ERRORS


def test_particles_that_agree_are_converged(points):
    assert points[JOINT].converged
    assert points[JOINT].diagnosis.verdict.startswith("no disagreement found")
    assert points[TOP_K].converged
    assert len(points[JOINT].tokens) == PLAN.groups * SIZE


def test_at_equal_likelihood_the_joint_law_keeps_the_divergence(laws, power, points):
    """The curve has neighbours so near that their mixture is the setting between them."""
    generator = torch.Generator().manual_seed(1)
    aim = exact(laws, JOINT, 2.0)
    own = effective_beta(lambda beta: exact(laws, SEQUENTIAL, beta)[LIKELIHOOD], aim[LIKELIHOOD])
    curve = [measure(power, SEQUENTIAL, beta, 3, PLAN, generator) for beta in (1.0, own - 0.3, own + 0.3, 6.0)]
    found = at_likelihood(points[JOINT], curve)
    assert found.setting == pytest.approx(own, abs=0.3)
    other = exact(laws, SEQUENTIAL, own)
    for name in (ENTROPY, DISTINCT, BIGRAMS, REPEATED):
        gap = found.gaps[name]
        assert abs(gap.value - (aim[name] - other[name])) < ERRORS * gap.std_error
        assert gap.std_error < 0.1
    assert found.gaps[ENTROPY].value > -ERRORS * found.gaps[ENTROPY].std_error


def point(setting, likelihoods, values):
    groups = {LIKELIHOOD: torch.tensor(likelihoods).double(), ENTROPY: torch.tensor(values).double()}
    return Point(SEQUENTIAL, setting, groups, torch.zeros(0, 1))


def test_neighbours_are_mixed_in_the_shares_of_equal_likelihood():
    curve = [point(4.0, [0.0, 0.0], [1.0, 1.0]), point(1.0, [-4.0, -4.0], [9.0, 9.0]), point(9.0, [2.0, 2.0], [0.0, 0.0])]
    found = at_likelihood(point(2.0, [-1.0, -1.0], [5.0, 5.0]), curve, (ENTROPY,))
    assert found.setting == pytest.approx(0.25 * 1.0 + 0.75 * 4.0)
    assert found.gaps[ENTROPY].value == pytest.approx(5.0 - (0.25 * 9.0 + 0.75 * 1.0))


def test_the_least_likely_setting_of_a_curve_is_matched_by_itself():
    curve = [point(4.0, [0.0, 0.0], [1.0, 1.0]), point(1.0, [-4.0, -4.0], [9.0, 9.0]), point(9.0, [2.0, 2.0], [0.0, 0.0])]
    found = at_likelihood(point(2.0, [-4.0, -4.0], [5.0, 5.0]), curve, (ENTROPY,))
    assert (found.setting, found.gaps[ENTROPY].value) == (1.0, -4.0)


def test_an_error_that_moves_along_the_curve_is_none():
    """Entropy falls by 2 nats per nat of likelihood in the groups as it does on the curve; across the curve it is an error."""
    curve = [point(1.0, [-4.0, -4.0], [8.0, 8.0]), point(4.0, [0.0, 0.0], [0.0, 0.0])]
    along = at_likelihood(point(2.0, [-2.0, -1.0], [5.0, 3.0]), curve, (ENTROPY,)).gaps[ENTROPY]
    across = at_likelihood(point(2.0, [-2.0, -1.0], [3.0, 5.0]), curve, (ENTROPY,)).gaps[ENTROPY]
    assert (along.value, along.std_error) == pytest.approx((1.0, 0.0))
    assert across.std_error == pytest.approx(2.0)


def test_the_errors_of_neighbours_count_by_their_shares():
    curve = [point(1.0, [-4.0, -4.0], [7.0, 9.0]), point(4.0, [0.0, 0.0], [0.0, 0.0])]
    found = at_likelihood(point(2.0, [-1.0, -1.0], [5.0, 5.0]), curve, (ENTROPY,)).gaps[ENTROPY]
    assert found.std_error == pytest.approx(0.25 * 1.0)  # the mean of 7 and 9 has the error 1


def test_every_text_is_from_a_population_of_its_own(power, monkeypatch):
    """Particles that share ancestors would understate diversity."""
    calls = []

    def first(runs, generator):
        calls.append(runs)
        return torch.stack([run.x[0] for run in runs])

    monkeypatch.setattr(tempered_draws, "one_each", first)
    found = measure(power, JOINT, 2.0, 3, Plan(2, 4), torch.Generator().manual_seed(0))
    assert [len(runs) for runs in calls] == [SIZE, SIZE]
    assert found.tokens.tolist() == [run.x[0].tolist() for runs in calls for run in runs]


def test_a_likelihood_outside_the_curve_has_no_match():
    curve = [point(1.0, [-4.0, -4.0], [8.0, 8.0]), point(4.0, [0.0, 0.0], [0.0, 0.0])]
    assert at_likelihood(point(2.0, [0.1, 0.2], [1.0, 1.0]), curve, (ENTROPY,)) is None
    assert at_likelihood(point(2.0, [-4.1, -4.2], [1.0, 1.0]), curve, (ENTROPY,)) is None
    assert at_likelihood(point(2.0, [-1.0, -1.0], [1.0, 1.0]), curve[:1], (ENTROPY,)) is None


def test_bigrams_stop_at_the_end():
    tokens = torch.tensor([[5, 6, 5, 6, 5, 9, 9], [5, 6, 9, 9, 9, 9, 9], [9, 9, 9, 9, 9, 9, 9]])
    assert repeated(tokens, (9,)).tolist() == [0.5, 0.0, 0.0]
    group = tokens[torch.arange(SIZE) % 2]
    found = counted(group, (9,))
    assert found[DISTINCT].tolist() == [2 / SIZE]
    assert found[BIGRAMS].tolist() == [2 / (8 * 4 + 8 * 1)]


def test_texts_of_a_group_are_of_its_own_ladders(power, monkeypatch):
    plan, kept = Plan(2, 2, "ladder", 16), []
    sample = arguide.sample_ladder

    def numbered(*args, **options):
        assert options["burn_in"] == plan.sweeps / 2
        found = sample(*args, **options)
        kept.append(found)
        return found._replace(x=torch.arange(len(found.x))[:, None] % len(found.log_evidences) + 0 * found.x)

    monkeypatch.setattr(arguide, "sample_ladder", numbered)
    found = measure(power, JOINT, 2.0, 3, plan, torch.Generator().manual_seed(0))
    assert found.tokens[:, 0].view(2, -1).unique(dim=1).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    log_p = kept[0].ratios[:, -1].mean(0)  # at β = 2 the ratio is log p
    assert found.groups[LIKELIHOOD].tolist() == pytest.approx(log_p.view(2, 4).mean(1).tolist())


@pytest.mark.parametrize(("options", "says"), [({"sampler": "chains"}, "particles, ladder"), ({"sweeps": 15}, "at least 16")])
def test_ladders_of_another_kind_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Plan(**options)


@pytest.mark.parametrize("sizes", [(1, 32), (8, 1)])
def test_one_group_or_particle_is_refused(sizes):
    with pytest.raises(ValueError, match="must be at least 2, got 1; try 8 or more"):
        Plan(*sizes)


def test_cheap_ways_have_more_groups(points):
    assert len(points[TOP_P].groups[ENTROPY]) == tempered_draws.CHEAP * len(points[JOINT].groups[ENTROPY])
    assert points[TOP_P].estimate(ENTROPY) == mean_of(points[TOP_P].groups[ENTROPY])
