"""The chapter on temperature: the β that samplers reach against closed forms, and verdicts that follow the numbers."""

import itertools
import math

import pytest
import torch

from analysis import limits
from analysis.experiments.base import Settings
from analysis.experiments.temperature import EXPERIMENT, claims, exact, scores, tokens
from analysis.experiments.temperature.scores import CORRECTION, EXACT, GAUSSIAN, IDLE, MIXTURE, NOISE, ODE, SDE, WEIGHTS
from analysis.frames import pick, tidy
from analysis.metrics.confidence import Estimate, of_row
from analysis.metrics.temperature.laws import ENTROPY, SEQUENTIAL, OfTable
from analysis.toys.example_tables import coupled_table

BATCHES_OFF = 6.9  # standard errors of six batches: a false failure in a thousand estimates
STEP = 0.03  # relative error of 110 steps


@pytest.fixture(scope="module")
def frame():
    return EXPERIMENT.run(Settings(quick=True, seed=3), lambda items: items)


REACHED = {
    ODE: lambda beta: 1 / (scores.SIGMA_MAX**2 * (1 / (1 + scores.SIGMA_MAX**2)) ** beta),
    SDE: lambda beta: 2 * beta - 1,
    NOISE: lambda beta: beta,
    CORRECTION: lambda beta: beta,
    WEIGHTS: lambda beta: beta,
    EXACT: lambda beta: beta,
    IDLE: lambda beta: 1.0,
}


@pytest.mark.parametrize("beta", [2.0, 3.0])
@pytest.mark.parametrize("family", REACHED)
@pytest.mark.slow
def test_the_beta_that_is_reached_on_a_gaussian_has_a_closed_form(frame, family, beta):
    """N(0, a) with a = 1: β* = a/variance, with theory B3's variances."""
    found, right = claims.value(frame, GAUSSIAN, family, "effective_beta", beta), REACHED[family](beta)
    assert abs(found.value - right) < BATCHES_OFF * found.std_error + STEP * right
    assert abs(found.value - 1.7 * right) > BATCHES_OFF * found.std_error + STEP * right  # the negative control


@pytest.mark.slow
def test_closed_forms_are_finite_and_errors_are_of_all_batches_and_groups(frame):
    assert frame.loc[frame["quantity"] == "closed_form", "value"].max() < 1e30
    assert set(pick(frame, quantity="variance")["freedom"]) == {6 - 1.0}
    assert set(pick(frame, law=tokens.STORY, quantity="distinct texts")["freedom"]) == {32 - 1.0}


@pytest.mark.slow
def test_a_mixture_is_reached_by_weights_and_exact_draws_alone(frame):
    for family, right in ((WEIGHTS, True), (EXACT, True), (NOISE, False), (SDE, False), (ODE, False)):
        found = claims.value(frame, MIXTURE, family, "effective_beta")
        assert (abs(found.value - 2) < BATCHES_OFF * found.std_error + STEP * 2) == right, family


@pytest.mark.slow
def test_the_power_that_the_ode_reaches_on_a_mixture_is_not_what_it_draws(frame):
    far = claims.value(frame, MIXTURE, ODE, "w1_nearest")
    near = claims.value(frame, MIXTURE, WEIGHTS, "w1_nearest")
    assert far.value - far.half > near.value + near.half


@pytest.mark.slow
def test_exact_rows_agree_with_the_tables(frame):
    rows = pick(frame, law=tokens.COUPLED, family=SEQUENTIAL, setting=2.0).set_index("quantity")["value"]
    gap = pick(frame, law=tokens.COUPLED, temperature=0.5, length=tokens.LONG, quantity="kl_sequential_joint")["value"].iloc[0]
    assert 0 < rows["lost"] <= gap  # the nearest power is at least as near as p²
    assert rows["equal entropy"] - rows[ENTROPY] == pytest.approx(rows["lost"])
    for law in (tokens.INDEPENDENT, tokens.SEQUENCE):
        exact = pick(frame, law=law, temperature=0.5, length=tokens.LONG, quantity="effective_beta")
        assert exact["value"].iloc[0] == pytest.approx(2.0)


@pytest.mark.slow
def test_statistics_of_stories_are_those_of_their_draws(frame):
    laws = tokens.stories()
    rows = pick(frame, law=tokens.STORY, family=SEQUENTIAL, setting=2.0).set_index("quantity")
    drawn = laws.transformed(lambda law: (2 * law).log_softmax(-1)).sample(4000, torch.Generator().manual_seed(5))
    sizes = (drawn != laws.models.size - 1).sum(1).double() + 1
    assert abs(float(sizes.mean()) - rows.loc["length", "value"]) < 5 * float(sizes.std()) / 4000**0.5
    assert 0.9 < rows.loc["distinct texts", "value"] <= 1


def changed(frame, quantity, values, law=MIXTURE):
    """Return the frame with other estimates of samplers at β = 2, {family: (value, standard error)}."""
    frame = frame.copy()
    for family, (value, error) in values.items():
        here = (frame["law"] == law) & (frame["family"] == family) & (frame["quantity"] == quantity) & (frame["beta"] == 2.0)
        frame.loc[here, ["value", "std_error"]] = value, error
    return frame


OTHERS = dict.fromkeys((ODE, SDE, NOISE, CORRECTION), (0.3, 0.001))


@pytest.mark.parametrize(
    ("near", "says"),
    [((0.05, 0.001), "the nearest is weights"), ((0.3, 0.01), "the nearest is not decided")],
)
@pytest.mark.slow
def test_the_nearest_sampler_is_clearly_nearest(frame, near, says):
    told = EXPERIMENT.verdict(changed(frame, "w1", OTHERS | {WEIGHTS: near})).verdict
    assert says in told
    assert f"the distance is: {ODE} {claims.value(frame, MIXTURE, ODE, 'w1_nearest')}, " in told


@pytest.mark.parametrize(("distance", "answer"), [((0.9, 0.001), "true"), ((0.1, 0.001), "false"), ((0.5, 0.2), "not decided")])
@pytest.mark.slow
def test_score_times_beta_is_terrible_or_not(frame, distance, answer):
    found = changed(frame, "w1", {ODE: distance, IDLE: (0.5, 0.001)})
    (claim,) = [each.claim for each in claims.reached(found) if (each.law, each.way) == (MIXTURE, ODE)]
    assert claim.answer == answer
    assert f"{MIXTURE}, {ODE}: {answer}" in EXPERIMENT.verdict(found).verdict
    assert [answer] == [row[-1] for row in claims.reached_cells(found)[1] if row[:2] == [MIXTURE, ODE]]


@pytest.mark.slow
def test_the_joint_temperature_is_useless_only_where_it_loses(frame):
    assert {law: claim.answer for law, claim in claims.useless(frame).items()} == {
        tokens.COUPLED: "false",
        tokens.INDEPENDENT: "no difference that would matter",
        tokens.STORY: "not decided",
        tokens.SAME_LENGTH: "no difference that would matter",
    }
    swapped = frame.assign(
        quantity=frame["quantity"].map(
            lambda name: (
                name.removeprefix("equal ") if name.startswith("equal ") else f"equal {name}" if name in SWAPPED else name
            )
        )
    )
    assert claims.useless(swapped)[tokens.COUPLED].answer == "true"


@pytest.mark.slow
def test_at_equal_length_cold_factors_of_stories_are_a_lower_temperature(frame):
    of_text, of_length = (
        pick(frame, law=law, family=SEQUENTIAL, setting=2.0).set_index("quantity")["value"]
        for law in (tokens.STORY, tokens.SAME_LENGTH)
    )
    assert of_text["effective_beta"] < 1 < of_length["effective_beta"]
    assert of_length["equal length"] == pytest.approx(of_length["length"])
    assert of_length["equal log_likelihood"] == pytest.approx(of_length["log_likelihood"])
    assert 0 < of_length["lost"] < of_text["lost"]


SWAPPED = (ENTROPY, "distinct texts", "distinct bigrams", "repeated bigrams")


@pytest.mark.slow
def test_cold_factors_write_longer_stories_and_powers_shorter_ones(frame):
    told = EXPERIMENT.verdict(frame).verdict
    assert "stories have 22.6 tokens on average, those of p² 10.5, and those of factors at τ = ½ 27.0" in told
    assert "no lower temperature of the whole text" in told


def test_every_sampler_of_both_laws_has_an_answer():
    near = {family: 0.0 if family == WEIGHTS else 5.0 for family in (*scores.SAMPLERS, IDLE)}
    values = {"w1": near, "effective_beta": dict.fromkeys(near, 1.5)}
    case = {"beta": 2.0, "temperature": float("nan"), "length": float("nan")}
    frame = tidy(
        case | {"law": law, "family": family, "quantity": quantity, "value": value}
        for law, quantity in itertools.product(scores.LAWS, values)
        for family, value in values[quantity].items()
    )
    found = {(each.law, each.way): each for each in claims.reached(frame)}
    assert set(found) == set(itertools.product(scores.LAWS, scores.SAMPLERS))
    assert {way for (_, way), each in found.items() if each.claim.answer == "false"} == {WEIGHTS}
    assert {each.beta.value for each in found.values()} == {1.5}


def test_a_gaussian_sequence_reaches_the_beta_of_its_factors_and_not_its_joint_law():
    case, beta = {"law": tokens.SEQUENCE, "temperature": 0.5, "length": 4}, 2.0
    found = {row["quantity"]: row for row in tokens._gaussian(4, 1 / beta)}
    assert all(case.items() <= row.items() for row in found.values())
    assert found["effective_beta"]["value"] == pytest.approx(beta)
    idle = 4 / 2 * (beta - 1 - math.log(beta))  # KL(N(m, C) ‖ N(m, C/β)) in four dimensions
    assert found["kl_untempered_joint"]["value"] == pytest.approx(idle)


def test_a_table_whose_texts_exceed_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(limits, "_memory", lambda: 500)
    with pytest.raises(ValueError, match="mine: 3 × 3 × 3 × 3 texts with their bigrams must fit"):
        exact.own("mine", OfTable(coupled_table(4)), [2.0], [1], [0.5])


def test_a_large_number_has_no_decimals():
    assert claims.number(Estimate(2.0, 0.0, math.inf)) == "2.000"
    assert claims.number(Estimate(-100.0, 0.0, math.inf)) == "-100"
    assert claims.number(Estimate(2484.2, 30.0, 1e9)) == "2484 ± 59"


def test_the_seed_of_a_run_of_ones_own_is_that_of_its_samplers(monkeypatch):
    def rows(settings, betas, track):
        return [{"law": "l", "value": settings.seed}]

    monkeypatch.setattr(exact.scores, "rows", rows)
    monkeypatch.setattr(exact.tokens, "rows", lambda *_: [])
    found = exact.run([2.0], [1], [0.5], seed=7, track=lambda items: items)
    assert found["value"].tolist() == [7]


def test_a_run_of_ones_own_answers_for_every_law_at_every_beta_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(scores, "LAWS", {})
    monkeypatch.setattr(scores, "CLOSED_FORMS", {})
    monkeypatch.setattr(tokens, "stories", lambda *_: None)
    monkeypatch.setattr(tokens, "of_texts", lambda *_: [])
    frame = exact.run([2.0, 3.0], [1], [0.5], seed=0, track=lambda items: items)
    found = exact.record(frame, [2.0, 3.0], 0)["reached"]
    laws = (tokens.SEQUENCE, tokens.COUPLED, tokens.INDEPENDENT)
    assert [(each["law"], each["asked"]) for each in found] == [(law, beta) for beta in (2.0, 3.0) for law in laws]
    by = {(each["law"], each["asked"]): each["beta"]["value"] for each in found}
    assert by[tokens.INDEPENDENT, 3.0] == pytest.approx(3.0)


def test_a_table_is_refused_where_a_byte_per_text_and_pair_of_tokens_exceeds_the_memory(monkeypatch):
    laws = OfTable(coupled_table(2))
    monkeypatch.setattr(limits, "_memory", lambda: 9 * 9)
    assert set(exact.own("mine", laws, [2.0], [1], [0.5])["law"]) == {"mine"}
    monkeypatch.setattr(limits, "_memory", lambda: 9 * 9 - 1)
    with pytest.raises(ValueError, match="mine: 3 × 3 texts with their bigrams must fit into the memory"):
        exact.own("mine", laws, [2.0], [1], [0.5])


@pytest.mark.parametrize("law", [GAUSSIAN, MIXTURE])
@pytest.mark.parametrize(("family", "reached"), [(EXACT, 2.0), (IDLE, 1.0)])
def test_exact_draws_reach_the_beta_that_is_asked_for_and_draws_of_p_one(law, family, reached):
    rows = scores._case(law, family, 2.0, Settings(quick=True), torch.Generator().manual_seed(0))
    (found,) = [of_row(row) for row in rows if row["quantity"] == "effective_beta"]
    assert abs(found.value - reached) < BATCHES_OFF * found.std_error < 0.5
    assert found.freedom == 6 - 1.0


def test_a_record_keeps_the_order_of_the_settings_and_has_no_number_that_is_not_finite():
    case = {"law": "z", "family": "way", "quantity": "lost", "value": 0.5}
    frame = tidy([case | {"setting": setting} for setting in (2.0, 1.5)] + [case | {"law": "a", "setting": 1.0}])
    found = exact.record(frame, [], 0)["equal_likelihood"]
    assert [(each["law"], each["setting"], each["lost"]) for each in found] == [
        ("z", 2.0, 0.5),
        ("z", 1.5, 0.5),
        ("a", 1.0, 0.5),
    ]
    assert (exact._finite(float("inf")), exact._finite(2.0)) == (None, 2.0)


def test_the_table_at_equal_likelihood_has_the_settings_that_are_asked_for():
    merits = dict.fromkeys((ENTROPY, "length", "distinct texts", "repeated bigrams"), 1.0)
    values = merits | {f"equal {name}": 2.0 for name in merits} | {"effective_beta": 1.5, "lost": 0.25, "log_likelihood": -3.0}
    case = {"law": "l", "family": SEQUENTIAL}
    frame = tidy(
        case | {"setting": at, "quantity": name, "value": value} for at in (1.5, 3.0) for name, value in values.items()
    )
    columns, rows = claims.at_equal_likelihood(frame, {SEQUENTIAL: (3.0,)})
    assert [row[columns.index("lost")] for row in rows] == ["0.250"]
    assert rows[0][columns.index("way")] == "τ = 1/3"
    assert len(claims.at_equal_likelihood(frame)[1]) == 2


def test_the_table_of_what_is_useless_has_a_row_per_figure_of_merit():
    merits = {ENTROPY: 1.0, "distinct texts": 0.5}
    values = merits | {"equal entropy": 1.75, "equal distinct texts": 0.25, "effective_beta": 1.5, "length": 5.0}
    case = {"law": "l", "family": SEQUENTIAL, "setting": 2.0, "std_error": 0.0}
    frame = tidy(case | {"quantity": name, "value": value} for name, value in (values | {"log_likelihood": -3.0}).items())
    columns, rows = claims.useless_cells(frame)
    assert [dict(zip(columns, row, strict=True)) for row in rows] == [
        {
            "law": "l",
            "useless": "true and false",
            "figure of merit": name,
            "joint − sequential": f"{gap} ({least} would matter)",
        }
        for name, gap, least in ((ENTROPY, "better: +0.750", "0.25"), ("distinct texts", "worse: -0.250", "0.05"))
    ]
