"""Mailboxes: nothing is lost, doubled or reordered, whoever is cancelled or crashes."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing
from hypothesis import strategies as st

from actors import Mailbox, MailboxStatistics, SpecError
from actors.testing import given_schedules


async def crash_with_a_lease(box: Mailbox[str]) -> None:
    async with box.lease() as leased:
        raise ValueError(f"crash at attempt {leased.attempt}")


async def crash_with_two_leases(box: Mailbox[str]) -> None:
    async with box.lease(), box.lease():
        raise ValueError("both")


@pytest.mark.parametrize("capacity", [-1, 1.5, math.nan])
def test_a_capacity_is_a_whole_number_or_infinite(capacity: float) -> None:
    """Guards against a buffer nobody can reason about."""
    with pytest.raises(SpecError if capacity == capacity else (SpecError, ValueError)):
        Mailbox(capacity)


async def test_items_come_out_in_the_order_they_went_in() -> None:
    """Guards against a sender that overtakes what is buffered."""
    box: Mailbox[int] = Mailbox(2)
    async with trio.open_nursery() as nursery:
        for item in range(5):
            nursery.start_soon(box.send, item)
            await trio.testing.wait_all_tasks_blocked()
        assert [await box.receive() for _ in range(5)] == [0, 1, 2, 3, 4]


async def test_capacity_zero_hands_over_directly() -> None:
    """Guards against a hidden buffer of one."""
    box: Mailbox[int] = Mailbox(0)
    with pytest.raises(trio.WouldBlock):
        box.send_nowait(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.send, 1)
        assert await box.receive() == 1


def test_the_nowait_forms_never_wait() -> None:
    """Guards against telemetry that blocks the work it watches."""
    box: Mailbox[int] = Mailbox(1)
    with pytest.raises(trio.WouldBlock):
        box.receive_nowait()
    box.send_nowait(1)
    with pytest.raises(trio.WouldBlock):
        box.send_nowait(2)
    assert box.receive_nowait() == 1


async def test_a_crash_of_either_side_leaves_the_mailbox_and_its_items() -> None:
    """Guards against the memory channel that breaks, and drops its buffer, with its last receiver."""
    box: Mailbox[int] = Mailbox(4)

    async def crash_after(count: int) -> None:
        for _ in range(count):
            await box.receive()
        raise ValueError("crash")

    for item in range(3):
        await box.send(item)
    with pytest.raises(ValueError, match="crash"):
        await crash_after(1)
    await box.send(3)
    assert [box.receive_nowait() for _ in range(3)] == [1, 2, 3]


async def test_after_close_receivers_drain_the_buffer_and_then_see_the_end() -> None:
    """Guards against a drain that loses what was accepted, and one that never ends."""
    box: Mailbox[int] = Mailbox(2)
    await box.send(1)
    await box.send(2)
    box.close()
    box.close()
    assert box.closed
    with pytest.raises(trio.ClosedResourceError):
        await box.send(3)
    assert [item async for item in box] == [1, 2]
    with pytest.raises(trio.EndOfChannel):
        box.receive_nowait()


async def test_close_wakes_all_who_wait() -> None:
    """Guards against a stage that waits for ever in a pipeline that has ended."""
    full: Mailbox[int] = Mailbox(0)
    empty: Mailbox[int] = Mailbox(0)
    ends: list[str] = []

    async def send() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await full.send(1)
        ends.append("send")

    async def receive() -> None:
        with pytest.raises(trio.EndOfChannel):
            await empty.receive()
        ends.append("receive")

    async with trio.open_nursery() as nursery:
        for task in (send, send, receive, receive):
            nursery.start_soon(task)
        await trio.testing.wait_all_tasks_blocked()
        full.close()
        empty.close()
    assert sorted(ends) == ["receive", "receive", "send", "send"]


async def test_a_failed_lease_gives_its_item_back_first_with_one_attempt_more() -> None:
    """Guards against an item lost in the hand of a crashed worker."""
    box: Mailbox[str] = Mailbox(4)
    await box.send("a")
    await box.send("b")
    with pytest.raises(ValueError, match="crash at attempt 0"):
        await crash_with_a_lease(box)
    assert box.statistics().buffered == 2
    async with box.lease() as again:
        assert (again.item, again.attempt) == ("a", 1)
    assert await box.receive() == "b"


async def test_a_cancelled_lease_gives_its_item_to_a_waiting_receiver() -> None:
    """Guards against a returned item that nobody is woken for."""
    box: Mailbox[str] = Mailbox(1)
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            await box.send("a")
            async with box.lease():
                nursery.start_soon(box.receive)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel(reason="test")
                await trio.lowlevel.checkpoint()
    assert box.statistics().buffered == 0


@pytest.mark.parametrize("crash", [False, True])
async def test_a_closed_mailbox_does_not_end_while_a_lease_is_out(crash: bool) -> None:
    """Guards against workers that go home just before the last item comes back."""
    box: Mailbox[str] = Mailbox(1)
    seen: list[str] = []

    async def worker() -> None:
        async for item in box:
            seen.append(item)

    async def leaser() -> None:
        async with box.lease() as leased:
            box.close()
            await trio.testing.wait_all_tasks_blocked(0.01)
            seen.append(f"leased {leased.item}")
            if crash:
                raise ValueError

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await box.send("a")
            with pytest.RaisesGroup(ValueError) if crash else trio.CancelScope():
                async with trio.open_nursery() as inner:
                    inner.start_soon(leaser)
                    await trio.lowlevel.checkpoint()
                    nursery.start_soon(worker)
                    nursery.start_soon(worker)
    assert seen == (["leased a", "a"] if crash else ["leased a"])


async def test_a_closed_mailbox_with_a_lease_out_is_empty_but_not_at_its_end() -> None:
    """Guards against a late worker that sees the end while an item may still come back."""
    box: Mailbox[str] = Mailbox(1)
    await box.send("a")
    async with box.lease():
        box.close()
        with pytest.raises(trio.WouldBlock):
            box.receive_nowait()
    with pytest.raises(trio.EndOfChannel):
        box.receive_nowait()


async def test_what_comes_back_last_goes_out_first() -> None:
    """Guards against an order of returned items that depends on how many there are."""
    box: Mailbox[str] = Mailbox(3)
    for item in "abc":
        await box.send(item)
    with pytest.raises(ValueError, match="both"):
        await crash_with_two_leases(box)
    assert [box.receive_nowait() for _ in range(3)] == ["a", "b", "c"]


async def test_a_waiting_lease_counts_from_the_moment_it_gets_its_item() -> None:
    """Guards against an end between the handing over of an item and its first step."""
    box: Mailbox[str] = Mailbox(0)
    seen: list[str] = []

    async def leaser() -> None:
        with pytest.raises(ValueError, match="crash"):
            await crash_with_a_lease(box)
        seen.append("gave back")

    async def worker() -> None:
        seen.extend([item async for item in box])

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leaser)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(worker)
            await trio.testing.wait_all_tasks_blocked()
            box.send_nowait("a")
            box.close()
    assert seen == ["gave back", "a"]


async def test_statistics_show_fill_peak_and_who_waits() -> None:
    """Guards against a full channel that looks idle."""
    box: Mailbox[int] = Mailbox(1, name="events")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.send, 1)
        nursery.start_soon(box.send, 2)
        await trio.testing.wait_all_tasks_blocked()
        assert box.statistics() == MailboxStatistics("events", 1, 1, 1, 1, 0)
        await box.receive()
        await box.receive()
        nursery.start_soon(box.receive)
        await trio.testing.wait_all_tasks_blocked()
        assert box.statistics() == MailboxStatistics("events", 1, 0, 1, 0, 1)
        await box.send(3)


async def test_every_wait_is_a_checkpoint() -> None:
    """Guards against a loop over a full mailbox that never lets anybody else run."""
    box: Mailbox[int] = Mailbox(3)
    with trio.testing.assert_checkpoints():
        await box.send(1)
    with trio.testing.assert_checkpoints():
        await box.receive()
    with trio.CancelScope() as scope:
        scope.cancel(reason="test")
        with pytest.raises(trio.Cancelled):
            await box.send(1)
    assert box.statistics().buffered == 0


@given_schedules(
    capacity=st.integers(0, 3),
    send_cuts=st.lists(st.integers(0, 3), max_size=12),
    take_cuts=st.lists(st.integers(0, 3), max_size=12),
    leases=st.booleans(),
)
async def test_nothing_is_lost_or_reordered_under_cancelled_sends_and_receives(
    capacity: int, send_cuts: list[int], take_cuts: list[int], leases: bool
) -> None:
    """Guards against the item that vanishes in a cancelled wait, or arrives twice after a retry."""
    box: Mailbox[int] = Mailbox(capacity)
    got: list[int] = []

    async def produce() -> None:
        cuts = iter(send_cuts)
        for item in range(20):
            while True:
                with trio.move_on_after(next(cuts, math.inf)) as scope:
                    await box.send(item)
                    break
                assert scope.cancelled_caught
            await trio.sleep(item % 3)
        box.close()

    async def take() -> None:
        if not leases:
            got.append(await box.receive())
            return
        async with box.lease() as leased:
            await trio.sleep(0.5)
            got.append(leased.item)

    async def consume() -> None:
        cuts = iter(take_cuts)
        while True:
            await trio.lowlevel.checkpoint()
            with trio.move_on_after(next(cuts, math.inf)):
                await trio.lowlevel.checkpoint()
                try:
                    await take()
                except trio.EndOfChannel:
                    return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        nursery.start_soon(consume)
    assert got == list(range(20))
