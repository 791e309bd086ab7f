"""Cells: the latest value, and nobody who waits for it is forgotten."""

from __future__ import annotations

import trio
import trio.testing
from hypothesis import strategies as st

from actors import Cell
from actors.testing import given_schedules


def test_a_write_is_seen_and_counted() -> None:
    """Guards against a version that stands still, so that waiters sleep through a write."""
    cell = Cell("a")
    assert (cell.value, cell.version) == ("a", 0)
    cell.set("b")
    cell.set("b")
    assert (cell.value, cell.version) == ("b", 2)


def test_raising_never_lowers() -> None:
    """Guards against a confirmed position that moves backwards."""
    cell = Cell(5)
    assert not cell.raise_to(5)
    assert not cell.raise_to(4)
    assert cell.version == 0
    assert cell.raise_to(6)
    assert cell.value == 6


async def test_waiting_for_what_is_already_true_returns_but_lets_others_run() -> None:
    """Guards against a loop over a satisfied cell that starves the event loop."""
    cell = Cell(5)
    with trio.testing.assert_checkpoints():
        assert await cell.wait(lambda value: value == 5) == 5
    with trio.testing.assert_checkpoints():
        assert await cell.changed(-1) == 0


async def test_waiters_wake_only_for_what_they_wait_for() -> None:
    """Guards against waiters that return a value they did not ask for."""
    cell = Cell(0)
    got: list[int] = []

    async def wait() -> None:
        got.append(await cell.wait(lambda value: value > 2))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            for value in (1, 2, 3):
                await trio.testing.wait_all_tasks_blocked()
                assert got == []
                cell.set(value)
    assert got == [3]


async def test_a_version_is_waited_for() -> None:
    """Guards against a reader of changes that spins instead of sleeping."""
    cell = Cell("a", name="the cell")
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cell.changed, 0)
            await trio.testing.wait_all_tasks_blocked()
            cell.set("b")


@given_schedules(writes=st.lists(st.integers(0, 5), max_size=10))
async def test_a_reader_of_changes_always_ends_with_the_last_value(writes: list[int]) -> None:
    """Guards against a lost wake-up between reading a value and waiting for the next."""
    cell = Cell(-1)
    seen: list[int] = []

    async def read() -> None:
        version = 0
        await trio.lowlevel.checkpoint()
        while version < len(writes):
            version = await cell.changed(version)
            seen.append(cell.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for number, value in enumerate(writes):
            cell.set(value)
            if number % 2:
                await trio.lowlevel.checkpoint()
    assert seen[-1:] == writes[-1:]
