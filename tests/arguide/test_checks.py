"""An error shows the value that it refuses in one short line."""

import pytest
import torch

from arguide import Ending, checks


class TwoLines:
    def __repr__(self):
        return "one\ntwo"


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (2.5, "2.5"),
        ("heun", "'heun'"),
        (torch.tensor(3), "3"),
        (torch.zeros(2, 3), "shape (2, 3)"),
        (object(), "an object of type object"),
        (TwoLines(), "an object of type TwoLines"),
        ("a" * 58, "'" + "a" * 58 + "'"),
        ("a" * 59, "'" + "a" * 56 + "..."),
    ],
)
def test_a_refused_value_is_shown_in_one_short_line(value, line):
    with pytest.raises(ValueError, match="tokens must be") as caught:
        raise checks.refusal("tokens", "legal", value)
    assert str(caught.value) == f"tokens must be legal, got {line}"


def test_a_hint_follows_the_value():
    assert str(checks.refusal("n", "positive", 0, "try 1")) == "n must be positive, got 0; try 1"
    with pytest.raises(ValueError, match=r"^length must be an integer of at least 1, got 2.5$"):
        Ending(None, (0,), 2.5)
