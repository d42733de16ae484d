"""The chapter on text: the table of texts that a reader compares."""

from analysis.experiments import text
from analysis.frames import tidy


def texts(*cases):
    """Return a frame of texts, one per prompt, law, scale and number."""
    names = ("law", "family", "scale", "number", "text")
    return tidy({"quantity": "text", "value": float("nan")} | dict(zip(names, case, strict=True)) for case in cases)


def test_texts_of_both_laws_stand_side_by_side_at_three_scales_that_both_have():
    both = [
        ("a", family, scale, number, f"{family} {scale:g} {number}")
        for family in ("joint", "sequential")
        for scale in (1.0, 1.5, 2.0, 2.5, 3.0)
        for number in range(2)
    ]
    columns, rows = text.samples(texts(*both, ("a", "sequential", 4.0, 0, "alone")))
    assert [dict(zip(columns, row, strict=True)) for row in rows] == [
        {
            "prompt": "a",
            "γ": scale,
            "sequential": f"sequential {scale} 0\nsequential {scale} 1",
            "joint": f"joint {scale} 0\njoint {scale} 1",
        }
        for scale in ("1", "2", "3")
    ]
