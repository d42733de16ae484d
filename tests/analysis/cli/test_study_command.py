"""The command `arguide study`: how its parts follow each other, and the options that it refuses."""

from pathlib import Path

import pytest

from analysis.study import run as study_run
from analysis.study.findings import conclusion
from analysis.text import loading

COMMAND = ("study",)
DIGITS = ("--data", "digits")


@pytest.fixture
def done(monkeypatch):
    """Return the parts of a study in the order in which the command asks for them; none is run."""
    order = []
    monkeypatch.setattr(loading, "silence", lambda: order.append("silence"))
    monkeypatch.setattr(study_run, "prepare", lambda *_, **__: order.append("prepare"))
    monkeypatch.setattr(study_run, "run", lambda *_: order.append("run") or "2 of 4 trainings")
    monkeypatch.setattr(study_run, "publish", lambda *_, **__: order.append("publish") or (Path("page.html"), []))
    monkeypatch.setattr(conclusion, "conclude", lambda chapters: ["Both laws are alike."])
    return order


def test_a_study_ends_with_its_conclusion_and_its_page(run, done):
    code, out, err = run(*DIGITS)
    assert (code, err) == (0, "")
    assert out.startswith("Both laws are alike.\n")
    assert "A study of digits" in out
    assert out.splitlines()[-1] == "The report is page.html"
    assert done == ["silence", "publish"]


def test_a_shard_says_what_is_left_and_publishes_nothing(run, done):
    code, out, err = run(*DIGITS, "--shard", "1/2")
    assert (code, err) == (0, "")
    assert out.startswith("Shard 1/2 is finished; 2 of 4 trainings are left to other shards.")
    assert done == ["silence", "prepare", "run"]


def test_data_are_texts_or_images(fails, done):
    says = "give either --text-column or --image-column"
    assert says in fails(*DIGITS, "--text-column", "text", "--image-column", "image")
    assert not done
