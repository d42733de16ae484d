"""Verdicts of experiments: draws are compared with draws, and wide intervals decide nothing."""

import pandas as pd
import pytest
import torch

from analysis.experiments import correction, families, family_tables, real_data
from analysis.experiments.base import Settings
from analysis.experiments.coherence import acceptance
from analysis.experiments.family_tables import EXACT, MALA, ODE, SDE, WEIGHTED
from analysis.frames import tidy


def found(**changed):
    """Return a frame as of the chapter on families, with total variations ± standard errors of four batches."""
    drawn = dict.fromkeys(families.DRAWN.values(), 0.2) | {ODE: 0.19, SDE: 0.16}
    drawn |= dict.fromkeys((*family_tables.REACHING, EXACT), 0.075)
    drawn |= {family_tables.RATES_WEIGHTED: 0.114, family_tables.MASKED_WEIGHTED: 0.09, family_tables.UNIFORM_WEIGHTED: 0.11}
    errors = dict.fromkeys(drawn, 0.001)
    for name, (value, error) in changed.items():
        drawn[name], errors[name] = value, error
    case = {"law": families.TABLE, "scale": 3.0, "length": 4}
    rows = [
        case | {"family": name, "quantity": "tv", "value": value, "std_error": errors[name], "freedom": 3.0}
        for name, value in drawn.items()
    ]
    shares = dict.fromkeys((*acceptance.FAMILIES, "exact"), 0.54)
    rows += [case | {"family": name, "quantity": "acceptance", "value": value} for name, value in shares.items()]
    rows += [case | {"family": "exact", "quantity": "kl_joint_conditional", "value": 0.25}]
    exact = dict.fromkeys((families.AR, acceptance.COHERENT), 0.173)
    exact |= {families.MASKED: 0.103, families.RATES: 0.100, families.UNIFORM: 0.134}
    rows += [case | {"family": name, "quantity": "tv", "value": value} for name, value in exact.items()]
    rows += [case | {"family": name, "quantity": "path_sd", "value": 0.4} for name in (families.AR, SDE)]
    w2 = {"law": families.SEQUENCE, "quantity": "w2", "scale": 3.0, "length": 2}
    rows += [w2 | {"family": name, "value": value} for name, value in ((families.AR, 0.1), (ODE, 0.2), (SDE, 0.3))]
    return tidy(rows)


def parts(verdict):
    """Return the samplers at the floor, above it, and undecided, from the text of a verdict."""
    told = verdict.split("Above the floor by less than 0.02: ")[1].split(". So diffusion")[0]
    at, rest = told.split(". Above it: ")
    return (at, *rest.split(". Not decided: "))


def test_a_clear_excess_is_not_at_the_floor():
    """MALA's total variation of 0.097 ± 0.005 beside the floor of 0.075 ± 0.005, and the same with smaller errors."""
    at, above, undecided = parts(families.EXPERIMENT.verdict(found(**{MALA: (0.097, 0.005), EXACT: (0.075, 0.005)})).verdict)
    assert MALA not in at
    assert MALA in undecided
    at, above, undecided = parts(families.EXPERIMENT.verdict(found(**{MALA: (0.097, 0.001)})).verdict)
    assert above.startswith(MALA)
    assert WEIGHTED in at.split(", ")


def test_wide_errors_put_nothing_at_the_floor():
    at, above, undecided = parts(
        families.EXPERIMENT.verdict(found(**dict.fromkeys(family_tables.REACHING, (0.076, 0.02)))).verdict
    )
    assert (at, above) == ("none", "none")
    assert all(name in undecided for name in family_tables.REACHING)


def test_the_nearest_sampler_is_clearly_nearer():
    assert "Uncorrected, the nearest is diffusion SDE;" in families.EXPERIMENT.verdict(found()).verdict
    assert "the nearest is not decided" in families.EXPERIMENT.verdict(found(**{SDE: (0.185, 0.02)})).verdict


def test_exact_laws_are_compared_with_exact_laws_and_draws_with_draws():
    """Weighted draws of masked rates measure 0.114, their exact law 0.100; draws of that law measure 0.14."""
    columns, rows = family_tables.tokens(found(**{families.DRAWN[families.RATES]: (0.14, 0.001)}))
    row = dict(zip(columns, next(row for row in rows if row[0] == families.RATES), strict=True))
    assert row["exact law"] == "0.100"
    assert row["draws"].startswith("0.140 ± ")
    assert row["with weights"].startswith("0.114 ± ")
    assert row["change by weights"].startswith("-0.026 ± ")
    assert row["decision"] == "a difference"


def test_every_sampler_of_the_joint_law_is_in_the_table():
    columns, rows = family_tables.drawn(found(**{MALA: (0.12, 0.001)}))
    assert all(len(row) == len(columns) for row in rows)
    decisions = {row[0]: row[-1] for row in rows}
    assert set(decisions) == {*family_tables.REACHING, families.DRAWN[families.AR], ODE, SDE, EXACT}
    assert decisions[MALA] == "above"
    assert decisions[WEIGHTED] == "by less than 0.02"


@pytest.mark.parametrize(
    ("nearest", "says"),
    [
        ({2: families.AR, 3: families.AR, 5: families.AR}, "the autoregressive law is nearest up to T = 5, against the hunch."),
        (
            {2: families.AR, 3: ODE, 5: ODE},
            "nearest up to T = 2, against the hunch, and the diffusion ODE is nearest at T = 3, 5",
        ),
        ({2: SDE, 3: SDE, 5: SDE}, "the diffusion SDE is nearest at T = 2, 3, 5, as the hunch has it."),
    ],
)
def test_the_hunch_names_the_nearest_law_at_every_length(nearest, says):
    case = {"law": families.SEQUENCE, "quantity": "w2", "scale": 3.0}
    rows = [
        case | {"length": length, "family": family, "value": 0.1 if family == first else 0.2}
        for length, first in nearest.items()
        for family in (families.AR, ODE, SDE)
    ]
    told = family_tables.hunch(tidy(rows))
    assert says in told
    assert told.startswith(says[:5]) or families.AR in nearest.values()


@pytest.mark.parametrize(("scale", "shown"), [(1.0, False), (1.5, True)])
def test_pictures_of_the_plane_are_drawn_at_the_scales_that_are_shown(scale, shown):
    effort = correction.QUICK._replace(steps=4, plane=240)
    rows = list(
        correction._plane({"law": correction.PLANE, "scale": scale, "noise": 0.0}, effort, torch.Generator().manual_seed(0))
    )
    assert {row["family"] for row in rows if row["quantity"] == "tv"} == {correction.ODE, correction.EXACT}
    assert ("draw" in {row["quantity"] for row in rows}) == shown


@pytest.mark.parametrize(("law", "watched"), [(correction.MIXTURE, True), (correction.PAIR, False)])
def test_the_mixture_alone_is_compared_with_the_candidates_on_the_way(law, watched, monkeypatch):
    monkeypatch.setattr(correction, "_on_the_way", lambda case, toy, x, sigma: [{"sigma": float(sigma)}])
    effort, case = correction.QUICK._replace(steps=30, samples=20), {"law": law, "scale": correction.SCALE, "noise": 0.0}
    rows = list(correction._line(case, effort, torch.Generator().manual_seed(0)))
    assert any("sigma" in row for row in rows) == watched


@pytest.fixture(scope="module")
def small_families():
    effort = families.Effort(200, 2, 12, 2, (3.0,), (2,), (2,), (2,))
    rows = families._table(2, 3.0, effort, torch.Generator().manual_seed(0))
    return pd.DataFrame(list(rows)).set_index("family")


def test_every_exact_law_has_draws_of_the_same_number(small_families):
    """A finite sample of a law has a larger distance than the law."""
    for name, drawn in families.DRAWN.items():
        assert small_families.loc[drawn, "value"] > small_families.loc[name, "value"]
        assert small_families.loc[drawn, "freedom"] == small_families.loc[EXACT, "freedom"] == 2 * families.CHEAP - 1
    assert pd.isna(small_families.loc[families.AR, "std_error"])


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
    told = correction.EXPERIMENT.verdict(moments(value, error)).verdict
    assert told.startswith(f"The correction is {right}")
    assert agrees in told


@pytest.fixture(scope="module")
def real_frame():
    return real_data.EXPERIMENT.run(Settings(quick=True), lambda items: items)


@pytest.mark.slow
def test_the_verdict_on_digits_names_what_the_gap_depends_on(real_frame):
    gaps = real_frame[(real_frame["quantity"] == "kl_sequential_joint") & (real_frame["scale"] == 3.0)]
    medians = gaps.groupby("law")["value"].median()
    told = real_data.EXPERIMENT.verdict(real_frame).verdict
    for law in ("digits, +0.002 a cell", "digits, +0.2 a cell"):
        assert f"{medians[law]:.3f} with {law.split('+')[1].split()[0]}" in told
