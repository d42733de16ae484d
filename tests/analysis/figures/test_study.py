"""Panels of a study: texts and images with awkward labels."""

import matplotlib.pyplot as plt
import pandas as pd

from analysis.figures import study as figures
from analysis.study.samplers import JOINT


def test_texts_are_shown_by_scale_only():
    shown = [{"scale": 2.0}, {"beta": 1.5}]
    rows = [{"family": JOINT, "quantity": "text", "label": "ab", "text": "abab"} | case for case in shown]
    ax = figures.texts(JOINT)(pd.DataFrame(rows), plt.figure().subplots())
    assert [text.get_text() for text in ax.texts] == ["ab", "abab", "γ = 2"]
    plt.close()


def test_labels_are_no_formulas():
    """As the labels of texts, which are drawn by the same figure's cells."""
    case = {"family": JOINT, "scale": 1.0, "value": 0.5, "x": 0, "y": 0}
    labels = ["$^$", "$x$"]
    images = [case | {"quantity": "pixel", "label": label} for label in labels]
    texts = [case | {"quantity": "text", "label": label, "text": label} for label in labels]
    figure = plt.figure()
    left, right = figure.subplots(1, 2)
    figures.samples(JOINT)(pd.DataFrame(images), left)
    figures.texts(JOINT)(pd.DataFrame(texts), right)
    figure.canvas.draw()
    assert [label.get_text() for label in left.get_xticklabels()] == labels
    assert not any(label.get_parse_math() for label in left.get_xticklabels())
    plt.close()


def test_a_cell_holds_the_texts_that_fit():
    assert figures.filled(["one", "two", "three"], 10, 2) == "one\ntwo"
    assert figures.filled(["one two three four"], 9, 2) == "one two …"
    assert figures.filled([""], 9, 2) == "(empty)"
