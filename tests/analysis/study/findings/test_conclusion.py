"""The conclusion of a study: data that say the opposite change its sentences."""

import pandas as pd
import pytest
from coherent_study import ACCURACY, study

from analysis.frames import Chapter, pick
from analysis.study.chapters import stories
from analysis.study.coherent import ACCEPTED, COHERENT, DDPM, PATHS, SCORES
from analysis.study.findings import conclusion
from analysis.study.samplers import JOINT, SEQUENTIAL


def test_the_two_laws_differ_or_cannot_be_distinguished():
    text = conclusion.gap(study())
    assert "differ at every γ above 1: by 6.000 ± 0.025 nats per sample at γ = 3 (autoregressive)" in text
    assert "cannot be distinguished" in conclusion.gap(study(gap=0.0, jitter=1.0))
    assert conclusion.gap(study()[lambda rows: ~(rows["scale"] > 1)]) == ""


@pytest.mark.parametrize(
    ("spread", "says"),
    [
        ({ACCEPTED: 1.3}, "better in spread"),
        ({COHERENT: 1.3}, "worse in spread"),
    ],
)
def test_the_worth_of_the_joint_law_has_every_answer(spread, says):
    assert says in conclusion.worth(study(spread=spread))


def test_a_joint_law_that_is_not_shown_to_gain_is_said_so(monkeypatch):
    monkeypatch.setattr(conclusion.coherent, "by_decision", lambda *pair: {"not decided": ["spread"]})
    assert "is neither better nor worse in any measure (not decided: spread)" in conclusion.worth(study())


def test_a_gap_that_is_clear_at_some_scales_names_them():
    frame = study(jitter=0.0)
    wide = (frame["family"] == COHERENT) & (frame["quantity"] == "log_path") & (frame["scale"] == 2)
    noisy = frame.assign(value=frame["value"] + wide * 9.0 * (frame["seed"] - 1))
    assert "differ clearly at γ = 3: by 6.000" in conclusion.gap(noisy)


def test_each_wing_has_its_own_outcome():
    both = study(wings=((ACCEPTED, COHERENT, SEQUENTIAL), (PATHS, SCORES, DDPM)), jitter=0.0)
    assert "nats per sample at γ = 3 (autoregressive) and 6.000" in conclusion.gap(both)
    wide = (both["family"] == SCORES) & (both["quantity"] == "log_path")
    noisy = both.assign(value=both["value"] + wide * 99.0 * (both["seed"] - 1))
    assert "differ at every γ above 1: by 6.000 ± 0.000 nats per sample at γ = 3 (autoregressive); cannot be" in conclusion.gap(
        noisy
    )


def test_without_shared_accuracy_neither_is_better(monkeypatch):
    monkeypatch.setitem(ACCURACY, ACCEPTED, (0.1, 0.2, 0.3, 0.4))
    assert "share no accuracy" in conclusion.worth(study())


def test_guidance_loses_gains_or_keeps_diversity():
    assert "gains accuracy, from 0.10 to 0.90, and loses diversity" in conclusion.trade(study())
    frame = study()
    back = frame.assign(value=frame["value"].where(frame["quantity"] != "spread", 2 - frame["value"]))
    assert "gains diversity" in conclusion.trade(back)
    falling = frame.assign(value=frame["value"].where(frame["quantity"] != "accuracy", 1 - frame["value"]))
    assert "gains no accuracy above γ = 0, where it is 0.90" in conclusion.trade(falling)
    level = frame.assign(value=frame["value"].where(frame["quantity"] != "spread", 1.0))
    assert "keeps its diversity" in conclusion.trade(level)


def test_the_plain_pair_is_concluded_where_it_converged():
    assert "converged at no scale" in conclusion.plain(study())
    case = {"family": JOINT, "scale": 1.5, "std_error": 0.0}
    values = {"accuracy": 0.5, "coverage": 0.5, "spread": 0.5, "log_z_apart": 0.1, "left": 0.1}
    rows = [case | {"seed": s, "quantity": name, "value": v} for s in range(3) for name, v in values.items()]
    rows += [
        each | {"family": SEQUENTIAL, "value": 0.9} for each in rows if each["quantity"] in ("accuracy", "coverage", "spread")
    ]
    text = conclusion.plain(pd.DataFrame(rows))
    assert "compared up to γ = 1.5" in text
    assert "less accurate and less covering and less spread out" in text


def test_a_quick_study_concludes_nothing_and_a_full_one_from_its_frame():
    story = stories(images=False, about="names")[0]
    assert conclusion.conclude([Chapter(story, study(), False, True)]) == []
    found = conclusion.conclude([Chapter(story, study(), False)])
    assert found[0] == conclusion.gap(study())
    assert 3 <= len(found) <= 4
    assert pick(study(), quantity="accuracy").size
