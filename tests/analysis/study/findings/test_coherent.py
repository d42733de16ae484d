"""The answer at every scale, from frames whose numbers are known."""

import pytest
from coherent_study import ACCURACY, study

from analysis.study.coherent import ACCEPTED, COHERENT, DDPM, PATHS, SCORES
from analysis.study.controls import CLAMPED
from analysis.study.findings import coherent
from analysis.study.samplers import SEQUENTIAL


def test_the_divergence_is_log_z_less_the_mean_path():
    found = coherent.divergence(study(), coherent.WINGS[0])
    assert {scale: each.value for scale, each in found.items()} == pytest.approx({0.0: 0, 1.0: 0, 2.0: 2.0, 3.0: 6.0})
    assert found[3.0].half == pytest.approx(0.01 / 3**0.5 * 4.303, rel=1e-3)


def test_a_scale_that_acceptance_does_not_reach_for_a_seed_is_left_out():
    frame = study()
    lost = (frame["family"] == ACCEPTED) & (frame["scale"] == 3) & (frame["seed"] == 1) & (frame["quantity"] == "log_z")
    assert list(coherent.divergence(frame[~lost], coherent.WINGS[0])) == [0.0, 1.0, 2.0]
    answer = coherent.answer(frame[~lost])
    assert answer.number.startswith("2.000 ± ")
    assert "nan" not in answer.verdict


def test_the_table_has_one_row_per_wing_and_scale():
    columns, rows = coherent.at_scales(study(wings=((ACCEPTED, COHERENT, SEQUENTIAL), (PATHS, SCORES, DDPM))))
    assert len(columns) == 7
    assert [(row[0], row[1]) for row in rows] == [
        (name, scale) for name in ("autoregressive", "diffusion") for scale in ("0", "1", "2", "3")
    ]
    three = ["0.80 / 0.90 / 0.90", "0.020 / 0.021 / 0.022"]
    assert rows[3] == ["autoregressive", "3", "0.70", "0.60", "6.00 ± 0.02", *three]
    assert rows[0][3] == "–"  # a bound for proposals of the conditional law alone


def test_the_answer_names_the_scale_and_the_bound():
    told = coherent.answer(study())
    assert told.measure == "KL(sequential ‖ joint) of the coherent autoregressive pair at γ = 3"
    assert told.number.startswith("6.000 ± ")
    assert "differ at every γ above 1: KL" in told.verdict
    assert "6.000 ± 0.025 at γ = 3. There the joint law is within a total variation of 0.30 of p(x|y)" in told.verdict
    assert "above Bayes' bound of 2.1 nats in 70% of the conditional draws and reaches 13.0" in told.verdict


def test_laws_that_cannot_be_told_apart_are_said_so():
    assert "two laws cannot be distinguished" in coherent.answer(study(gap=0.0, jitter=1.0)).verdict


def test_without_a_scale_above_1_there_is_no_gap_to_report():
    frame = study()
    told = coherent.answer(frame[~(frame["scale"] > 1)])
    assert told.number == "no scale above 1"
    assert told.measure.endswith("pair at γ = 1")


def outcomes(**options):
    _, rows = coherent.decisions(study(**options))
    return {row[0]: dict(part.split(": ") for part in row[2].split("; ") if part != "–") for row in rows}


def test_each_sampler_is_decided_against_plain_guidance_of_equal_accuracy():
    """A spread that differs by .2 at every scale is more than the .08 by which scales of one accuracy differ."""
    found = outcomes(spread={COHERENT: 1.2, CLAMPED: 0.8})
    assert found[f"{COHERENT} − {SEQUENTIAL}"]["better"] == "spread"
    assert found[f"{CLAMPED} − {SEQUENTIAL}"]["worse"] == "spread"
    assert found[f"{ACCEPTED} − {COHERENT}"]["worse"] == "spread"
    assert "better" not in found[f"{CLAMPED} − {SEQUENTIAL}"]
    alike = outcomes()[f"{CLAMPED} − {SEQUENTIAL}"]
    assert alike["no difference"] == "spread, energy distance"


def test_differences_have_their_range_and_interval():
    columns, rows = coherent.differences(study(spread={CLAMPED: 0.8}))
    assert columns == ("at equal accuracy", "spread", "energy distance")
    assert {row[0]: row[1] for row in rows}[f"{CLAMPED} − {SEQUENTIAL}"] == "-0.20 ± 0.00"


def test_the_widest_interval_of_all_levels_is_shown():
    """Seeds differ by .1 at the largest scale alone: 9.925 · .1 / √3 with five intervals of three seeds."""
    frame = study(spread={CLAMPED: 0.8})
    last = (frame["family"] == CLAMPED) & (frame["quantity"] == "spread") & (frame["scale"] == 3)
    _, rows = coherent.differences(frame.assign(value=frame["value"] + last * 0.1 * (frame["seed"] - 1)))
    assert {row[0]: row[1] for row in rows}[f"{CLAMPED} − {SEQUENTIAL}"] == "-0.20 ± 0.57"


def test_samplers_without_shared_accuracy_are_said_so(monkeypatch):
    monkeypatch.setitem(ACCURACY, ACCEPTED, (0.1, 0.2, 0.3, 0.4))
    _, rows = coherent.decisions(study())
    assert rows[0] == [f"{ACCEPTED} − {SEQUENTIAL}", "none shared", "–"]
