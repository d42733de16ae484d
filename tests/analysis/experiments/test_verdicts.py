"""What verdicts may say: like is compared with like, wide intervals decide nothing, and numbers stand on what they claim to."""

from collections import Counter

import pandas as pd
import pytest
import torch

from analysis.cli import display
from analysis.experiments import CORRECTION, FAMILIES, REAL_DATA, TEMPERATURE, correction, families, real_data
from analysis.experiments.base import Settings
from analysis.experiments.families import CORRECTED, EXACT, MALA, ODE, SDE, WEIGHTED
from analysis.frames import tidy
from analysis.learning import datasets, learners
from analysis.study import guidance_findings, tasks
from analysis.study import plan as plans
from analysis.study.samplers import JOINT, SEQUENTIAL
from analysis.toys import digits_table


def found(**changed):
    """Return a frame as of the chapter on families, with total variations ± standard errors of four batches."""
    drawn = dict.fromkeys(families.DRAWN.values(), 0.2) | {ODE: 0.19, SDE: 0.16}
    drawn |= dict.fromkeys((WEIGHTED, CORRECTED, MALA, EXACT), 0.075)
    drawn |= {families.RATES_WEIGHTED: 0.114, families.MASKED_WEIGHTED: 0.09, families.UNIFORM_WEIGHTED: 0.11}
    errors = dict.fromkeys(drawn, 0.001)
    for name, (value, error) in changed.items():
        drawn[name], errors[name] = value, error
    case = {"law": families.TABLE, "scale": 3.0, "length": 4}
    rows = [
        case | {"family": name, "quantity": "tv", "value": value, "std_error": errors[name], "freedom": 3.0}
        for name, value in drawn.items()
    ]
    exact = {families.AR: 0.173, families.MASKED: 0.103, families.RATES: 0.100, families.UNIFORM: 0.134}
    rows += [case | {"family": name, "quantity": "tv", "value": value} for name, value in exact.items()]
    rows += [case | {"family": name, "quantity": "path_sd", "value": 0.4} for name in (families.AR, SDE)]
    w2 = {"law": families.SEQUENCE, "quantity": "w2", "scale": 3.0, "length": 2}
    rows += [w2 | {"family": name, "value": value} for name, value in ((families.AR, 0.1), (ODE, 0.2), (SDE, 0.3))]
    return tidy(rows)


def parts(verdict):
    """Return what stands at the floor, above it, and undecided."""
    told = verdict.split("Above the floor by less than 0.02: ")[1].split(". So diffusion")[0]
    at, rest = told.split(". Above it: ")
    return (at, *rest.split(". Not decided: "))


def test_what_is_clearly_above_the_floor_is_not_at_it():
    """MALA's total variation of 0.097 ± 0.005 beside the floor of 0.075 ± 0.005, and the same with smaller errors."""
    at, above, undecided = parts(FAMILIES.verdict(found(**{MALA: (0.097, 0.005), EXACT: (0.075, 0.005)})).verdict)
    assert MALA not in at
    assert MALA in undecided
    at, above, undecided = parts(FAMILIES.verdict(found(**{MALA: (0.097, 0.001)})).verdict)
    assert above.startswith(MALA)
    assert Counter(at.split(" (")[0].split(", ")) == Counter([WEIGHTED])


def test_wide_errors_put_nothing_at_the_floor():
    at, above, undecided = parts(FAMILIES.verdict(found(**dict.fromkeys(families.REACHING, (0.076, 0.02)))).verdict)
    assert (at, above) == ("none", "none")
    assert all(name in undecided for name in families.REACHING)


def test_the_nearest_without_correction_is_one_that_is_clearly_nearer():
    assert "Uncorrected, the nearest is diffusion SDE;" in FAMILIES.verdict(found()).verdict
    assert "the nearest is not decided" in FAMILIES.verdict(found(**{SDE: (0.185, 0.02)})).verdict


def test_exact_laws_are_compared_with_exact_laws_and_draws_with_draws():
    """Weighted draws of masked rates measure 0.114, their exact law 0.100; draws of that law measure 0.14."""
    told = FAMILIES.verdict(found(**{families.DRAWN[families.RATES]: (0.14, 0.001)})).verdict
    exact, drawn = told.split("Exact laws: ")[1].split("Draws, ")
    assert "0.100" in exact
    assert "0.114" not in exact
    assert "masked rates 0.140, with weights 0.114 (-0.026 ± " in drawn
    assert "0.100" not in drawn


@pytest.fixture(scope="module")
def small_families():
    effort = families.Effort(200, 2, 12, 2, (3.0,), (2,), (2,), (2,))
    rows = families._table(2, 3.0, effort, torch.Generator().manual_seed(0))
    return pd.DataFrame(list(rows)).set_index("family")


def test_every_exact_law_has_draws_of_the_same_number(small_families):
    """Draws of the law itself: their distance is more than the law's own, as that of every finite sample is."""
    for name, drawn in families.DRAWN.items():
        assert small_families.loc[drawn, "value"] > small_families.loc[name, "value"]
        assert small_families.loc[drawn, "freedom"] == small_families.loc[EXACT, "freedom"] == 2 * families.CHEAP - 1
    assert pd.isna(small_families.loc[families.AR, "std_error"])


def study_frame(gaps, half_of=("accuracy", "coverage", "spread")):
    """Return a study's frame at γ = 1.5, with one difference a seed of every quantity, joint − sequential."""
    rows = []
    for seed, gap in enumerate(gaps):
        for family, sign in ((JOINT, 0.5), (SEQUENTIAL, -0.5)):
            case = {"family": family, "scale": 1.5, "seed": seed}
            rows += [case | {"quantity": name, "value": 0.8 + sign * gap} for name in half_of]
        rows += [{"family": JOINT, "scale": 1.5, "seed": seed, "quantity": q, "value": 0.1} for q in ("log_z_apart", "left")]
    return tidy(rows)


def test_a_wide_interval_is_not_decided_and_never_no_difference():
    told = guidance_findings.question(study_frame([-0.1, 0.0, 0.1])).verdict
    assert told.startswith("Not decided at equal γ: accuracy (+0.000 ± ")
    assert "No difference" not in told
    assert "0.05 that would matter" in told


def test_a_narrow_interval_around_0_excludes_a_difference_that_would_matter():
    told = guidance_findings.question(study_frame([-0.001, 0.0, 0.001])).verdict
    assert told.startswith("No difference of 0.05 or more at equal γ: accuracy, coverage, spread.")


def test_a_clear_difference_says_when_it_is_a_small_one():
    assert "more accurate (by less than 0.05)" in guidance_findings.question(study_frame([0.019, 0.02, 0.021])).verdict
    assert "more accurate and more" in guidance_findings.question(study_frame([0.19, 0.2, 0.21])).verdict


def test_equal_accuracy_is_read_from_a_curve_in_its_own_order():
    """Accuracy need not rise with γ at every step; between 0.5 and 0.7 coverage is linear in it, whatever the γ."""
    rows = []
    for seed in range(2):
        points = [(1.0, 0.7, 0.6), (1.25, 0.5, 1.0), (1.5, 0.6, 0.8), (2.0, 0.9, 0.2)]
        case = {"seed": seed}
        for family, curve in ((SEQUENTIAL, points), (JOINT, [(1.5, 0.55, 0.9)])):
            for scale, accuracy, coverage in curve:
                at = case | {"family": family, "scale": scale}
                rows += [at | {"quantity": "accuracy", "value": accuracy}, at | {"quantity": "coverage", "value": coverage}]
    mean, _, count = guidance_findings.at_accuracy(tidy(rows), "coverage", JOINT, SEQUENTIAL, [1.5])
    assert (mean, count) == (pytest.approx(0.0), 2)


def moments(value, error):
    rows = correction._exact((2.0,))
    case = {"law": correction.PAIR, "family": correction.ODE, "how": "drawn", "scale": 2.0, "noise": 0.0}
    drawn = [case | {"quantity": "variance", "value": value, "std_error": error}]
    way = {"quantity": "w1", "family": correction.ODE, "sigma": 1.0, "std_error": 0.01}
    drawn += [way | {"against": name, "value": far} for name, far in ((correction.TILT, 0.3), (correction.NOISED, 0.5))]
    plane = {"law": correction.PLANE, "quantity": "tv", "scale": 3.0, "value": 0.1, "std_error": 0.01}
    return tidy([*rows, *drawn, *(plane | {"family": name} for name in (correction.ODE, correction.SDE, correction.EXACT))])


@pytest.mark.parametrize(
    ("value", "error", "right", "agrees"),
    [
        (0.507, 0.006, "right", "agrees with its closed form"),
        (0.55, 0.006, "right", "disagrees with its closed form"),
        (0.50, 0.1, "not decided", "is too wide to compare with its closed form"),
    ],
)
def test_a_variance_agrees_only_if_its_interval_is_narrow(value, error, right, agrees):
    told = CORRECTION.verdict(moments(value, error)).verdict
    assert told.startswith(f"The correction is {right}")
    assert agrees in told


@pytest.fixture(scope="module")
def real_frame(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "words.tsv"
    words = {"vowels": ["aeo", "oea", "eaoa"], "others": ["tkt", "ktt", "tt"]}
    path.write_text("\n".join(f"{label}\t{word}" for label, several in words.items() for word in several * 20))
    return REAL_DATA.run(Settings(quick=True, text=path), lambda items: items)


def test_an_incoherent_pair_of_text_gives_no_number_to_verdict_or_figure(real_frame):
    """The rows are there, under a name that says so; their gap is in no sentence and in no picture."""
    rows = real_frame[real_frame["law"] == real_data.TEXT]
    assert set(rows["label"]) == {"vowels", "others"}
    assert "incoherent" in real_data.TEXT
    told = REAL_DATA.verdict(real_frame)
    assert told.number.endswith("nats (digits)")
    assert told.number.count("nats") == 1
    gap = rows[(rows["quantity"] == "kl_sequential_joint") & (rows["scale"] == 3.0)]["value"].median()
    assert f"{gap:.3f}" not in told.verdict
    assert "text's character chains are not shown" in told.verdict
    without = REAL_DATA.verdict(real_frame[real_frame["law"] != real_data.TEXT])
    assert (without.number, "text" in without.verdict) == (told.number, False)
    assert real_data.TEXT not in real_data.figures.PALETTE


def test_the_digits_are_a_coherent_pair():
    """p(x) = Σ_y π_y p(x|y) with weights π that are found by least squares, so p(x|y)/p(x) is at most 1/π_y everywhere."""
    table, _ = digits_table(6)
    mixture = table.log_probs().exp().flatten()
    parts_of_it = torch.stack([table.log_probs(y).exp().flatten() for y in range(10)])
    prior = torch.linalg.lstsq(parts_of_it.T, mixture[:, None]).solution[:, 0]
    torch.testing.assert_close(prior @ parts_of_it, mixture)
    assert float(prior.sum()) == pytest.approx(1.0)
    assert float(prior.min()) > 0.05
    assert bool((parts_of_it / mixture <= 1 / prior[:, None] + 1e-9).all())


def test_the_verdict_on_digits_names_what_the_gap_depends_on(real_frame):
    gaps = real_frame[(real_frame["quantity"] == "kl_sequential_joint") & (real_frame["scale"] == 3.0)]
    medians = gaps.groupby("law")["value"].median()
    told = REAL_DATA.verdict(real_frame).verdict
    for law in ("digits, +0.002 a cell", "digits, +0.2 a cell"):
        assert f"{medians[law]:.3f} with {law.split('+')[1].split()[0]}" in told


def test_a_plus_minus_is_half_the_interval():
    frame = pd.DataFrame({"log_s": [1.0], "log_s_low": [0.75], "log_s_high": [1.25], "log_s_prime": [0.5], "text": ["a  b"]})
    assert display.extremes(frame) == [("1.00 ± 0.25", "0.50", "+0.50", "a b")]


def test_the_held_out_loss_without_labels_is_without_labels(tmp_path, monkeypatch):
    """As `held_loss` measures it of the model that was saved; the two differ, for the labels have been learned."""
    plan = plans.Plan(datasets.Source("digits", "image", most=2), True, effort=0.02)
    found = tasks.train("denoiser", "", 0, plan, tmp_path).set_index("quantity")["value"]
    rows = plans.read(plan)
    learner = learners.load("denoiser", rows, tmp_path / "models" / plans.model_name("denoiser", "", 0))
    for quantity, labelled in (("held-out loss", True), ("held-out loss, no label", False)):
        assert found[quantity] == pytest.approx(learners.held_loss(learner, rows, labelled=labelled)[0], rel=1e-6)
    assert found["held-out loss, no label"] != pytest.approx(found["held-out loss"], rel=1e-3)


@pytest.mark.parametrize("kind", ["pixels", "denoiser"])
def test_a_loss_without_labels_does_not_depend_on_them(kind):
    rows = datasets.read_images(datasets.Source("digits", "image", most=2))
    learner = learners.new(kind, rows, learners.Size(16, 1), seed=0)
    others = rows._replace(held_labels=1 - rows.held_labels)
    blind = [learners.held_loss(learner, each, labelled=False) for each in (rows, others)]
    assert blind[0] == blind[1]


QUANTITIES = ("variance", "closed_form")


def test_the_winner_of_temperature_is_one_that_is_clearly_nearest():
    rows = [{"law": "coupled", "quantity": "kl_sequential_joint", "temperature": 0.5, "length": 5, "value": 0.1}]
    rows += [rows[0] | {"law": law, "value": 0.0} for law in ("independent x_t", "Gaussian sequence")]
    names = ("score × β, ODE", "score × β, SDE", "weights")
    rows += [{"law": "Gaussian", "quantity": q, "beta": 2.0, "family": n, "value": 0.5} for n in names for q in QUANTITIES]
    w1 = {"law": "two modes", "quantity": "w1", "beta": 2.0, "std_error": 0.01, "freedom": 2.0}
    for values, says in (((0.3, 0.05), "the nearest is weights"), ((0.07, 0.05), "the nearest is not decided")):
        near = [w1 | {"family": name, "value": value} for name, value in zip((names[0], names[2]), values, strict=True)]
        assert says in TEMPERATURE.verdict(tidy([*rows, *near, w1 | {"family": "exact draws", "value": 0.04}])).verdict
