"""The pace of the admin HTTP, on a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaforge.admin.pace import Pace

RATE, BURST = 30.0, 60


@given(st.lists(st.floats(0, 10), min_size=1, max_size=300))
def test_no_stretch_of_time_has_more_turns_than_the_rate_and_one_burst(pauses: list[float]) -> None:
    """Guards against a crowd that takes the processor from the pipelines."""
    pace, now, turns = Pace(RATE, BURST), 1000.0, []
    for pause in pauses:
        now += pause / 100
        turns.append(now + pace.reserve(now))

    assert turns == sorted(turns)
    for first, begin in enumerate(turns):
        for last, end in enumerate(turns[first:], first):
            assert last - first + 1 <= BURST + RATE * (end - begin) + 1e-6


@given(st.lists(st.floats(1 / RATE, 100), min_size=1, max_size=50))
def test_who_comes_no_faster_than_the_rate_never_waits(pauses: list[float]) -> None:
    """Guards against a probe that is slowed down for nothing."""
    pace, now = Pace(RATE, BURST), 0.0
    for pause in pauses:
        now += pause
        assert pace.reserve(now) == pytest.approx(0, abs=1e-6)


def test_a_burst_goes_through_at_once_and_is_paid_back() -> None:
    """Guards against a first page that comes slowly, and against a burst after every burst."""
    pace = Pace(RATE, BURST)

    assert [pace.reserve(0.0) for _ in range(BURST)] == pytest.approx([0.0] * BURST, abs=1e-9)
    assert pace.reserve(0.0) == pytest.approx(1 / RATE)
    assert pace.reserve(0.5) == pytest.approx(0.0, abs=1e-9)
