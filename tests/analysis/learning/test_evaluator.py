"""What the evaluator calls a copy: equal texts, and images nearer to a training row than most held-out images are."""

import pytest
import torch

from analysis.learning.datasets import Data
from analysis.learning.evaluator import Evaluator


def of_texts():
    rows, labels = ["abba", "baab", "xyxy", "yxxy"] * 3, torch.tensor([0, 0, 1, 1] * 3)
    return Data(rows, labels, ("ab", "xy"), ["abba", "abab", "xyyx", "yyxx"], torch.tensor([0, 0, 1, 1]))


def test_texts_are_memorised_or_new_by_equality():
    found = Evaluator(of_texts()).measures(["abba", "xyyx", "abab", "aaaa"], torch.tensor([0, 1, 0, 0]))
    assert found["memorised"] == 0.25  # a row of both sets is a training row
    assert found["new rows"] == 0.5


def test_images_are_memorised_where_they_are_nearer_than_held_out_ones():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 1, 3, 3, generator=generator) / 3
    labels = torch.arange(600) % 2
    evaluator = Evaluator(Data(x[:300], labels[:300], ("a", "b"), x[300:], labels[300:]))
    held, copies = x[300:], x[:300] + 1e-3
    assert evaluator.measures(held, labels[300:])["memorised"] == pytest.approx(0.05, abs=0.01)
    assert evaluator.measures(copies, labels[:300])["memorised"] == 1.0
    assert "new rows" not in evaluator.measures(held, labels[300:])
