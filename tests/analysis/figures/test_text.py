"""A panel of texts draws the numbers of its law, and its title names the γ at which something is decided."""

import pytest
from drawn import entries, points, table
from readable import strange_colours

from analysis.figures import text, whole_texts


def measured(joint, converged=(1.0, 1.0)):
    """Return the adherence of both laws at two scales, and at which of them the particles converged."""
    rows = [("sequential", "adherence", scale, 1.0) for scale in (2.0, 4.0)]
    rows += [("joint", "adherence", scale, joint) for scale in (2.0, 4.0)]
    rows += [("joint", "consistent", scale, each) for scale, each in zip((2.0, 4.0), converged, strict=True)]
    return table("family quantity scale value", *rows, std_error=0.0)


@pytest.mark.parametrize(
    ("joint", "converged", "says"),
    [
        (2.0, (1.0, 1.0), "γ = 4: the joint law has more"),
        (0.5, (1.0, 0.0), "γ = 2: the joint law has less"),
        (1.0, (1.0, 1.0), "γ = 4: not decided"),
        (2.0, (0.0, 0.0), "the joint sampler did not converge"),
    ],
)
def test_the_title_of_a_text_measure_says_what_is_decided(ax, joint, converged, says):
    text.adherence(measured(joint, converged), ax)
    assert ax.get_label().removeprefix("Adherence").lstrip(",: ") == says


def test_each_law_of_texts_has_its_own_line_and_points(ax):
    text.adherence(measured(2.0), ax)
    assert [line.get_ydata().tolist() for line in ax.lines if len(line.get_xdata())] == [[1, 1], [2, 2]]
    hollow, full = ([tuple(face) == (1, 1, 1, 1) for face in marks.get_facecolors()] for marks in ax.collections[1::2])
    assert not any([*hollow, *full])


def by_length(quantity):
    """Return a measure by length at two scales, with its interval."""
    rows = [(scale, length, length * scale) for scale in (2.0, 4.0) for length in (1, 8)]
    frame = table("scale length value", *rows, law="GPT-2", quantity=quantity)
    return frame.assign(low=frame["value"] - 0.5, high=frame["value"] + 0.5)


def test_a_measure_by_length_names_its_scales_in_their_colours(ax):
    text.gap(by_length("kl"), ax)
    assert entries(ax) == ["γ = 2", "γ = 4"]
    assert strange_colours(ax) == {}
    assert ax.lines[0].get_color() == ax.lines[1].get_color() != ax.lines[3].get_color() == ax.lines[2].get_color()


def test_the_legend_of_scales_is_shown_once(ax):
    text.share(by_length("ess_share"), ax)
    assert ax.get_legend() is None
    assert ax.get_yscale() == "log"


def whole(pooled, mixture, error=0.0):
    """Return the gap of two pairs of laws of whole texts at orders 2 and 4, with one standard error."""
    cells = [
        (family, order, value)
        for family, pair in (("pooled", pooled), ("mixture", mixture))
        for order, value in zip((2, 4), pair, strict=True)
    ]
    rows = [(*cell[:2], scale, cell[2]) for cell in cells for scale in (2.0, 3.0)]
    return table("family order scale value", *rows, quantity="kl_sequential_joint", std_error=error)


def test_the_largest_gap_of_each_pair_is_in_the_title(ax):
    whole_texts.gap(whole((0.5, 0.25), (0.125, 0.75)), ax)
    assert ax.get_label() == "At γ = 3 and order 4 the laws differ by 0.25 nats (pooled) and 0.75 nats (mixture)"


def test_a_band_that_reaches_zero_ends_on_a_logarithmic_axis(ax):
    whole_texts.gap(whole((0.5, 0.25), (0.125, 0.75), error=1.0), ax)
    assert min(path.vertices[:, 1].min() for band in ax.collections for path in band.get_paths()) == 1e-4


@pytest.mark.parametrize(("pooled", "says"), [((0.1, 0.2), "grows with"), ((0.2, 0.1), "shrinks with")])
def test_the_gap_by_order_is_that_of_the_pooled_pair(ax, pooled, says):
    whole_texts.orders(whole(pooled, pooled[::-1]), ax)
    assert ax.get_label() == f"The gap of the pooled pair {says} the order at γ = 3"
    assert points(ax)["one model of all texts"] == [[2, pooled[0]], [4, pooled[1]]]
