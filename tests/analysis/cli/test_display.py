"""What a terminal shows of numbers."""

import pandas as pd
import pytest

from analysis.cli import display, temperature_tables
from analysis.metrics.confidence import Difference


def test_the_largest_differences_come_first_with_half_their_interval():
    texts = pd.DataFrame(
        {
            "log_s": [2.0, -3.0, 0.5],
            "log_s_low": [1.0, -3.25, 0.5],
            "log_s_high": [3.0, -2.75, 0.5],
            "log_s_prime": [1.5, 4.0, 1.5],
            "text": ["one\n two", "three", "four"],
        }
    )
    assert display.extremes(texts, 2) == [("-3.00 ± 0.25", "4.00", "-7.00", "three"), ("0.50 ± 0.00", "1.50", "-1.00", "four")]
    assert display.extremes(texts)[2] == ("2.00 ± 1.00", "1.50", "+0.50", "one two")


@pytest.mark.parametrize(
    ("gap", "mark"), [(Difference(0.0, 0.01, 0.05), "="), (Difference(-1.0, 0.1, 0.05), "*"), (Difference(0.1, 1.0, 0.05), "?")]
)
def test_a_difference_is_marked_by_what_its_interval_decides(gap, mark):
    assert temperature_tables._mark(gap) == mark
