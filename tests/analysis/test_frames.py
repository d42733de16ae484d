"""Tidy frames: rows per quantity and per point, and their columns."""

import pandas as pd
import pytest

from analysis.frames import per_point, per_quantity, pick, tidy

CASE = {"scale": 2.0, "law": "a"}


def test_a_row_per_quantity_keeps_the_case():
    assert list(per_quantity(CASE, {"kl": 0.5, "tv": True})) == [
        {"scale": 2.0, "law": "a", "quantity": "kl", "value": 0.5},
        {"scale": 2.0, "law": "a", "quantity": "tv", "value": 1.0},
    ]
    assert CASE == {"scale": 2.0, "law": "a"}


def test_a_row_per_point_pairs_the_columns():
    rows = list(per_point(CASE, x=range(2), value=iter([3.0, 4.0])))
    assert [(row["x"], row["value"], row["law"]) for row in rows] == [(0, 3.0, "a"), (1, 4.0, "a")]


def test_columns_of_a_curve_have_one_length():
    with pytest.raises(ValueError, match="shorter"):
        list(per_point(CASE, x=[1, 2], value=[1.0]))


def test_common_columns_come_first_and_exact_numbers_have_no_error():
    frame = tidy([CASE | {"value": 1.0, "x": 3}, CASE | {"value": 2.0, "std_error": 0.5, "quantity": "kl"}])
    assert list(frame) == ["law", "quantity", "scale", "x", "value", "std_error"]
    assert frame["std_error"].tolist() == [0.0, 0.5]


def test_pick_returns_the_rows_with_all_wanted_values():
    frame = pd.DataFrame({"law": ["a", "a", "b"], "scale": [1.0, 2.0, 2.0], "value": [1, 2, 3]})
    assert pick(frame, law="a", scale=2.0)["value"].tolist() == [2]
    assert pick(frame, law="c").empty
