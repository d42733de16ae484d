"""Titles state what the data show: they change with data that are changed the other way, and are neutral where undecided."""

from functools import cache

import matplotlib.pyplot as plt
import pytest
from readable import small_texts, wrong_colours

from analysis.experiments import classifier, fidelity, real_data, scale_factors
from analysis.experiments.base import Settings
from analysis.figures import correction, families, style
from analysis.figures import temperature as cooled
from analysis.figures.coherence import causes, coherent
from analysis.frames import Plot, pick, tidy


@cache
def frame_of(chapter):
    """Return the frame of a quick chapter."""
    return chapter.EXPERIMENT.run(Settings(quick=True), lambda items: items)


def title(panel, frame):
    """Return the title of a panel."""
    figure = style.draw(Plot("", (panel,), ""), frame)
    found = figure.axes[0].get_label()
    plt.close(figure)
    return found


def swapped(frame, first, second, column="family"):
    """Return a frame in which two laws have exchanged their numbers."""
    names = {first: second, second: first}
    return frame.assign(**{column: frame[column].map(lambda name: names.get(name, name))})


def test_the_gap_grows_or_shrinks_with_length():
    frame, figures = frame_of(scale_factors), scale_factors.figures
    assert title(figures.gap_to_length, frame) == "The gap grows with length"
    lengths = frame["length"].max() + 1 - frame["length"]
    assert title(figures.gap_to_length, frame.assign(length=lengths)) == "The gap shrinks with length"
    mixed = frame.assign(value=frame["value"].where(frame["length"] != 3, 9.0))
    assert title(figures.gap_to_length, mixed) == "The gap against length, up to 9.00 nats"


def test_where_the_laws_agree_is_read_from_the_frame():
    frame, figures = frame_of(scale_factors), scale_factors.figures
    assert title(figures.gap_to_scale, frame) == "The two laws agree at γ = 0 and 1 alone, T = 5"
    assert title(figures.gap_to_scale, frame.assign(value=1.0)) == "The two laws differ at every γ, T = 5"
    assert title(figures.zeros, frame) == "3 of 4 laws have no gap at any γ"
    assert title(figures.zeros, frame.assign(value=0.0)) == "4 of 4 laws have no gap at any γ"
    equal = frame.assign(value=frame["value"].where(~frame["quantity"].isin(["log_s", "log_s_prime"]), 1.0))
    assert title(figures.scatter(3.0), equal) == "γ = 3: factors are equal"


def test_the_law_that_keeps_entropy_is_read_from_the_frame():
    frame, figures = frame_of(fidelity), fidelity.figures
    other = swapped(frame, "joint", "sequential")
    for panel, end in ((figures.entropy, "law keeps more entropy"), (figures.trade_off, "law keeps more entropy")):
        assert title(panel, frame).endswith(f"the joint {end}")
        assert title(panel, other).endswith(f"the sequential {end}")
    assert title(figures.class_probability, frame) == "Both laws follow the label more as γ grows"
    assert title(figures.class_probability, frame.assign(scale=-frame["scale"])) == "Fidelity"


def test_one_data_set_against_the_other_gives_a_neutral_title():
    frame = frame_of(fidelity)
    half = frame["law"] == fidelity.DIGITS
    mixed = frame.where(~half, swapped(frame, "joint", "sequential"))
    assert title(fidelity.figures.entropy, mixed) == "Diversity"
    assert title(fidelity.figures.trade_off, mixed) == "The trade-off differs between data sets"


@pytest.mark.slow
def test_the_clean_classifier_is_compared_with_the_others():
    frame, figures = frame_of(classifier), classifier.figures
    assert title(figures.mean, frame) == "A noise-aware classifier gives classifier-free guidance"
    other = swapped(frame, figures.AWARE, figures.BLIND)
    assert title(figures.mean, other) == "Mean of the samples"
    ratio = float(title(figures.variance, frame).split("leaves ")[1].split()[0])
    back = swapped(frame, figures.FREE, figures.BLIND)
    assert float(title(figures.variance, back).split("leaves ")[1].split()[0]) == pytest.approx(1 / ratio, rel=0.05)


@pytest.mark.slow
def test_smoothing_shrinks_or_grows_the_gap():
    frame, figures = frame_of(real_data), real_data.figures
    assert title(figures.smoothing, frame) == "The gap shrinks as cells are raised"
    other = swapped(frame, *(law for law in real_data.SMOOTHING.values() if "," in law), column="law")
    assert title(figures.smoothing, other) == "The gap grows as cells are raised"


def drawn(values, quantity="tv", half=0.001, law=families.TABLE):
    """Return distances of families at γ = 3 and T = 2, 4, with small errors."""
    case = {"law": law, "quantity": quantity, "scale": 3.0, "std_error": half}
    rows = [case | {"family": name, "value": value, "length": length} for name, value in values.items() for length in (2, 4)]
    return tidy(rows)


MISSED = dict.fromkeys(families.DRAWN, 0.2) | {"exact draws": 0.05}


@pytest.mark.parametrize(
    ("changed", "half", "says"),
    [
        ({}, 0.001, "Uncorrected draws miss the joint law at T = 2, 4"),
        ({"diffusion SDE": 0.051}, 0.001, "Draws by length, γ = 3"),
        ({}, 0.2, "Draws by length, γ = 3"),
    ],
)
def test_draws_miss_the_joint_law_only_where_all_do_clearly(changed, half, says):
    assert title(families.against_length(families.TABLE), drawn(MISSED | changed, half=half)) == says


def test_acceptance_is_near_exact_draws_or_not():
    near = dict.fromkeys(families.BESIDE, 0.05)
    assert title(families.accepted_against_length, drawn(near)) == "Accepted tokens are within 0.02 of exact draws, γ = 3"
    assert title(families.accepted_against_length, drawn(near | {families.ACCEPTED[0]: 0.2})) == "Draws by acceptance, γ = 3"
    assert title(families.accepted_against_length, drawn(near, half=0.1)) == "Draws by acceptance, γ = 3"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((0.1, 0.2, 0.3), "Nearest to the joint law: sequential"),
        ((0.3, 0.2, 0.1), "Nearest to the joint law: SDE"),
    ],
)
def test_the_nearest_law_is_named(values, says):
    frame = drawn(dict(zip(families.UNCORRECTED, values, strict=True)), quantity="w2", law=families.SEQUENCE)
    assert title(families.against_length(families.SEQUENCE), frame) == says


def test_the_nearest_law_may_change_with_length():
    frame = drawn(dict(zip(families.UNCORRECTED, (0.1, 0.2, 0.3), strict=True)), quantity="w2", law=families.SEQUENCE)
    late = frame.assign(value=frame["value"].where(frame["length"] == 2, 0.4 - frame["value"]))
    assert title(families.against_length(families.SEQUENCE), late) == "Nearest: sequential up to T = 2, then SDE"


def tree(quantity, first, second):
    """Return five seeds of every family, with the two values of the families that a title compares."""
    _, one, other = causes.NAMES[quantity]
    values = dict.fromkeys(causes.ORDER, 0.4) | {one: first, other: second}
    return tidy(
        {"family": name, "quantity": quantity, "scale": scale, "seed": seed, "value": value + 0.01 * (seed * i % 3)}
        for i, (name, value) in enumerate(values.items())
        for seed in range(5)
        for scale in (2.0, 4.0)
    )


@pytest.mark.parametrize("quantity", causes.NAMES)
def test_a_cause_is_stated_where_the_seeds_decide(quantity):
    less, more, neither = causes.TITLES[quantity]
    for pair, says in (((0.1, 0.6), less), ((0.6, 0.1), more), ((0.4, 0.4), neither)):
        assert title(causes.number(quantity), tree(quantity, *pair)) == says


def test_an_incoherent_pair_is_compared_in_numbers():
    rows = {"law": "words", "quantity": "at_cap", "family": "joint", "scale": coherent.AT}
    frame = tidy(rows | {"pair": pair, "value": value} for pair, value in (("coherent", 0.25), ("incoherent", 0.75)))
    assert title(coherent.at_cap, frame) == "Words cut at the cap: 0.75 incoherent, 0.25 coherent at γ = 5"
    assert title(coherent.at_cap, frame.assign(value=0.5)) == "Words cut at the cap: alike for both pairs at γ = 5"


def test_the_figure_that_tests_score_times_beta_shows_its_density():
    values = {name: [0.0, 0.5, 0.5, 0.0] for name in ("p", "p²", *cooled.RULES)} | {cooled.NAIVE[0]: [0.0, 0.0, 1.0, 0.0]}
    case = {"law": "two modes", "quantity": "density"}
    frame = tidy(case | {"family": n, "x": x, "value": v} for n, each in values.items() for x, v in enumerate(each))
    figure = style.draw(Plot("", (cooled.naive_density,), ""), frame)
    (ax,) = figure.axes
    assert wrong_colours(ax) == {}
    assert {line.get_label() for line in ax.get_lines()} >= set(cooled.NAIVE)
    assert ax.get_ylim()[1] >= 1.0
    assert ax.get_label() == "Score × 2 by the ODE has a peak 2.0 times that of p², total variation 0.50"
    plt.close(figure)


def test_a_guided_law_is_narrower_or_wider():
    def frame(peak):
        case = {"law": "l", "quantity": "density"}
        peaks = {"joint": 1.0, "conditional": 0.5, "diffusion ODE": peak, "diffusion SDE": 1.0}
        return tidy(case | {"family": name, "x": x, "value": x * most} for name, most in peaks.items() for x in (0.0, 1.0))

    panel = correction.densities("l", "Toy")
    assert title(panel, frame(1.5)) == "Toy: the ODE draws a narrower law than the joint tilt"
    assert title(panel, frame(0.5)) == "Toy: the ODE draws a wider law than the joint tilt"
    assert title(panel, frame(1.0)) == "Toy: the ODE beside the joint tilt"


def test_a_small_text_and_a_wrong_colour_are_found():
    """The negative control of the checks that every figure passes."""
    frame = pick(frame_of(scale_factors), quantity="tv").assign(family="joint")
    figure, ax = plt.subplots()
    ax.plot([0, 1], [0, 1], color="red", label="joint")
    ax.set_title("tiny", fontsize=6)
    assert small_texts(figure) == {"tiny": 6.0}
    assert set(wrong_colours(ax)) == {"joint"}
    style.lines(frame, plt.figure().subplots(), x="scale")
    assert wrong_colours(plt.gca()) == {}
    plt.close("all")
