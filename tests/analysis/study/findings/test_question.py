"""The answers to a study's question and claims, from frames whose differences are known."""

import pandas as pd
import pytest

from analysis.frames import tidy
from analysis.study.findings import guidance
from analysis.study.samplers import CORRECTED, JOINT, SDE, SEQUENTIAL


def samples(joint, sequential, apart=0.1, left=0.1, seeds=3):
    """Return a frame of a study with the given (accuracy, coverage) at γ = 1.5."""
    rows = []
    for seed in range(seeds):
        for family, (accuracy, coverage) in ((JOINT, joint), (SEQUENTIAL, sequential)):
            case = {"family": family, "scale": 1.5, "seed": seed}
            jitter = 0.004 * (seed - 1) * (1 if family == JOINT else -1)
            rows += [case | {"quantity": "accuracy", "value": accuracy + jitter}]
            rows += [case | {"quantity": name, "value": coverage + jitter} for name in ("coverage", "spread")]
        case = {"family": JOINT, "scale": 1.5, "seed": seed}
        rows += [case | {"quantity": "log_z_apart", "value": apart}, case | {"quantity": "left", "value": left}]
    return tidy(rows)


def test_the_question_has_either_answer():
    assert guidance.question(samples((0.9, 0.5), (0.9, 0.8))).verdict.startswith(
        "At equal γ the difference is seen in practice: the joint law is less covering and less spread out."
    )
    assert "more accurate" in guidance.question(samples((0.95, 0.8), (0.9, 0.8))).verdict
    assert guidance.question(samples((0.9, 0.8), (0.9, 0.8))).verdict.startswith("No difference of 0.05 or more at equal γ")
    assert "about 10% of the bias remains" in guidance.question(samples((0.9, 0.8), (0.9, 0.8))).verdict
    for unreached in ({"apart": 3.0}, {"left": 0.8}):
        found = guidance.question(samples((0.9, 0.5), (0.9, 0.8), **unreached))
        assert (found.measure, found.number) == ("the joint sampler", "not converged")


def test_each_joint_sampler_is_compared_at_the_largest_scale_where_it_converged():
    found = samples((0.9, 0.5), (0.9, 0.8))
    weighted = found.replace({JOINT: CORRECTED, SEQUENTIAL: SDE})
    apart = samples((0.9, 0.1), (0.9, 0.8), apart=3.0)
    at = [found, found.assign(scale=1.25), apart.assign(scale=2.0), weighted.assign(scale=1.25)]
    columns, (tokens, paths) = guidance.compared(pd.concat(at))
    shown = dict(zip(columns, tokens, strict=True))
    assert (shown["difference"], shown["γ"]) == (f"{JOINT} − {SEQUENTIAL}", "1.5")
    assert shown["coverage"].startswith("-0.300 ± ")
    assert shown["bias left"] == "10%"
    assert paths[:2] == [f"{CORRECTED} − {SDE}", "1.25"]
    assert guidance.compared(found)[1] == [tokens]
    assert guidance.compared(apart)[1] == []


def test_three_intervals_hold_simultaneously():
    """Jitter ± .004 a seed and family: ± .02 by itself, ± .035 as one of three."""
    assert "less covering" in guidance.question(samples((0.9, 0.76), (0.9, 0.8))).verdict
    assert guidance.question(samples((0.9, 0.77), (0.9, 0.8))).verdict.startswith("Not decided at equal γ: coverage (-0.030 ")


def test_the_cost_of_dropout_is_positive_for_a_loss():
    rows = [
        {"law": "pixels", "family": family, "seed": seed, "scale": None, "quantity": quantity, "value": value + seed}
        for family, held, none in (("dropout", 10.0, 12.0), ("without dropout", 9.0, 20.0), ("dropout at the end", 9.5, 14.0))
        for seed in range(2)
        for quantity, value in (("held-out loss", held), ("held-out loss, no label", none))
    ]
    told = guidance.claims(tidy(rows))
    assert told.number == "+1.000 ± 0.000 of 10.5"
    assert "costs the conditional model something" in told.verdict
    assert "conditional -0.500 ± 0.000, unconditional +2.000 ± 0.000 nats" in told.verdict


@pytest.mark.parametrize(
    ("seeds", "says"), [((9.0, 9.01), "seemingly nothing"), ((7.0, 12.0), "not decided: the interval includes 0")]
)
def test_a_wide_interval_leaves_the_cost_undecided(seeds, says):
    rows = [
        {"law": "pixels", "family": family, "seed": seed, "scale": None, "quantity": quantity, "value": value}
        for family, values in (("dropout", (9.0, 9.02)), ("without dropout", seeds), ("dropout at the end", (9.0, 9.0)))
        for seed, value in enumerate(values)
        for quantity in ("held-out loss", "held-out loss, no label")
    ]
    assert says in guidance.claims(tidy(rows)).verdict
