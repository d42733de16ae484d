"""Numbers and draws of the laws of whole texts."""

import numpy as np
import pytest
import torch

from analysis import NgramModels
from analysis.metrics.text_laws import summary, text_laws, texts_frame, total_variation


@pytest.fixture(scope="module")
def models():
    rng = np.random.default_rng(3)
    texts = [rng.integers(0, 2, rng.integers(0, 5)).tolist() for _ in range(12)]
    return NgramModels(texts, [0, 1] * 6, 3, alphabet=("a", "b"), length=5)


def test_laws_that_are_equal_have_no_divergence(models):
    found = summary(text_laws(models, 1, 0.0), draws=50)
    assert [found["kl_joint_sequential"], found["kl_sequential_joint"]] == pytest.approx([0, 0], abs=1e-9)
    assert summary(text_laws(models, 1, 3.0), draws=50)["kl_joint_sequential"] > 0.01


def test_a_law_of_one_text_has_no_entropy_below_0(models):
    laws = text_laws(models, 1, 400.0)
    assert laws.joint.entropy() < 0  # by rounding
    assert summary(laws, draws=50)["entropy_joint"] == 0


def test_a_total_variation_has_an_error_that_more_draws_reduce(models):
    laws = text_laws(models, 1, 3.0)
    few, many = (total_variation(*laws[1:], draws=n, generator=torch.Generator().manual_seed(0)) for n in (100, 10_000))
    assert few[1] == pytest.approx(10 * many[1], rel=0.3)
    assert abs(few[0] - many[0]) < 4 * few[1]
    assert many[0] > 20 * many[1]


def test_every_row_of_draws_has_its_own_index(models):
    frame = texts_frame(models, text_laws(models, 1, 3.0), 3, torch.Generator().manual_seed(0))
    assert frame["law"].tolist() == [name for name in ("conditional", "joint", "sequential") for _ in range(3)]
    assert frame.index.is_unique
