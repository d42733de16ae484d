"""The chapters of a study: what they show of images and of texts, and in which tables."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from analysis.frames import tidy
from analysis.study import temperatures
from analysis.study.chapters import stories
from analysis.study.samplers import AWARE, CLEAN, JOINT, ODE, SDE, SEQUENTIAL


def chapters(*, images):
    return {story.name: story for story in stories(images=images, about="")}


@pytest.mark.parametrize("images", [True, False])
def test_samples_are_shown_as_pictures_or_set_as_texts(images):
    for name in ("coherent", "question"):
        story = chapters(images=images)[name]
        assert any("samples" in plot.name for plot in story.plots) == images
        assert any(grid.verbatim for grid in story.tables) != images


def test_cooled_samples_have_a_row_per_temperature():
    case = {"quantity": "pixel", "label": "a", "x": 0, "y": 0, "value": 0.5}
    shown = {plot.name: plot.panels for plot in chapters(images=True)["temperature"].plots}
    for name, families in (
        ("study_temperature_samples", (SEQUENTIAL, JOINT)),
        ("study_temperature_scores", (temperatures.ODE, temperatures.NOISE, temperatures.WEIGHTS)),
    ):
        figure, axes = plt.subplots(1, len(families))
        for panel, family, ax in zip(shown[name], families, axes, strict=True):
            panel(pd.DataFrame([case | {"family": family, "beta": beta, "scale": None} for beta in (1.0, 2.0)]), ax)
            assert (ax.get_label(), ax.get_ylabel()) == (family, "β")
            assert [label.get_text() for label in ax.get_yticklabels()] == ["1", "2"]
        plt.close(figure)


def test_classifiers_are_compared_with_none():
    distances = {AWARE: 0.1, CLEAN: 0.3, ODE: 0.2, SDE: 0.4}
    rows = [
        {"family": family, "quantity": "energy distance", "scale": 2.0, "seed": seed, "value": value}
        for family, value in distances.items()
        for seed in range(2)
    ]
    (grid,) = chapters(images=True)["claims"].tables
    columns, cells = grid.cells(tidy(rows))
    assert columns == ("γ", AWARE, CLEAN, ODE)
    assert cells == [["2", "0.100 ± 0.000", "0.300 ± 0.000", "0.200 ± 0.000"]]


def test_tables_with_a_column_per_sampler_are_left_out_on_a_terminal():
    found = chapters(images=True)
    assert [grid.wide for name in ("trade", "claims", "temperature") for grid in found[name].tables] == [True] * 7
