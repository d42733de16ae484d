"""Sample texts side by side: one row per scale and label, one column per sampler, as they were drawn."""

import pandas as pd

from analysis.study.texts import LETTERS, texts

FAMILIES = ("one", "two")


def frame(text="a_b", scales=(1.0, 2.0, 3.0), labels=("x", "y")):
    """Return texts of two samplers, of which the second has none at γ = 3, and one at a temperature."""
    rows = [
        {"quantity": "text", "family": family, "scale": scale, "label": label, "text": f"{text}{i}"}
        for scale in scales
        for label in labels
        for family in FAMILIES
        for i in range(5)
        if (family, scale) != ("two", 3.0)
    ]
    return pd.DataFrame([*rows, {"quantity": "text", "family": "one", "beta": 2.0, "label": "x", "text": "cold"}])


def test_samplers_lie_side_by_side_where_both_have_texts():
    columns, rows = texts(frame(), FAMILIES)
    assert columns == ("γ", "label", *FAMILIES)
    four = "a_b0 · a_b1 · a_b2 · a_b3"
    assert rows == [[scale, label, four, four] for scale in "12" for label in "xy"]


def test_long_texts_have_lines_and_end_with_an_ellipsis():
    cell = texts(frame(text=200 * "w"), FAMILIES)[1][0][2]
    assert cell.splitlines() == [f"{LETTERS * 'w'} …"] * 4
    assert texts(frame(text=(LETTERS - 1) * "w"), FAMILIES)[1][0][2].splitlines()[3] == (LETTERS - 1) * "w" + "3"


def test_an_empty_text_is_said_so():
    assert texts(frame(text="").assign(text=""), FAMILIES)[1][0][2] == " · ".join(["(empty)"] * 4)


def test_few_scales_are_shown_of_many_with_both_ends():
    many = tuple(float(each) for each in range(4, 16))
    _, rows = texts(frame(scales=many, labels=("x",)), FAMILIES)
    assert [row[0] for row in rows] == ["4", "7", "10", "12", "15"]
