"""The toy that decides on causes: exact densities, measures with their controls, verdicts that state decided causes only."""

import math
from itertools import product

import pandas as pd
import pytest
import scipy.stats
import torch
from readable import check_width

import diffusion
from analysis.experiments.base import Settings, stream
from analysis.experiments.coherence import causes, trees
from analysis.experiments.coherence.trees import LABEL, Measure, Reference
from analysis.frames import tidy
from analysis.toys import GaussianMixture, example_tables


@pytest.fixture(scope="module")
def toy():
    return example_tables.trees(depth=3)


@pytest.fixture(scope="module")
def measure(toy):
    return Measure(toy, stream(0, 0))


def test_both_trees_have_the_same_mass_and_every_branch_hangs_on_another(toy):
    assert toy.weights.sum(1).tolist() == pytest.approx([0.5, 0.5])
    assert len(toy.means) == 2 * 3 * (1 + 2 + 4)
    for own in (toy.means[toy.weights[label] > 0] for label in (0, 1)):
        gaps = torch.cdist(own, own).fill_diagonal_(math.inf).amin(1)
        assert gaps.max() < 0.25
    one, two = (toy.weights[label] > 0 for label in (0, 1))
    assert not (one & two).any()


def test_accepted_draws_of_the_tilt_have_its_exact_mean(toy):
    """The mean of p(y|x), against quadrature; normal intervals of 4.5 standard errors. γ ± 1 are the controls."""
    axes = toy.axes(401, width=4.0)
    posterior = toy.log_class_probability(torch.cartesian_prod(*axes))[:, LABEL].exp()
    exact = float(toy.joint_guided(LABEL, 2.0, axes=axes).probabilities.flatten() @ posterior)

    def far(scale):
        x = trees.tilted(toy, scale, 20_000, stream(1, int(scale)))
        found = toy.log_class_probability(x)[:, LABEL].exp()
        return abs(float(found.mean()) - exact) / float(found.std() / 20_000**0.5)

    assert far(2.0) < 4.5
    assert min(far(1.0), far(3.0)) > 9


def test_measures_of_exact_draws_are_at_their_floor_and_of_shifted_ones_are_not(toy, measure):
    """A binomial share of .01 of 2,000 draws is above .022 once in 1e6."""
    tilt = Reference.of(trees.tilted(toy, 4.0, 1000, stream(0, 3)))
    x = toy.sample(2000, label=LABEL, generator=stream(0, 4))
    right, wrong, other = (measure(each, tilt) for each in (x, x + 0.2, toy.sample(2000, label=1, generator=stream(0, 5))))
    assert right["outside"] < 0.022
    assert right["coverage"] > 0.9
    assert abs(right["energy to class"]) < 0.01
    assert right["accuracy"] == pytest.approx(float(toy.log_class_probability(x)[:, LABEL].exp().mean()))
    for each in (wrong, other):
        assert each["outside"] > 0.3
        assert each["coverage"] < 0.8 * right["coverage"]
        assert each["energy to class"] > 0.02
    assert other["accuracy"] < 0.3


def test_every_family_reads_the_scores_of_its_name():
    """Learned denoisers are constants and classes are points: the last step of the sampler tells which scores it reads."""
    means = torch.tensor([[0.3, 0.4], [-0.5, 0.2]], dtype=torch.float64)
    toy = GaussianMixture(means, torch.full((2,), 1e-10), torch.tensor([0.5, 0.5]))
    values = {"own": torch.tensor([0.1, -0.2, 0.4]), "weak": torch.tensor([0.7, 0.6, 0.5])}

    def constant(name):
        def denoiser(x, sigma, label=None):
            which = torch.as_tensor(2 if label is None else label).reshape(-1)
            return values[name][which][:, None].expand(len(x), 2).to(x)

        return denoiser

    sigmas = torch.tensor([5.0, 1e-3, 0.0])
    found = dict(trees.families(toy, (constant("own"), constant("weak")), 3.0, 50, sigmas, stream(0, 6)))
    assert set(found) == set(causes.figures.ORDER)
    own, weak = values["own"], values["weak"]
    expected = {trees.NONE: own[0], trees.PLAIN: 3 * own[0] - 2 * own[2], trees.AUTO: 3 * own[0] - 2 * weak[0]}
    for family, value in expected.items():
        torch.testing.assert_close(found[family], value.expand(50, 2), atol=1e-3, rtol=0)
    for family, cond, uncond in (
        (trees.COND, means[0], own[2].expand(2, 2)),
        (trees.UNCOND, own[0], means),
        (trees.SCORES, means[0], means),
    ):
        gaps = torch.cdist(found[family].double(), (3 * cond - 2 * uncond).double())
        assert gaps.amin(1).max() < 5e-3, family


@pytest.mark.slow
def test_exact_scores_and_swaps_are_exact(toy):
    """With the exact denoiser in place of the learned one, the controls, the plain and the coherent law all agree."""
    sigmas, exact = diffusion.edm(30, 0.02, 5.0).float(), trees.exact_score(toy)

    def denoiser(x, sigma, label=None):
        column = torch.as_tensor(sigma).reshape(-1, 1)
        return x + column**2 * (
            exact(x, sigma, label)
            if not isinstance(label, torch.Tensor) or label.numel() == 1
            else torch.stack([exact(row[None], sigma, int(each))[0] for row, each in zip(x, label, strict=True)])
        )

    draws = dict(trees.families(toy, (denoiser, denoiser), 2.0, 60, sigmas, stream(0, 7)))
    measure = Measure(toy, stream(0, 8))
    tilt = Reference.of(draws[trees.TILT])
    outside = {family: measure(draws[family].double(), tilt)["outside"] for family in causes.figures.ORDER}
    assert max(outside.values()) < 0.12  # a binomial share of .02 of 60 draws is above it once in 1e5
    torch.manual_seed(0)
    assert measure(torch.randn(60, 2).double(), tilt)["outside"] > 0.5


def made(**changed):
    """Return a frame of five seeds with the measures of every family, ± .01 over the seeds, and paired errors half as large."""
    values = {"outside": dict.fromkeys(causes.figures.ORDER, 0.3), "coverage": dict.fromkeys(causes.figures.ORDER, 0.7)}
    for name, value in changed.items():
        quantity, family = name.split("/")
        values[quantity][family] = value
    noise = torch.randn((5, 2, len(causes.figures.ORDER)), generator=torch.Generator().manual_seed(1)) * 0.005
    rows = [
        {"law": "l", "family": family, "quantity": quantity, "scale": 4.0, "seed": seed}
        | {"value": values[quantity][family] + float(noise[seed, i, j])}
        for seed, (i, quantity), (j, family) in product(range(5), enumerate(values), enumerate(causes.figures.ORDER))
    ]
    return tidy(rows)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "is not decided"),
        ({"outside/autoguidance": 0.1}, "a worse fit suffices to clean"),
        ({"outside/coherent": 0.1}, "Bayes' rule suffices to clean"),
        ({"outside/autoguidance": 0.1, "outside/coherent": 0.1}, "Either suffices"),
        ({"outside/exact p(x|y)": 0.0}, "the samples outside are errors of p(x|y)."),
        ({"outside/exact p(x|y)": 0.0, "outside/exact p(x)": 0.9}, "amplified"),
        ({"coverage/exact scores": 0.5, "coverage/plain": 0.5}, "clearly lost by: guiding noised laws."),
        ({"coverage/plain": 0.5}, "clearly lost by: learned errors."),
    ],
)
def test_a_verdict_states_a_cause_only_where_its_control_decides(changed, said):
    assert said in causes.verdict(made(**changed)).verdict


def test_differences_are_paired_over_the_seeds():
    """A spread that all families share leaves the differences as they are; an unpaired interval would be wide."""
    frame = made(**{"outside/plain": 0.2})
    shared = pd.Series([0.0, 0.1, -0.1, 0.05, -0.05])
    moved = frame.assign(value=frame["value"] + frame["seed"].map(shared))
    for key, gap in causes.contrasts(frame).items():
        assert causes.contrasts(moved)[key].half == pytest.approx(gap.half, abs=1e-12)
    assert causes.contrasts(moved)["outside", trees.PLAIN, trees.NONE].clear


def test_intervals_of_differences_are_simultaneous():
    wide = made().pivot(index="seed", columns=["quantity", "family"], values="value")
    for (quantity, first, second), gap in causes.contrasts(made()).items():
        differences = wide[quantity, first] - wide[quantity, second]
        half = scipy.stats.t.ppf(1 - 0.05 / 2 / 9, 4) * differences.std() / 5**0.5
        assert gap.half == pytest.approx(half)
        assert gap.mean == pytest.approx(differences.mean())


def test_points_of_draws_are_their_coordinates_and_whether_they_are_outside(toy, measure):
    x = torch.cat([toy.sample(5, label=LABEL, generator=stream(0, 9)), torch.tensor([[50.0, -60.0]]).double()])
    rows = list(measure.points({"family": "f"}, x))
    assert [(row["x"], row["value"]) for row in rows] == [tuple(each) for each in x.tolist()]
    assert rows[-1]["out"] == 1.0
    assert sum(row["out"] for row in rows) < 4


def test_the_weaker_denoiser_is_smaller_and_the_seed_decides_both(toy):
    effort = causes.QUICK._replace(steps=2, weaker=1)
    (own, weak), (again, _), (other, _) = (trained_of(toy, effort, seed) for seed in (1, 1, 2))
    assert 2 * len(weak) < len(own)
    assert torch.equal(own, again)
    assert not torch.equal(own, other)


def trained_of(toy, effort, seed):
    return [torch.nn.utils.parameters_to_vector(each.parameters()).detach() for each in trees.trained(toy, effort, seed)]


def test_the_generator_decides_the_draws_of_every_family(toy):
    def denoiser(x, sigma, label=None):
        return torch.zeros_like(x)

    sigmas = torch.tensor([5.0, 1.0, 0.1, 0.0])
    one, again, other = (dict(trees.families(toy, (denoiser,) * 2, 2.0, 8, sigmas, stream(seed))) for seed in (1, 1, 2))
    for family, x in one.items():
        assert torch.equal(x, again[family]), family
    assert not torch.equal(one[trees.SCORES], other[trees.SCORES])


@pytest.fixture
def drawn(toy, monkeypatch):
    """Return a frame of a quick run whose families are random points."""

    def families(toy, pair, scale, n, sigmas, generator):
        return ((name, torch.randn(20, 2, generator=generator)) for name in causes.figures.ORDER)

    monkeypatch.setattr(causes, "trees", lambda: toy)
    monkeypatch.setattr(causes, "trained", lambda *_: None)
    monkeypatch.setattr(causes, "families", families)
    return causes.run(Settings(quick=True), lambda items: items)


def test_a_run_has_all_measures_of_every_seed_and_the_points_of_one(drawn):
    points = drawn[drawn["quantity"] == "point"]
    assert set(points["family"]) == set(causes.figures.ORDER)
    assert (len(points), set(points["seed"])) == (20 * len(causes.figures.ORDER), {0})
    assert drawn[drawn["quantity"] == "coverage"].groupby("family")["seed"].nunique().eq(2).all()


def test_the_table_has_a_row_per_scale_and_family(drawn):
    columns, rows = causes.at_scales(drawn)
    assert [row[:2] for row in rows] == [["4", family] for family in causes.figures.ORDER]
    means = causes.over_seeds(drawn)
    assert rows[0][columns.index("coverage")] == str(means["coverage", causes.figures.ORDER[0]])


def test_tables_that_no_terminal_holds_are_left_out_there(drawn):
    for grid in causes.EXPERIMENT.tables:
        check_width(grid, drawn)
