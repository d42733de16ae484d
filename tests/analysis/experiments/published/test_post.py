"""The rows of the post: verdicts that their controls turn, laws against loops, and planted mistakes that turn the verdict."""

import itertools
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from analysis.experiments.base import Settings
from analysis.experiments.continuous import chapter, models
from analysis.experiments.published import post
from analysis.experiments.published.claims import DIFFERS, REPRODUCED, UNDECIDED
from analysis.experiments.published.post import classifiers, dropout, factors, langevin, scores
from analysis.toys import GaussianSequence, Table
from analysis.toys.example_tables import coupled_table
from arguide.continuous import LogLinear, log_density

SMALL = {
    scores: {"DRAWS": 5000, "STEPS": 60, "RUNS": 3, "PARTICLES": 1000},
    classifiers: {"DRAWS": 1000, "STEPS": 60, "RUNS": 3},
    langevin: {"CHAINS": 1500, "LEARNED_CHAINS": 500, "LEARNED_STEPS": 100, "PARTICLES": 2000},
}
AGAINST = {  # what the post says and these numbers do not
    "“As of today, diffusion models are the only model class for which this approach is tractable”",
    scores.POWER,
}
OPEN = "the hunch"  # which depends on the data


@pytest.fixture(scope="module")
def network():
    return models.trained(0)


@pytest.fixture
def small(monkeypatch, network):
    monkeypatch.setattr(models, "trained", lambda _seed: network)
    for module, settings in SMALL.items():
        for name, value in settings.items():
            monkeypatch.setattr(module, name, value)


def found(module, where=""):
    return [claim for claim in module.claims(0) if where in claim.where + claim.claim]


def test_the_post_is_the_source_of_all_parts():
    assert (factors, scores, classifiers, dropout, langevin) == post.PARTS
    assert post.SOURCE.key == "post"


def test_the_claims_are_those_of_all_parts_in_their_order(monkeypatch):
    parts = [SimpleNamespace(claims=lambda seed, name=name: [f"{name} {seed}", "another"]) for name in "ab"]
    monkeypatch.setattr(post, "PARTS", parts)
    assert list(post.SOURCE.claims(3)) == ["a 3", "another", "b 3", "another"]


@pytest.mark.parametrize("module", [factors, scores, classifiers, langevin])
def test_every_verdict_is_decided_and_its_control_turns_it(module, small):
    claims = found(module)
    assert len(claims) >= 5
    for claim in claims:
        assert claim.turned, claim
        expected = UNDECIDED if claim.where.startswith(OPEN) else DIFFERS if claim.where in AGAINST else REPRODUCED
        assert claim.verdict == expected, claim


# --------------------------------------------------------------------------------------------------------------------- tables


def loops(table, scale, *, look_back=True):
    """Return x ↦ (s_γ, s'_γ) by loops over probabilities, as the post defines them."""
    joint, sizes = table.log_joint_with_label.exp(), table.shape
    every = list(itertools.product(*map(range, sizes)))

    def mass(prefix, label=None):
        part = joint[(slice(None), *prefix)].reshape(len(joint), -1).sum(1)
        return float(part.sum() if label is None else part[label])

    def power(prefix):
        return (mass(prefix, factors.LABEL) / mass(prefix)) ** scale

    mean = sum(mass(x) * power(x) for x in every)
    result = {}
    for x in every:
        product = 1.0
        for t in range(1, len(x) + 1):
            ahead = [(*x[: t - 1], v) for v in range(sizes[t - 1])]
            expected = sum(mass(each) / mass(x[: t - 1]) * power(each) for each in ahead)
            product *= power(x[:t]) / (expected if look_back else 1.0)
        result[x] = (power(x) / mean, product)
    return result


def test_both_scale_factors_are_those_of_loops():
    table = coupled_table(3)
    joint, sequential = (of(table, 2.5).exp() for of in (factors.log_factor, factors.log_sequential_factor))
    for x, (s, s_prime) in loops(table, 2.5).items():
        assert float(joint[x]) == pytest.approx(s, rel=1e-9)
        assert float(sequential[x]) == pytest.approx(s_prime, rel=1e-9)
    wrong = loops(table, 2.5, look_back=False)
    assert max(abs(float(sequential[x]) - s_prime) for x, (_, s_prime) in wrong.items()) > 0.1


def test_a_formula_at_another_scale_turns_the_verdict(monkeypatch):
    right = factors.log_factor
    monkeypatch.setattr(factors, "log_factor", lambda table, scale: right(table, scale + 0.1))
    (claim,) = found(factors, "by the formulas")
    assert claim.verdict == DIFFERS


def test_the_law_of_moves_is_that_of_all_sequences():
    length = 6
    x = torch.cartesian_prod(*[torch.arange(2)] * length)
    moves = (x[:, 1:] != x[:, :-1]).sum(1)
    chance = torch.tensor([1 - factors.MOVES, factors.MOVES], dtype=torch.float64)
    by_label = torch.stack([chance[[1, 0]], chance]).log()[:, (x[:, 1:] != x[:, :-1]).long()].sum(2) - math.log(2)
    tilted = (by_label[1] + (factors.SCALE - 1) * by_label.log_softmax(0)[1]).exp()
    expected = torch.zeros(length, dtype=torch.float64).index_add(0, moves, tilted)
    torch.testing.assert_close(factors.log_tilt(length).exp(), expected)


def test_the_share_that_is_accepted_rises_with_the_length():
    shares = [float(factors.log_tilt(length).logsumexp(0).exp()) for length in factors.LENGTHS]
    assert shares == sorted(shares)
    assert 0.2 < shares[0] < 0.5 < shares[2] < 0.9 < shares[3] < 1


def test_draws_of_which_all_are_accepted_are_not_the_joint_law(monkeypatch):
    monkeypatch.setattr(factors, "sample_accepted", partial(factors.sample_accepted, uniform=torch.zeros_like))
    (claim,) = found(factors, "tractable")
    assert claim.verdict != DIFFERS
    assert not claim.turned


def test_tables_whose_tokens_are_independent_have_no_gap(monkeypatch):
    flat = Table(torch.full((2, 3, 3, 3, 3), 1 / 162, dtype=torch.float64))
    monkeypatch.setattr(factors, "coupled_table", lambda _length: flat)
    first = list(itertools.islice(factors.claims(0), 2))
    assert [claim.verdict for claim in first] == [DIFFERS] * 2
    assert [claim.verdict for claim in found(factors, "adherence")] == [DIFFERS] * 2  # of no label more than of another


# --------------------------------------------------------------------------------------------------------------------- scores


def test_weak_guidance_of_one_law_draws_the_tilt(monkeypatch, small):
    """At γ = 1 guided diffusion is right, and the row of the correction says so."""
    monkeypatch.setattr(scores, "SCALE", 1.0)
    assert [claim.verdict for claim in scores._correction(0)] == [DIFFERS] * 2


def test_a_corrected_score_draws_the_power(monkeypatch, small):
    monkeypatch.setattr(scores.diffusion, "scaled", lambda score, beta: scores.diffusion.gaussian_correction(score, beta, 1.0))
    assert [claim.verdict for claim in itertools.islice(scores._multiplied(0), 2)] == [UNDECIDED] * 2  # as the control


def test_a_network_that_reads_the_first_direction_alone_has_no_useless_gradient(monkeypatch):
    class First(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x * torch.eye(20)[0] if x.shape[1] == 20 else x)

    right = classifiers._shares(torch.Generator().manual_seed(0), 0)
    monkeypatch.setattr(classifiers.nn, "Linear", First)
    planted = classifiers._shares(torch.Generator().manual_seed(0), 0)
    assert planted.trained < 1e-9 < 0.1 < right.trained
    assert planted.linear < 1e-9 < 0.01 < right.linear
    assert right.exact < 1e-9
    assert planted[2:] == pytest.approx(right[2:])


def test_gaussians_of_a_covariance_per_label_need_more_rows():
    found = classifiers._shares(torch.Generator().manual_seed(0), 0)
    assert found.more < found.full / 2
    assert found.shared < 2 * found.linear < found.full


# -------------------------------------------------------------------------------------------------------------------- dropout


def invented(cost, gap):
    """Return losses of trainings: what dropout costs the conditional model, and what less of it costs the unconditional one."""
    noise = 0.01 * torch.randn(2, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at = {
        dropout.NONE: (0.0, 0.5),
        dropout.KEPT: (cost, gap),
        dropout.MOSTLY: (0.3, 0.0),
        dropout.LATE: (0.0, 0.2),
    }
    return {name: dropout.Losses(noise + cond, noise + uncond) for name, (cond, uncond) in at.items()}


@pytest.mark.parametrize(("cost", "gap"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.1)])
def test_costs_of_dropout_are_read_from_the_losses(monkeypatch, cost, gap):
    losses = invented(cost, gap)
    name_of = {id(recipe): name for name, recipe in dropout.RECIPES.items()}
    monkeypatch.setattr(dropout, "_losses", lambda _data, recipe, _seed: losses[name_of[id(recipe)]])
    negligible, late, enough = dropout.claims(0)
    assert negligible.verdict == (DIFFERS if cost else REPRODUCED)
    assert enough.verdict == (DIFFERS if gap else REPRODUCED)
    assert negligible.turned == (not cost)
    assert late.verdict == (DIFFERS if cost else REPRODUCED)
    assert f"unconditional loss by {0.2 - gap:+.3f}" in late.note
    assert enough.turned == (not gap)


def test_errors_of_trainings_have_their_freedom():
    """Trainings that differ by 0.2 dominate the error, and two of them leave it one degree of freedom."""
    noise = 0.01 * torch.randn(2, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shifted = noise + torch.tensor([[0.0], [0.2]])
    gap = dropout._difference(dropout.Losses(shifted, shifted), dropout.Losses(torch.zeros_like(noise), noise), "conditional")
    assert gap.value == pytest.approx(0.1, abs=0.01)
    assert gap.std_error == pytest.approx(0.1, abs=0.01)
    assert gap.freedom == pytest.approx(1, abs=0.01)


def test_held_out_digits_are_not_trained_on():
    data = dropout.pixels(0)
    assert (len(data.rows), len(data.held)) == (1198, 599)
    assert torch.cdist(data.rows, data.held).min() > 0
    assert data.rows.abs().max() < 1.02


@pytest.mark.slow
def test_dropout_costs_the_conditional_model_little():
    cost, late, enough = dropout.claims(0)
    assert cost.verdict == late.verdict == REPRODUCED
    assert cost.turned
    assert late.turned
    assert enough.turned


# ------------------------------------------------------------------------------------------------------------------- Langevin


@pytest.mark.parametrize("label", [None, 1.4])
def test_factors_of_a_gaussian_sequence_multiply_to_its_density(label):
    toy = GaussianSequence(4)
    x = models.draw(toy.law(label), 6, torch.Generator().manual_seed(0))
    found = log_density(lambda rows: models.LinearGaussian(toy)(rows, label), x)
    torch.testing.assert_close(found, toy.law(label).log_density(x))
    assert (found - toy.law(0.7).log_density(x)).abs().max() > 0.1


def test_another_scale_of_the_combination_is_found():
    toy = GaussianSequence(langevin.LENGTH)
    wrong = models.guided(models.LinearGaussian(toy), langevin.LABEL, langevin.SCALE - 0.1)
    claims = langevin._gradients(toy, wrong, 0)
    assert [claim.verdict for claim in claims] == [DIFFERS] * 2


def test_chains_of_another_scale_are_found(monkeypatch, small):
    right = models.langevin

    def wrong(model, *rest):
        return right(LogLinear(model.models, tuple(0.8 * w for w in model.weights)), *rest)

    monkeypatch.setattr(models, "langevin", wrong)
    toy = GaussianSequence(langevin.LENGTH)
    model = models.guided(models.LinearGaussian(toy), 1.0, 3.0)
    assert [claim.verdict for claim in langevin._exact(toy, model, 0)][1] == DIFFERS


def test_the_grid_holds_the_learned_joint_tilt(network):
    """Its mass within two cells of the edge is negligible, and its mean is that of a sum over half of the cells."""
    model = models.guided(network, 0, chapter.SCALE)
    grid = models.on_grid(model)
    edge = (grid.cells.abs() > models.AXIS[-3]).any(1)
    assert float(grid.masses.sum()) == pytest.approx(1)
    assert grid.masses[edge].sum() < 1e-3
    half = (torch.arange(len(grid.masses)) % 2).bool()
    mean = float(grid.masses[half] @ grid.cells[half, 0].double() / grid.masses[half].sum())
    assert grid.expectation(grid.cells[:, 0].double()) == pytest.approx(mean, abs=1e-3)


def test_the_chapter_says_what_its_frame_says(small):
    frame = chapter.run(Settings(quick=True), iter)
    told = chapter.verdict(frame)
    assert "which guided factors miss" in told.verdict
    assert "it is not: on the exact law" in told.verdict
    gap = chapter._gap(frame, chapter.EXACT, chapter.SEQUENTIAL)
    toy = GaussianSequence(chapter.LENGTH)
    laws = [law(1.0, 3.0).law for law in (toy.sequential_guided, toy.joint_guided)]
    assert gap.mean == pytest.approx(float(laws[0].mean[0] - laws[1].mean[0]))
    moved = frame.copy()
    moved.loc[moved["family"] == chapter.MALA, "value"] += 0.5
    assert "is not shown to draw" in chapter.verdict(moved).verdict
    assert math.isfinite(chapter._gap(frame, chapter.LEARNED, chapter.WEIGHTED).half)
