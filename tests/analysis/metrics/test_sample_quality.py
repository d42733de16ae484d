"""Measures of samples, against laws whose distances are known; and the evaluator on real data."""

import math

import pytest
import torch
from scipy.stats import energy_distance

from analysis.learning import datasets
from analysis.learning import evaluator as evaluators
from analysis.metrics import sample_quality


@pytest.fixture(scope="module")
def digits():
    return datasets.read_images(datasets.Source("digits", "image"))


@pytest.fixture(scope="module")
def evaluator(digits):
    return evaluators.Evaluator(digits)


def normal(n, seed=0, shift=0.0):
    return torch.randn(n, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def test_the_energy_distance_is_scipys_without_its_bias():
    """SciPy returns the square root of the biased estimate, which includes the distance of each point to itself."""
    x, y = normal(400), normal(300, 1, shift=1.0)
    within = sum(torch.cdist(z, z).mean() / (len(z) - 1) for z in (x, y))
    biased = sample_quality.energy(x, y) + float(within)
    assert biased == pytest.approx(energy_distance(x[:, 0].numpy(), y[:, 0].numpy()) ** 2, rel=1e-9)
    same = [sample_quality.energy(normal(200, 2 * s), normal(200, 2 * s + 1)) for s in range(40)]
    mean, error = sum(same) / 40, float(torch.tensor(same).std()) / 40**0.5
    assert abs(mean) < 5 * error
    assert sample_quality.energy(normal(200), normal(200, 1, shift=0.5)) > 20 * error


def test_neighbours_separate_invented_and_missing_data():
    data = torch.cat([normal(300), normal(300, 1, shift=20.0)])
    half = normal(300, 2)
    found = sample_quality.neighbours(half, data)
    assert found["precision"] > 0.95
    assert 0.4 < found["recall"] < 0.55
    assert 0.4 < found["coverage"] < 0.55
    found = sample_quality.neighbours(torch.cat([half, normal(300, 3, shift=-50.0)]), data[:300])
    assert 0.45 < found["precision"] < 0.55
    assert found["coverage"] > 0.9
    same = sample_quality.neighbours(data, data)
    assert same["precision"] == same["recall"] == same["coverage"] == 1.0
    assert same["density"] == pytest.approx(1 + 1 / sample_quality.NEIGHBOURS, abs=0.02)


def test_the_spread_is_within_a_label():
    """The mean distance of two standard normals is 2/√π; labels that are far apart add nothing."""
    x = torch.cat([normal(2000), normal(2000, 1, shift=100.0)])
    labels = torch.arange(2).repeat_interleave(2000)
    assert sample_quality.spread(x, labels) == pytest.approx(2 / math.pi**0.5, rel=0.03)
    assert sample_quality.spread(x, torch.zeros(4000)) > 40


def test_the_classifier_ignores_requested_labels(evaluator, digits):
    assert evaluator.accuracy > 0.95
    found = evaluator.measures(digits.held, digits.held_labels)
    assert found["accuracy"] == evaluator.accuracy
    assert found["class entropy"] == pytest.approx(math.log(10), abs=0.02)
    assert found["distinct"] == 1.0
    assert found["spread"] == pytest.approx(1.0, abs=0.02)
    shifted = evaluator.measures(digits.held, (digits.held_labels + 1) % 10)
    assert shifted["accuracy"] < 0.05
    copies = evaluator.measures(digits.held[:1].expand(40, -1, -1, -1), digits.held_labels[:1].expand(40))
    assert copies["distinct"] == 1 / 40
    assert copies["coverage"] < 0.1
    alike = evaluator.measures(digits.held[:1].expand(40, -1, -1, -1), digits.held_labels[:40])
    assert alike["class entropy"] == 0  # of what is found, whatever was asked for


def test_texts_are_classified_by_their_pieces(tmp_path):
    texts = datasets.Data(
        ["aba", "abba", "baab", "abab"] * 30 + ["xyx", "yyx", "xxy", "xyy"] * 30,
        torch.arange(2).repeat_interleave(120),
        ("a", "x"),
        ["abaa", "xyyx"] * 8,
        torch.arange(2).repeat(8),
    )
    evaluator = evaluators.Evaluator(texts)
    assert evaluator.accuracy == 1.0
    assert evaluator.labels(["bab", "yyy"]).tolist() == [0, 1]


def test_reference_data_are_new_and_balanced(digits):
    held = ["aba", "new", "newer", "xyx", "x", "xx", "xxx", "y"]
    texts = datasets.Data(["aba", "xyx"] * 5, torch.arange(10) % 2, ("a", "x"), held, torch.tensor([0, 0, 0, 1, 1, 1, 1, 1]))
    rows, labels = evaluators.reference(texts)
    assert (rows[:2], labels.tolist()) == (["new", "newer"], [0, 0, 1, 1])
    assert len(set(rows[2:]) & {"x", "xx", "xxx", "y"}) == 2
    rows, labels = evaluators.reference(texts._replace(held_labels=torch.tensor([0] * 7 + [1])))  # one of a label is too few
    assert (rows, len(labels)) == (held, 8)
    many = torch.arange(700) % 3  # of the first label 234 rows
    rows, labels = evaluators.reference(digits._replace(held=torch.zeros(700, 1), held_labels=many, names=("a", "b", "c")))
    assert labels.bincount().tolist() == [100] * 3
    rows, labels = evaluators.reference(digits, 20)
    assert labels.bincount().tolist() == [20] * 10
    pick = torch.randperm(len(digits.rows), generator=torch.Generator().manual_seed(0))[:300]
    assert sample_quality.neighbours(digits.rows[pick].flatten(1), rows.flatten(1))["coverage"] > 0.9
    ordered = digits._replace(held=torch.arange(270.0).reshape(-1, 1), held_labels=torch.arange(10).repeat_interleave(27))
    rows, _ = evaluators.reference(ordered, 9)
    assert rows.reshape(10, 9).max(1).values.remainder(27).min() > 13  # of all the label's rows, not the first


@pytest.mark.parametrize("rows", [4, 20])
def test_few_rows_are_compared_in_fewer_features(rows):
    images = torch.rand(rows + 4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(rows + 4) % 2
    evaluator = evaluators.Evaluator(datasets.Data(images[4:], labels[4:], ("a", "b"), images[:4], labels[:4]))
    assert evaluator.reference.shape == (4, rows - 1)
    assert evaluator.measures(images[:4], labels[:4])["spread"] == pytest.approx(1.0)
    words = [f"{'ab'[i % 2]}{'ab'[i // 2 % 2]}" for i in range(rows)]
    evaluator = evaluators.Evaluator(datasets.Data(words, labels[4:], ("a", "b"), words[:4], labels[:4]))
    assert len(evaluator.reference) == 4


def test_equal_data_have_no_spread():
    images = torch.tensor([-1.0, 1.0]).repeat(12).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    labels = torch.arange(24) % 2
    evaluator = evaluators.Evaluator(datasets.Data(images[4:], labels[4:], ("a", "b"), images[:4], labels[:4]))
    found = evaluator.measures(images[:4] + torch.linspace(0, 0.1, 4)[:, None, None, None], labels[:4])
    assert math.isnan(found["spread"])
    assert found["accuracy"] == 1.0
