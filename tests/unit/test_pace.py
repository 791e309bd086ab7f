"""The pace of the admin HTTP, on a clock of the test's own."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from deltaforge.admin.pace import Pace

RATE, BURST = 30.0, 60


def reserve(pace: Pace, now: float) -> float:
    """Wait for a turn and take it, on paper: the seconds that it takes."""
    seconds = pace.wait_s(now)
    pace.take(now + seconds)
    return seconds


@given(st.lists(st.floats(0, 10), min_size=1, max_size=300))
def test_no_stretch_of_time_has_more_turns_than_the_rate_and_one_burst(pauses: list[float]) -> None:
    """Guards against a crowd that takes the processor from the pipelines."""
    pace, now, turns = Pace(RATE, BURST), 1000.0, []
    for pause in pauses:
        now += pause / 100
        turns.append(now + reserve(pace, now))

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
        assert reserve(pace, now) == pytest.approx(0, abs=1e-6)


def test_a_burst_goes_through_at_once_and_is_paid_back() -> None:
    """Guards against a first page that comes slowly, and against a burst after every burst."""
    pace = Pace(RATE, BURST)

    assert [reserve(pace, 0.0) for _ in range(BURST)] == pytest.approx([0.0] * BURST, abs=1e-9)
    assert reserve(pace, 0.0) == pytest.approx(1 / RATE)
    assert reserve(pace, 0.5) == pytest.approx(0.0, abs=1e-9)


async def test_turns_are_given_in_the_order_in_which_they_are_asked_for(autojump_clock: trio.testing.MockClock) -> None:
    """Guards against somebody who waits while others who came later do not."""
    pace, given = Pace(RATE, 1), list[int]()

    async def ask(number: int) -> None:
        await pace.turn()
        given.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, number)
            await trio.testing.wait_all_tasks_blocked()

    assert given == list(range(20))
    assert trio.current_time() == pytest.approx(19 / RATE)


async def test_who_goes_away_while_waiting_takes_no_turn(autojump_clock: trio.testing.MockClock) -> None:
    """Guards against clients who ask and leave, a hundred a second, and make everybody else wait for ever."""
    pace = Pace(RATE, 1)
    await pace.turn()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(pace.turn)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    await pace.turn()

    assert trio.current_time() - began == pytest.approx(1 / RATE)
