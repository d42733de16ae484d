"""The mistakes of a first use of tables and scores are refused in one line that says what to try."""

import numpy as np
import pytest
import torch
from bad_calls import advised, refused

import analysis
import arguide
import diffusion

JOINT = torch.tensor([[[0.2, 0.15], [0.1, 0.05]], [[0.05, 0.1], [0.15, 0.2]]], dtype=torch.float64)
TABLE = analysis.Table(JOINT, labels=["ham", "spam"])
LAW = arguide.LogLinear.guidance(TABLE.autoregressive(1), TABLE.autoregressive(), 3.0)
POINTS = TABLE.mixture()
COND, UNCOND = diffusion.conditioned(POINTS.score, 1), diffusion.conditioned(POINTS.score)
SCORE = diffusion.LogLinear.guidance(COND, UNCOND, 3.0)
GRID = diffusion.edm(5, 0.1, 10.0)
SHAPE = (4, 2)
A_GRID = "try a grid of noise levels, such as diffusion.edm(50)"
A_SHAPE = "try (1000, 2)"
A_GENERATOR = "try torch.Generator().manual_seed(0)"
MIXTURE = diffusion.Mixture([COND, diffusion.conditioned(POINTS.score, 0)], TABLE.log_prior())


@pytest.mark.parametrize("draw", [diffusion.sample, diffusion.sample_joint, diffusion.repeat_joint])
def test_a_number_of_steps_is_no_grid(draw):
    advised(lambda: draw(SCORE, 50), "sigmas", A_GRID)
    advised(lambda: draw(SCORE, SHAPE, steps=50), "sigmas", A_GRID)
    if draw is not diffusion.repeat_joint:
        advised(lambda: draw(SCORE, SHAPE, 50), "sigmas", A_GRID)


@pytest.mark.parametrize("grid", [50, [3.0, 1.0, 0.0], GRID.flip(0), torch.tensor([3, 1, 0]), None, "edm", GRID[:-1]])
def test_what_is_no_grid_is_refused(grid):
    advised(lambda: diffusion.sample(SCORE, SHAPE, grid), "sigmas", A_GRID)
    advised(lambda: diffusion.sample_joint(SCORE, SHAPE, grid), "sigmas", A_GRID)
    advised(lambda: diffusion.sample_accepted(MIXTURE, 0, 3.0, SHAPE, grid), "sigmas", A_GRID)


@pytest.mark.parametrize("shape", [5, "5", GRID, None, (), (2.5, 2)])
def test_what_is_no_shape_is_refused(shape):
    refused(lambda: diffusion.sample(SCORE, shape, GRID), "shape")
    refused(lambda: diffusion.sample_joint(SCORE, shape, GRID), "shape")
    if shape != (2.5, 2):
        advised(lambda: diffusion.sample(SCORE, shape, GRID), "shape", A_SHAPE)


def test_a_function_that_returns_a_step_is_no_step():
    for maker in (diffusion.sde, diffusion.cfg_plus_plus):
        advised(lambda maker=maker: diffusion.sample(SCORE, SHAPE, GRID, step=maker), "step", "try step=diffusion.sde(1.0)")
    assert diffusion.sample(SCORE, SHAPE, GRID, step=diffusion.sde()).x.shape == SHAPE


@pytest.mark.parametrize("seed", [0, "0", torch.Generator])
def test_a_seed_is_no_generator(seed):
    for call in (
        lambda: arguide.sample(LAW, 4, 2, generator=seed),
        lambda: arguide.sample_joint(LAW, 4, 2, generator=seed),
        lambda: arguide.sample_metropolis(LAW, 4, 2, 1, generator=seed),
        lambda: arguide.sample_ladder(LAW, 4, 2, generator=seed),
        lambda: arguide.sample_joint(LAW, 4, 2).draw(2, seed),
        lambda: diffusion.sample(SCORE, SHAPE, GRID, generator=seed),
        lambda: diffusion.sample_joint(SCORE, SHAPE, GRID, generator=seed),
        lambda: diffusion.annealed(SCORE, torch.zeros(4, 2).double(), GRID, steps=1, generator=seed),
    ):
        advised(call, "generator", A_GENERATOR)


def test_an_object_with_a_method_of_the_right_name_is_not_the_method():
    advised(lambda: diffusion.sample(POINTS, SHAPE, GRID), "score", "try its method score")
    advised(lambda: diffusion.conditioned(POINTS, 1), "score", "try its method score")
    advised(lambda: diffusion.check_score(POINTS, torch.zeros(2, 2), GRID[0]), "score", "try its method score")
    advised(lambda: arguide.sample(TABLE, 4, 2), "model", "try its method autoregressive(label)")


def test_the_models_of_one_wing_are_refused_by_the_other():
    advised(lambda: arguide.sample(SCORE, 4, 2), "model", "try diffusion.sample")
    refused(lambda: diffusion.sample(LAW, SHAPE, GRID), "score")
    advised(lambda: diffusion.sample_joint(COND, SHAPE, GRID), "model", "try diffusion.LogLinear.guidance(")
    advised(lambda: arguide.sample_accepted(LAW, 1, 3.0, 4, 2), "mixture", "try arguide.Mixture(")


@pytest.mark.parametrize("scale", ["3", None, [3.0], torch.tensor([1.0, float("nan")])])
def test_what_is_no_scale_is_refused(scale):
    for call in (
        lambda: arguide.guide(torch.zeros(3), torch.zeros(3), scale),
        lambda: arguide.LogLinear.guidance(TABLE.autoregressive(1), TABLE.autoregressive(), scale),
        lambda: diffusion.LogLinear.guidance(COND, UNCOND, scale),
        lambda: TABLE.joint_guided(1, scale),
    ):
        refused(call, "scale")


def test_a_scale_of_another_number_of_rows_is_refused():
    refused(lambda: arguide.guide(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(5)), "scale")
    refused(lambda: diffusion.sample(diffusion.LogLinear.guidance(COND, UNCOND, torch.ones(3)), SHAPE, GRID), "scale")


def test_a_label_that_is_unknown_is_refused_with_those_that_are_known():
    for call in (
        lambda: TABLE.joint_guided("eggs", 3.0),
        lambda: TABLE.autoregressive("eggs"),
        lambda: analysis.scale_factors(TABLE, "eggs", 3.0),
        lambda: diffusion.sample(diffusion.conditioned(POINTS.score, "eggs"), SHAPE, GRID),
    ):
        refused(call, "label")
    advised(lambda: TABLE.joint_guided(3.0, 1), "label", "ham, spam")
    refused(lambda: arguide.Mixture([TABLE.autoregressive(0)], torch.zeros(1)).guidance("spam", 3.0), "label")


def test_a_length_beyond_that_of_a_table_is_refused():
    for length in (3, 5):
        advised(lambda length=length: arguide.sample(LAW, 4, length), "dead end", "try a length of at most 2")


def test_one_run_is_not_compared_with_itself():
    run = arguide.sample_joint(LAW, 4, 2)
    for call in (lambda: arguide.pooled(run), lambda: arguide.diagnose(run), lambda: arguide.diagnose([run])):
        refused(call, "runs")


def test_an_array_is_no_table():
    advised(lambda: analysis.scale_factors(JOINT, 1, 3.0), "toy", "analysis.Table(joint)")
    advised(lambda: analysis.read_table(JOINT), "path", "try analysis.Table")
    refused(lambda: analysis.Table("table.npy"), "joint")
    refused(lambda: analysis.Table([[0.5, 0.5], [0.2, 0.8]]), "joint")


def test_a_path_may_be_a_text(tmp_path):
    refused(lambda: analysis.read_table(str(tmp_path / "none.csv")), "no file")
    refused(lambda: analysis.read_ngrams(str(tmp_path / "none.csv"), order=2), "no file")
    np.save(tmp_path / "table.npy", JOINT)
    for path in (tmp_path / "table.npy", str(tmp_path / "table.npy")):
        assert analysis.read_table(path).log_probs(1).equal(TABLE.log_probs(1))
