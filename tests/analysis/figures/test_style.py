"""Panels: they draw the chosen rows with their intervals, whatever the order of the frame."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from analysis.figures import pictures, style
from analysis.frames import Plot


@pytest.fixture
def frame():
    rows = [
        {"quantity": "kl", "family": family, "scale": scale, "value": value, "std_error": 0.5}
        for scale in (2.0, 0.0, 1.0)
        for family, value in (("joint", scale), ("sequential", -scale), ("other", 7.0))
    ]
    return pd.DataFrame([*rows, rows[0] | {"quantity": "tv", "value": 99.0}])


def test_a_line_panel_draws_the_chosen_rows_in_order_of_x(frame, ax):
    order = {"sequential": "of tokens", "joint": "joint"}
    style.line_panel("Gap", "nats", "scale", {"quantity": "kl"}, order=order)(frame, ax)
    assert [line.get_label() for line in ax.lines] == ["of tokens", "joint"]
    assert [line.get_xdata().tolist() for line in ax.lines] == [[0.0, 1.0, 2.0]] * 2
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.0, -1.0, -2.0], [0.0, 1.0, 2.0]]
    assert (ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel()) == ("Gap", "scale γ", "nats")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["of tokens", "joint"]


def band(ax: Axes) -> tuple[float, float]:
    """Return the lowest and the highest point of the first band."""
    y = ax.collections[0].get_paths()[0].vertices[:, 1]
    return y.min(), y.max()


def test_a_band_is_the_95_percent_interval(frame, ax):
    style.lines(frame[frame["value"] == 7.0], ax, x="scale")
    assert band(ax) == pytest.approx((7 - 1.96 * 0.5, 7 + 1.96 * 0.5), abs=1e-3)


def test_a_band_may_be_asymmetric(ax):
    style.curve(ax, np.array([0.0, 1.0]), np.array([1.0, 1.0]), (0.25, 3.0), colour="red")
    assert band(ax) == (0.75, 4.0)


def test_a_sampler_has_one_look_and_others_take_turns():
    assert style.look("joint", 3) == style.look("joint")
    assert len({style.look(f"unknown {i}", i) for i in range(7)}) == 7


def test_a_saved_plot_is_one_picture_that_shows_its_note(frame, tmp_path):
    plot = Plot("gap", (style.line_panel("Gap", "nats", "scale", {"quantity": "kl"}),), "")
    found = []
    for note in ("", "a warning"):
        pictures.save_plot(tmp_path / "gap.png", plot, frame, note)
        found.append((tmp_path / "gap.png").read_bytes())
    assert found[0] != found[1]
    assert [path.name for path in tmp_path.iterdir()] == ["gap.png"]


def test_a_title_begins_at_the_left_edge_of_its_panel(frame):
    figure = style.draw(Plot("gap", (style.line_panel("Gap", "nats", "scale", {"quantity": "kl"}),), ""), frame)
    (panel,) = figure.axes
    title = panel._left_title.get_window_extent()
    assert title.x0 == pytest.approx(panel.yaxis.label.get_window_extent().x0, abs=1.0)
    plt.close(figure)


def test_a_logarithmic_axis_has_plain_numbers(ax):
    ax.plot([1, 2], [0.01, 100])
    style.logarithmic(ax, "y")
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "log")
    ax.figure.canvas.draw()
    assert {"0.01", "1", "100"} <= {label.get_text() for label in ax.get_yticklabels()}
