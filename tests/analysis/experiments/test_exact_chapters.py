"""The chapters on exact tables, each number against loops: scale factors, fidelity against diversity, and digits."""

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import Table
from analysis.experiments import fidelity, real_data, scale_factors
from analysis.experiments.base import Settings
from analysis.frames import pick
from analysis.toys.example_tables import coupled_table, special_tables


@pytest.fixture(scope="module")
def factors():
    return scale_factors.run(Settings(quick=True), lambda items: items)


def log_tilt(table, scale):
    """Return log p(x)^{1−γ} p(x|y)^γ of label 1."""
    return (1 - scale) * table.log_probs() + scale * table.log_probs(1)


def test_one_table_has_every_scale_every_length_and_every_coupling(factors):
    found = pick(factors, law=scale_factors.COUPLED, quantity="tv")
    assert sorted(pick(found, length=5, coupling=1.0)["scale"]) == list(scale_factors.SCALES)
    assert sorted(pick(found, length=5, scale=3.0)["coupling"]) == [0.0, 0.25, 0.5, 1.0, 1.5, 2.0]
    assert sorted(pick(found, scale=1.5)["length"]) == [1, 2, 3, 4, 5, 6]


def test_numbers_are_those_of_the_tables_that_are_named(factors):
    tables = special_tables(5) | {scale_factors.COUPLED: coupled_table(5)}
    rows = pick(factors, length=5, scale=3.0)
    for law, table in tables.items():
        at = rows[(rows["law"] == law) & (rows["coupling"].isna() | (rows["coupling"] == 1.0))]
        found, log_cond = at.drop_duplicates("quantity").set_index("quantity")["value"], table.log_probs(1)
        assert found["log_z"] == pytest.approx(float(log_tilt(table, 3.0).flatten().logsumexp(0)))
        assert found["entropy_conditional"] == pytest.approx(-float((log_cond.exp() * log_cond).nansum()))


def test_the_factors_of_every_sequence_are_those_of_label_1(factors):
    table = coupled_table(5)
    tilt = log_tilt(table, 3.0)
    expected = (tilt - tilt.flatten().logsumexp(0) - table.log_probs()).flatten()
    found = pick(factors, quantity="log_s", scale=3.0).sort_values("cell")["value"]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_class_probability_and_entropy_are_means_over_the_labels(make_joint, brute):
    joint = make_joint(4, (2, 3, 2))
    rows = pd.DataFrame(fidelity._measure("loops", Table(joint), 2.5)).set_index(["family", "quantity"])["value"]
    laws = [brute(joint, {label: 2.5, None: -1.5}) for label in (0, 1)]
    for family in ("joint", "sequential"):
        each = [getattr(law, family) for law in laws]
        right = [(law * joint[label] / joint.sum(0)).sum() for label, law in enumerate(each)]
        assert rows[family, "class_probability"] == pytest.approx(sum(right) / 2, abs=1e-10)
        assert rows[family, "entropy"] == pytest.approx(-sum((law * np.log(law)).sum() for law in each) / 2, abs=1e-10)


def test_curves_of_fidelity_have_no_wide_gap_between_scales(monkeypatch):
    monkeypatch.setattr(fidelity, "_measure", lambda law, table, scale: [{"law": law, "scale": scale, "value": 0.0}])
    monkeypatch.setattr(fidelity, "coupled_table", lambda length: None)
    monkeypatch.setattr(fidelity, "digits_table", lambda pixels: (None, None))
    for _, scales in fidelity.run(Settings(), lambda items: items).groupby("law")["scale"]:
        assert (scales.iloc[0], scales.iloc[-1]) == (0.0, 10.0)
        assert scales.diff().dropna().between(0.1, 2.5).all()


@pytest.fixture(scope="module")
def rows(make_joint):
    return pd.DataFrame(real_data._table_rows("loops", Table(make_joint(4, (2, 3, 2)))))


def test_the_gap_of_digits_is_that_of_loops(rows, make_joint, brute):
    joint = make_joint(4, (2, 3, 2))
    for label, name in enumerate(Table(joint).labels):
        found = pick(rows, label=name, scale=3.0).set_index("quantity")["value"]
        law, cond = brute(joint, {label: 3.0, None: -2.0}), joint[label] / joint[label].sum()
        gap = (law.sequential * np.log(law.sequential / law.joint)).sum()
        assert found["kl_sequential_joint"] == pytest.approx(gap, abs=1e-10)
        assert found["kl_joint_conditional"] == pytest.approx((law.joint * np.log(law.joint / cond)).sum(), abs=1e-10)
        assert found["tv"] == pytest.approx(abs(law.joint - law.sequential).sum() / 2, abs=1e-10)


def test_the_best_scale_has_the_smallest_gap(rows, make_joint, brute):
    joint = make_joint(4, (2, 3, 2))
    wide = rows.pivot(index=["label", "scale"], columns="quantity", values="value")
    assert (wide["kl_best_scale"] <= wide["kl_sequential_joint"]).all()
    name = Table(joint).labels[0]
    sequential = brute(joint, {0: 3.0, None: -2.0}).sequential
    best = wide.loc[(name, 3.0), "best_scale"]
    laws = [brute(joint, {0: best + step, None: 1 - best - step}).joint for step in (-0.5, 0.0, 0.5)]
    gaps = [(sequential * np.log(sequential / law)).sum() for law in laws]
    assert min(gaps) == gaps[1] == pytest.approx(wide.loc[(name, 3.0), "kl_best_scale"], abs=1e-10)


def test_the_joint_law_may_choose_a_scale_below_and_far_above_those_of_the_sequential_law():
    assert min(real_data.TUNED) < min(real_data.SCALES)
    assert max(real_data.TUNED) > 2 * max(real_data.SCALES)


def test_a_full_run_has_the_tables_that_the_results_name(monkeypatch):
    def digits(pixels, added=0.02):
        return coupled_table(2), torch.arange(pixels)

    monkeypatch.setattr(real_data, "digits_table", digits)
    monkeypatch.setattr(real_data, "_table_rows", lambda law, table: [{"law": law, "length": table.length, "value": 0.0}])
    frame = real_data.run(Settings(), lambda items: items)
    assert pick(frame, law=real_data.TOY)["length"].tolist() == [9]
    assert pick(frame, quantity="pixel")["length"].unique().tolist() == [10]
