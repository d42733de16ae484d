"""Panels draw the rows that they name, each of them once, and no others."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from drawn import entries, points, table
from readable import strange_colours, wrong_colours

from analysis.figures import classifier, correction, families, fidelity, measurement, real_data, scale_factors
from analysis.figures.coherence import causes, coherent
from analysis.figures.continuous import langevin
from analysis.figures.published import masked_density


def guided():
    """Return the numbers of a classifier's chapter: laws in another order than that of figures, and one that none draws."""
    laws = ("another", *classifier.ORDER[::-1])
    scaled = [(law, name, at, at, np.nan) for law, name, at in product(laws, ("mean", "variance"), (1.0, 2.0))]
    noised = [(law, "pull", at, np.nan, at) for law, at in product(laws, (1.0, 9.0))]
    return table("family quantity value scale sigma", *scaled, *noised)


def test_a_classifier_has_the_laws_of_its_chapter_in_their_order(ax):
    classifier.mean(guided(), ax)
    assert entries(ax) == list(points(ax)) == list(classifier.ORDER)
    assert ax.get_label() == "A noise-aware classifier gives classifier-free guidance"


def test_a_classifier_that_differs_gives_a_neutral_title(ax):
    frame = guided()
    classifier.mean(frame.assign(value=frame["value"].where(frame["family"] != classifier.AWARE, 5.0)), ax)
    assert ax.get_label() == "Mean of the samples"


def traded():
    """Return class probabilities and entropies of two laws of two data sets."""
    cells = product(fidelity.DASHES, ("joint", "sequential"), ("class_probability", "entropy"), (1.0, 3.0))
    return table("law family quantity scale value", *((*cell, cell[-1] + len(cell[2])) for cell in cells))


@pytest.mark.parametrize(
    ("make", "panels"),
    [
        (guided, (classifier.mean, classifier.variance, classifier.pull)),
        (traded, (fidelity.class_probability, fidelity.entropy, fidelity.trade_off)),
    ],
)
def test_one_legend_serves_all_panels_of_a_figure(ax, make, panels):
    for panel, own in zip(panels, ax.figure.subplots(1, 3), strict=True):
        panel(make(), own)
    assert [each.get_legend() is not None for each in ax.figure.axes[1:]] == [True, False, False]


def test_the_legend_of_fidelity_names_law_and_data(ax):
    fidelity.class_probability(traded(), ax)
    assert set(entries(ax)) == {f"{law}, {data}" for law, data in product(("joint", "sequential"), fidelity.DASHES)}


def test_samples_that_are_outside_have_marks_of_their_own(ax):
    draws = table("family x value out", ("data", 0, 0, 0), ("plain", 0.1, 0.2, 0.0), ("plain", 0.3, 0.4, 1.0), quantity="point")
    causes.samples("plain")(draws, ax)
    assert [marks.get_offsets().tolist() for marks in ax.collections] == [[[0, 0]], [[0.1, 0.2]], [[0.3, 0.4]]]
    assert (ax.get_label(), ax.get_xlabel()) == ("plain: 50% outside", "")


def test_a_measure_has_a_point_per_family_and_scale(ax):
    cells = [
        (name, scale, seed, scale * (i + seed)) for i, name in enumerate(causes.ORDER) for scale in (2, 4) for seed in (0, 1)
    ]
    causes.number("outside")(table("family scale seed value", *cells, quantity="outside"), ax)
    found = [line.get_xydata()[0] for line in ax.lines if len(line.get_xdata())]
    assert sorted(x for x, _ in found) == sorted(scale * (i + 0.5) for i in range(len(causes.ORDER)) for scale in (2, 4))
    assert len({y for _, y in found}) == 2 * len(causes.ORDER)
    assert entries(ax) == ["γ = 2", "γ = 4"]


def test_the_ratio_has_one_curve_per_pair(ax):
    curves = [
        ("share_above", pair, r, share - r / 4) for pair, share in (("coherent", 0.5), ("incoherent", 0.75)) for r in (0, 1)
    ]
    others = [("bound", "coherent", np.nan, 0.9), ("ratio_beyond", "incoherent", np.nan, 0.1)]
    coherent.ratio(table("quantity pair r value", *curves, *others, law="words"), ax)
    expected = {
        "coherent pair": [[0, 0.5], [1, 0.25]],
        "incoherent pair": [[0, 0.75], [1, 0.5]],
        "bound −log π": [[0.9, 0], [0.9, 1]],
    }
    assert points(ax) == expected


def test_a_measure_of_pairs_draws_the_laws_that_it_has(ax):
    rows = [("joint", "coherent", 0.5), ("joint", "incoherent", 0.25), ("sequential", "incoherent", 0.75)]
    coherent.at_cap(table("family pair value", *rows, law="words", quantity="at_cap", scale=coherent.AT), ax)
    assert points(ax) == {f"{family}, {pair}": [[5, value]] for family, pair, value in rows}


@pytest.mark.parametrize(("most", "says"), [(0.5, "bounds"), (0.1, "does not bound")])
def test_bounds_are_those_of_the_coherent_pair(ax, most, says):
    own = [("exact", "acceptance", 0.75), ("exact", "most_kl", most), ("exact", "most_tv", 0.5)]
    own += [("joint", f"{distance}_conditional", 0.25) for distance in ("kl", "tv")]
    rows = [(*row[:2], pair, row[2] + extra) for row in own for pair, extra in (("coherent", 0.0), ("incoherent", 9.0))]
    coherent.bounded(table("family quantity pair value", *rows, law="words", scale=2.0), ax)
    assert ax.get_label() == f"A {says} what a coherent joint law changes"
    assert points(ax)["share A that is accepted"] == [[2, 0.75]]
    assert points(ax)["KL, nats: bound by A"] == [[2, most]]


def test_the_gap_is_drawn_against_the_error_of_the_fit(ax):
    pairs = {"coherent": (1e-9, 0.1), "incoherent": (2.0, 4.0), "noise 0.1": (0.5, 1.0), "noise 0.2": (1.0, 2.0)}
    rows = [("any", "fit_error", pair, error) for pair, (error, _) in pairs.items()]
    measures = (("exact", "kl_sequential_joint"), ("joint", "kl_conditional"))
    rows += [(*measure, pair, gap) for pair, (_, gap) in pairs.items() for measure in measures]
    coherent.dose(table("family quantity pair value", *rows, law="words", scale=coherent.AT), ax)
    names = ["KL(seq. ‖ joint), noisy fits", "KL(joint ‖ p(x|y)), noisy fits"]
    assert points(ax) == {name: [[0.5, 1.0], [1.0, 2.0]] for name in names}
    assert entries(ax) == [*names, "fit of order 1", "coherent pair"]


def test_the_title_counts_the_intervals_that_hold_the_exact_mean(ax):
    exact = [(family, at, at, 0.0) for family in ("joint", "sequential", "diffusion ODE") for at in (1.0, 2.0, 3.0)]
    drawn = [("MALA", 1.0, 1.1, 0.1), ("MALA", 2.0, 2.5, 0.1), ("MALA", 3.0, 2.9, 0.1)]
    rows = table("family position value std_error", *exact, *drawn, law=langevin.EXACT, quantity="mean")
    langevin.means(rows, ax)
    assert ax.get_label() == "Langevin’s interval holds the joint tilt’s mean at 2 of 3 positions"


HILL = [("density", "exact", x, y, np.exp(-((x - 1) ** 2) - y**2)) for x in (0.0, 1.0, 2.0) for y in (-1.0, 0.0, 1.0)]
DRAWS = [("draw", "diffusion ODE", 0.5, 0.25, np.nan), ("draw", "diffusion ODE", 1.5, -0.5, np.nan)]


def check_contours(ax):
    """Check that a panel has the draws, and contours around the top of the hill at (1, 0)."""
    draws, contours = ax.collections
    assert draws.get_offsets().tolist() == [[0.5, 0.25], [1.5, -0.5]]
    vertices = np.concatenate([path.vertices for path in contours.get_paths() if len(path.vertices)])
    assert vertices.min(0) == pytest.approx([2 - vertices[:, 0].max(), -vertices[:, 1].max()])
    assert np.ptp(vertices, axis=0) == pytest.approx([2, 2], abs=1.0)


def test_final_densities_of_both_laws_and_samplers_are_drawn(ax):
    rows = [
        (family, x, height)
        for family, height in zip(("joint", "conditional", *correction.SAMPLERS), (2.0, 1.0, 3.0, 4.0), strict=True)
        for x in (0, 1)
    ]
    correction.densities("two modes", "Modes")(table("family x value", *rows, law="two modes", quantity="density"), ax)
    names = ["joint tilt", "conditional", *correction.SAMPLERS]
    assert points(ax) == {name: [[0, height], [1, height]] for name, height in zip(names, (2, 1, 3, 4), strict=True)}
    assert ax.get_label() == "Modes: the ODE draws a narrower law than the joint tilt"


def test_draws_of_a_learned_model_lie_over_the_contours_of_the_joint_law(ax):
    frame = table("quantity family x x_2 value", *HILL, *DRAWS, law=langevin.LEARNED)
    means = table("family value", ("joint", 1.0), ("diffusion ODE", 1.5), law=langevin.LEARNED, quantity="mean", position=1)
    langevin.draws("diffusion ODE")(pd.concat([frame, means]), ax)
    check_contours(ax)
    assert ax.get_label() == "Guided ODE: mean of x_1 +0.50 from the joint tilt’s"


def test_draws_in_the_plane_lie_over_the_contours_of_the_tilt(ax):
    distances = [("tv", "diffusion ODE", np.nan, np.nan, 0.5), ("tv", "exact draws", np.nan, np.nan, 0.25)]
    frame = table("quantity family x x_2 value", *HILL, *DRAWS, *distances, law="plane", scale=3.0)
    correction.plane(3.0)(frame, ax)
    check_contours(ax)
    assert ax.get_label() == "γ = 3: total variation 0.50, of exact draws 0.25"


@pytest.mark.parametrize(
    ("away", "says"),
    [
        (correction.SMALL, "Quantiles of 10, 50 and 90 %"),
        (0.5, "At the end the ODE's median is 0.50 from either law's"),
    ],
)
def test_a_median_is_away_where_a_figure_shows_it(ax, away, says):
    ends = {"tilt of p_σ": 0.0, "noised tilt of p_0": -1.0, "diffusion ODE": away}
    cells = product(ends.items(), (0.1, 0.5, 0.9), (0.01, 1.0))
    rows = [(family, level, sigma, end + (level - 0.5)) for (family, end), level, sigma in cells]
    correction.quantiles(table("family level sigma value", *rows, quantity="quantile"), ax)
    assert (ax.get_label(), wrong_colours(ax)) == (says, {})
    assert list(points(ax)) == list(ends)


def test_the_title_has_the_share_of_the_error_that_noise_removes(ax):
    rows = [("λ", 0.0, 2.0), ("λ", 3.0, 1.25), ("joint", np.nan, 1.0)]
    frame = table("family noise value", *rows, law="pair of Gaussians", quantity="variance", scale=2.0, how="exact")
    correction.bridge("variance")(frame, ax)
    assert ax.get_label() == "Noise of λ = 3 removes 75% of the error of the variance"


def test_the_exact_share_is_drawn_with_its_bounds(ax):
    rows = [("exact", "acceptance", 0.5), ("exact", "kl_joint_conditional", 0.25), ("exact", "tv_joint_conditional", 0.25)]
    rows += [(family, "acceptance", 0.5) for family in families.ACCEPTED]
    families.kept(table("family quantity value", *rows, law=families.TABLE, length=2, scale=3.0), ax)
    assert ax.get_label() == "A bounds what the joint law changes, T = 2"
    assert points(ax)["A, exact"] == [[3, 0.5]]
    assert strange_colours(ax) == {}


def test_diffusions_that_are_nearer_than_left_to_right_are_counted(ax):
    rows = zip(families.GUIDED, (0.5, 0.4, 0.6, 0.3), strict=True)
    families.discrete_against_scale(table("family value", *rows, law=families.TABLE, quantity="tv", length=2, scale=3.0), ax)
    assert ax.get_label() == "2 of 3 token diffusions are nearer than left to right, T = 2"


def test_a_factor_has_its_interval(ax):
    texts = {"log_s": [0.0, 1.0], "log_s_low": [-0.5, 0.5], "log_s_high": [0.25, 3.0], "log_s_prime": [1.0, 2.0]}
    measurement.factors(pd.DataFrame(texts), ax)
    assert [bar.tolist() for bar in ax.collections[0].get_segments()] == [[[-0.5, 1], [0.25, 1]], [[0.5, 2], [3, 2]]]


def test_the_gap_is_drawn_with_its_zero_at_whole_lengths(ax):
    gaps = {"length": [1, 2], "kl": [1.0, 2.0], "kl_low": [0.5, 1.5], "kl_high": [1.5, 2.5]}
    measurement.gap_to_length(pd.DataFrame(gaps), ax)
    assert [list(line.get_ydata()) for line in ax.lines] == [[0, 0], [1, 2]]
    assert all(tick == round(tick) for tick in ax.get_xticks())


def test_printed_densities_of_one_w_are_compared(ax):
    rows = [
        ("five dimensions", f"p at w = 1, {i} twos", 2.0, i * 0.5, verdict)
        for i, verdict in enumerate(("agrees", "agrees", "differs"))
    ]
    rows += [
        ("five dimensions", "p at w = 2, 0 twos", 7.0, 0.0, "agrees"),
        ("one dimension", "p at w = 1, 0 twos", 8.0, 0.0, "agrees"),
    ]
    frame = pd.DataFrame(rows, columns=["where", "claim", "ours", "difference", "verdict"]).assign(half=0.1, control=1.0)
    masked_density.one(frame, ax)
    assert ax.get_label() == "w = 1: 2 of 3 printed densities agree with the exact law"
    assert [bar.get_height() for bar in ax.patches] == [2, 2, 2]
    assert points(ax)["joint tilt"] == [[0, 1], [1, 1], [2, 1]]


def test_the_gap_of_digits_has_a_point_per_label(ax):
    rows = [("digits", scale, label, scale * (label + 1)) for scale in (1.0, 3.0) for label in (0, 1, 2)]
    real_data.gap(table("law scale label value", *rows, quantity="kl_sequential_joint"), ax)
    assert ax.get_label() == "Digits: the median gap is 6.00 nats at γ = 3"
    assert [y for _, y in points(ax)["digits"]] == [3, 6, 9]


def test_a_pixel_is_where_an_image_of_eight_columns_has_it(ax):
    real_data.pixels(table("order value", (0, 19), (1, 56), quantity="pixel"), ax)
    assert np.argwhere(ax.images[0].get_array()).tolist() == [[2, 3], [7, 0]]
    assert {text.get_text(): text.get_position() for text in ax.texts} == {"x1": (3, 2), "x2": (0, 7)}


@pytest.mark.parametrize(("factor", "says"), [(-1, "shrinks"), (1, "grows")])
def test_the_gap_by_smoothing_is_a_median_over_labels(ax, factor, says):
    laws = {"digits, +0.5": 1, "digits": 0, "digits, +1": 2}
    cells = product(laws.items(), (0.0, 3.0), (-1, 0, 5))
    rows = [(law, scale, label, scale * (3 + factor * added) + label) for (law, added), scale, label in cells]
    real_data.smoothing(table("law scale label value", *rows, quantity="kl_sequential_joint"), ax)
    assert ax.get_label() == f"The gap {says} as cells are raised"
    assert points(ax) == {name: [[0, 0], [3, 9 + 3 * factor * i]] for i, name in enumerate(("+0.02 (used)", "+0.5", "+1"))}


@pytest.mark.parametrize(("values", "where"), [((1, 2, 3), "strongest"), ((3, 2, 1), "weakest"), ((1, 3, 2), "intermediate")])
def test_the_coupling_with_the_largest_gap_is_named(ax, values, where):
    rows = zip((0.5, 1.0, 2.0), values, strict=True)
    scale_factors.gap_to_coupling(
        table("coupling value", *rows, law="coupled", quantity="kl_sequential_joint", scale=3.0, length=5), ax
    )
    assert ax.get_label() == f"The gap is largest at the {where} coupling, γ = 3"


def test_laws_without_a_gap_stand_beside_the_table_of_coupling_one(ax):
    rows = [("coupled", 0.5, 0.125), ("coupled", 1.0, 0.25), ("independent", np.nan, 0.0)]
    scale_factors.zeros(table("law coupling value", *rows, quantity="tv", length=5, scale=3.0), ax)
    assert points(ax) == {"coupled": [[3, 0.25]], "independent": [[3, 0]]}
    assert ax.get_label() == "1 of 2 laws have no gap at any γ"
