import math

import pytest

from arguide import schedules


def test_an_interval_holds_its_start_and_not_its_stop():
    assert [schedules.interval(3.0, 2, 4)(t) for t in range(6)] == [1, 1, 3, 3, 1, 1]
    assert [schedules.interval(3.0, outside=0.0)(t) for t in range(3)] == [3, 3, 3]
    assert [schedules.interval(3.0, 0, 1, outside=-1.0)(t) for t in range(2)] == [3, -1]


def test_a_ramp_is_linear_and_then_constant():
    assert [schedules.ramp(1.0, 3.0, 4)(t) for t in range(7)] == [1, 1.5, 2, 2.5, 3, 3, 3]
    assert [schedules.ramp(3.0, 0.0, 2)(t) for t in range(4)] == [3, 1.5, 0, 0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedules.interval(math.inf),
        lambda: schedules.interval(2.0, 3, 3),
        lambda: schedules.ramp(0.0, math.nan, 4),
        lambda: schedules.ramp(0.0, 1.0, 0),
    ],
)
def test_what_is_no_schedule_is_refused(make):
    with pytest.raises(ValueError, match=r"finite|above the start|integer of at least 1"):
        make()
