"""The glossary of a report: the words of the documentation, and only those that the report uses."""

from pathlib import Path

from analysis import glossary

DOCS = Path(__file__).parents[2] / "docs" / "glossary.md"


def test_the_documentation_has_the_same_rows():
    rows = {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in DOCS.read_text("utf-8").splitlines()}
    assert [term.word for term in glossary.TERMS if (term.word, term.symbol, term.meaning) not in rows] == []


def test_only_used_words_are_explained():
    assert [term.word for term in glossary.used("by the ODE, 0.2 nats at the scale γ")] == [
        "scale",
        "KL divergence",
        "ODE, SDE",
    ]
    assert glossary.used("nothing of this kind: NODES") == []
