"""Findings of a study of guidance: the decisions of intervals, and the losses that they use."""

import pytest

from analysis.frames import tidy
from analysis.learning import datasets, learners
from analysis.study import plan as plans
from analysis.study import statistics, tasks
from analysis.study.findings import guidance
from analysis.study.samplers import JOINT, SEQUENTIAL


def study_frame(gaps, half_of=("accuracy", "coverage", "spread")):
    """Return the frame of a study at γ = 1.5, with one difference per seed of every quantity, joint − sequential."""
    rows = []
    for seed, gap in enumerate(gaps):
        for family, sign in ((JOINT, 0.5), (SEQUENTIAL, -0.5)):
            case = {"family": family, "scale": 1.5, "seed": seed}
            rows += [case | {"quantity": name, "value": 0.8 + sign * gap} for name in half_of]
        rows += [{"family": JOINT, "scale": 1.5, "seed": seed, "quantity": q, "value": 0.1} for q in ("log_z_apart", "left")]
    return tidy(rows)


def test_a_wide_interval_is_not_decided_and_never_no_difference():
    told = guidance.question(study_frame([-0.1, 0.0, 0.1])).verdict
    assert told.startswith("Not decided at equal γ: accuracy (0.000 ± ")
    assert "No difference" not in told
    assert "0.05 that would matter" in told


def test_a_narrow_interval_around_0_excludes_a_difference_that_would_matter():
    told = guidance.question(study_frame([-0.001, 0.0, 0.001])).verdict
    assert told.startswith("No difference of 0.05 or more at equal γ: accuracy, coverage, spread.")


def test_a_clear_difference_says_when_it_is_a_small_one():
    assert "more accurate (by less than 0.05)" in guidance.question(study_frame([0.019, 0.02, 0.021])).verdict
    assert "more accurate and more" in guidance.question(study_frame([0.19, 0.2, 0.21])).verdict


def test_equal_accuracy_is_read_from_a_curve_in_its_own_order():
    """Accuracy need not increase with γ; coverage is linear in accuracy between 0.5 and 0.7, for any γ."""
    rows = []
    for seed in range(2):
        points = [(1.0, 0.7, 0.6), (1.25, 0.5, 1.0), (1.5, 0.6, 0.8), (2.0, 0.9, 0.2)]
        case = {"seed": seed}
        for family, curve in ((SEQUENTIAL, points), (JOINT, [(1.5, 0.55, 0.9)])):
            for scale, accuracy, coverage in curve:
                at = case | {"family": family, "scale": scale}
                rows += [at | {"quantity": "accuracy", "value": accuracy}, at | {"quantity": "coverage", "value": coverage}]
    mean, _, count = statistics.at_accuracy(tidy(rows), "coverage", JOINT, SEQUENTIAL, [1.5])
    assert (mean, count) == (pytest.approx(0.0), 2)


def test_the_held_out_loss_without_labels_is_without_labels(tmp_path, monkeypatch):
    """Losses are those of `held_loss` on the saved model; the two differ, because the labels have been learned."""
    plan = plans.Plan(datasets.Source("digits", "image", most=2), True, effort=0.02)
    found = tasks.train("denoiser", "", 0, plan, tmp_path).set_index("quantity")["value"]
    rows = plans.read(plan)
    learner = learners.load("denoiser", rows, tmp_path / "models" / plans.model_name("denoiser", "", 0))
    for quantity, labelled in (("held-out loss", True), ("held-out loss, no label", False)):
        assert found[quantity] == pytest.approx(learners.held_loss(learner, rows, labelled=labelled)[0], rel=1e-6)
    assert found["held-out loss, no label"] != pytest.approx(found["held-out loss"], rel=1e-3)


@pytest.mark.parametrize("kind", ["pixels", "denoiser"])
def test_a_loss_without_labels_does_not_depend_on_them(kind):
    rows = datasets.read_images(datasets.Source("digits", "image", most=2))
    learner = learners.new(kind, rows, learners.Size(16, 1), seed=0)
    others = rows._replace(held_labels=1 - rows.held_labels)
    blind = [learners.held_loss(learner, each, labelled=False) for each in (rows, others)]
    assert blind[0] == blind[1]
