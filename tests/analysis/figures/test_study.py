"""Panels of a study: images with awkward labels, and titles that follow the data."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.figures import pictures, style
from analysis.figures import study as figures
from analysis.frames import Plot, tidy
from analysis.study.samplers import JOINT, SEQUENTIAL


def images(labels):
    case = {"family": JOINT, "scale": 1.0, "value": 0.5, "x": 0, "y": 0, "quantity": "pixel"}
    return pd.DataFrame([case | {"label": label} for label in labels])


def test_labels_are_no_formulas(ax):
    labels = ["$^$", "$x$"]
    figures.samples(JOINT)(images(labels), ax)
    ax.figure.canvas.draw()
    assert [label.get_text() for label in ax.get_xticklabels()] == labels
    assert not any(label.get_parse_math() for label in ax.get_xticklabels())


@pytest.mark.parametrize("labels", [[f"label {i:04}" for i in range(10)], [str(i) for i in range(10)]])
def test_labels_of_ten_characters_do_not_overlap(ax, labels):
    figures.samples(JOINT)(images(labels), ax)
    ax.figure.set_size_inches(3.3, 3.3)
    ax.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert not any(left.overlaps(right) for i, left in enumerate(boxes) for right in boxes[i + 1 :])


@pytest.mark.parametrize("save", [pictures.save_plot, pictures.save_panels])
def test_a_label_that_the_font_lacks_gives_no_warning(save, tmp_path):
    save(tmp_path / "samples.png", Plot("samples", (figures.samples(JOINT),), ""), images(["\u4e2d"]))
    assert (tmp_path / "samples.png").stat().st_size > 1000


def ink(picture):
    return int((np.asarray(picture) < 128).sum())


def test_panels_are_cut_from_one_height_and_dense_enough_for_a_page(tmp_path):
    """The title of the second panel needs more lines; nothing of it is lost."""
    titles = ("title", "a title of so many words that they need several lines " * 2)
    panels = [lambda frame, ax, title=title: style.label(ax, title=title, x="x", y="y") for title in titles]
    plot, path = Plot("two", tuple(panels), ""), tmp_path / "two.png"
    short, long = [Image.open(io.BytesIO(each.png)).convert("L") for each in pictures.save_panels(path, plot, images(["a"]))]
    assert short.height == pytest.approx(long.height, abs=pictures.MARGIN)
    inches = style.draw(plot, images(["a"])).get_size_inches()[0]
    with Image.open(path) as whole:
        assert whole.width == pytest.approx(inches * pictures.INCH * pictures.DENSITY, abs=1)
        assert sum(map(ink, (short, long))) == pytest.approx(ink(whole.convert("L")), rel=0.005)


def measured(values):
    """Return a frame of two seeds with the accuracy of the sequential law at γ = 0 and 5, and how well another sampler did."""
    return tidy(
        {"family": SEQUENTIAL, "quantity": "accuracy", "scale": scale, "seed": seed, "value": value}
        for seed in range(2)
        for scale, value in zip((0.0, 5.0), values, strict=True)
    )


@pytest.mark.parametrize("values", [(0.125, 0.875), (0.875, 0.125)])
def test_the_title_of_a_measure_has_its_ends(ax, values):
    (panel,) = figures.against("scale", "accuracy")
    panel(pd.concat([measured(values), tidy([{"family": "evaluator", "quantity": "chance", "value": 0.5}])]), ax)
    assert ax.get_label() == f"Accuracy, {SEQUENTIAL}: {values[0]:.2f} → {values[1]:.2f}"


def convergence(values):
    rows = zip((1.25, 1.5), values, strict=True)
    return tidy({"family": JOINT, "quantity": "log_z_apart", "scale": at, "seed": 0, "value": value} for at, value in rows)


@pytest.mark.parametrize(
    ("values", "where"), [((0.1, 0.2), "up to γ = 1.5"), ((0.1, 0.9), "up to γ = 1.25"), ((0.7, 0.9), "nowhere")]
)
def test_the_title_of_convergence_says_up_to_where(ax, values, where):
    (panel,) = figures.against("scale", "log_z_apart")
    panel(convergence(values), ax)
    assert ax.get_label() == f"Difference of halves in log Z below the limit: {JOINT} {where}"


def test_the_title_of_a_frontier_is_the_decision(ax):
    frame = pd.concat([measured((0.1, 0.9)), measured((0.1, 0.9)).assign(quantity="spread")])
    (panel,) = figures.frontier("spread", decide=lambda frame, quantity: f"{quantity} of {len(frame)} rows")
    panel(frame, ax)
    assert ax.get_label() == "Spread, spread of 8 rows"


def losses(dropout, without):
    rows = [("dropout", dropout), ("without dropout", without)]
    return tidy(
        {"law": "pixels", "family": family, "quantity": "held-out loss", "seed": seed, "value": value}
        for family, values in rows
        for seed, value in enumerate(values)
    )


@pytest.mark.parametrize(
    ("dropout", "without", "title"),
    [
        ((10.0, 10.5), (8.0, 8.5), "Dropout costs 2.0 nats"),
        ((8.0, 8.5), (10.0, 10.5), "Dropout gains 2.0 nats"),
        ((10.0, 8.0), (8.0, 10.0), "Held-out loss"),
    ],
)
def test_the_title_of_the_losses_follows_the_data(ax, dropout, without, title):
    figures.held_out(losses(dropout, without), ax)
    assert ax.get_label() == title


def test_a_frontier_draws_the_samplers_that_have_both_measures(ax):
    both = pd.concat([measured((0.1, 0.9)), measured((0.2, 0.4)).assign(quantity="spread")])
    (panel,) = figures.frontier("spread")
    panel(pd.concat([both, measured((0.3, 0.5)).assign(family=JOINT)]), ax)
    assert {line.get_label(): line.get_xydata().tolist() for line in ax.lines} == {SEQUENTIAL: [[0.9, 0.4]]}


def test_a_held_out_loss_is_drawn_once_per_variant_that_knows_it(ax):
    rows = losses((10.0,), (8.0,))
    figures.held_out(pd.concat([rows, rows.assign(quantity="held-out loss, no label", value=rows["value"] + 4)]), ax)
    assert [line.get_xdata().tolist() for line in ax.lines] == [[10, 8], [14]]


def test_the_loss_is_grey_below_its_moving_mean(ax):
    (panel,) = figures.LOSS.panels
    panel(pd.DataFrame({"step": range(80), "loss": [0.0, 1.0] * 40}), ax)
    steps, smooth = ax.lines
    assert [steps.get_color(), smooth.get_color()] == [style.SILVER, style.INK]
    assert set(smooth.get_ydata()[1:-1]) == {0.5}
