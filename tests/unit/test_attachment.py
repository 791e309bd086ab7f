"""A sink that nobody waits for never holds up the others."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio
import trio.testing

from actors import Cell, Mailbox
from deltaforge.attachment import BUDGET_BYTES, REWIND_EVERY_S, Attachment, Budgets, Rewinds
from deltaforge.model import Batch, Lease, Lsn

BATCH = Batch(1, 0, 1, [], 0, 0)


def lease(epoch: int, confirmed: int) -> Lease:
    return Lease(epoch, 99, "sys", 1, (), "db", "slot", Lsn(confirmed))


@dataclass
class Place:
    """One sink's place, and what it said."""

    spared: bool
    said: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inbox: Mailbox[Lease | Batch] = Mailbox(4)
        self.attachment = Attachment(self.inbox, lambda: self.spared, lambda *words: self.said.append(words))


async def test_a_spared_sink_that_is_behind_by_its_budget_is_detached_and_the_reader_goes_on() -> None:
    """Guards against one dead optional sink that stops the pipeline."""
    needed, spared = Place(spared=False), Place(spared=True)
    budgets = Budgets([needed.attachment, spared.attachment])
    budgets.reset(1)
    with trio.fail_after(5):
        await budgets.acquire(BUDGET_BYTES, 1)
        needed.attachment.budget.release(BUDGET_BYTES, 1)
        await spared.inbox.send(BATCH)
        await budgets.acquire(100, 1)
    assert not spared.attachment.attached
    assert spared.said == [("detached", "it is behind by its whole byte budget")]
    assert spared.inbox.statistics().buffered == 0
    assert needed.attachment.attached


async def test_the_reader_waits_for_a_sink_that_is_needed(autojump_clock: trio.testing.MockClock) -> None:
    """Guards against detaching the sink whose rows are promised."""
    needed = Place(spared=False)
    budgets = Budgets([needed.attachment])
    budgets.reset(1)
    await budgets.acquire(BUDGET_BYTES, 1)
    with trio.move_on_after(60) as waited:
        await budgets.acquire(1, 1)
    assert waited.cancelled_caught
    assert needed.attachment.attached


async def test_the_reader_goes_on_once_the_sink_it_waits_for_can_be_spared(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Guards against waiting for ever for a dead sink when the ones that make it dispensable open late."""
    place = Place(spared=False)
    budgets = Budgets([place.attachment])
    budgets.reset(1)
    await budgets.acquire(BUDGET_BYTES, 1)
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(budgets.acquire, 1, 1)
            await trio.sleep(60)
            assert place.attachment.attached
            place.spared = True
    assert not place.attachment.attached
    assert budgets.used == BUDGET_BYTES


async def test_a_new_epoch_attaches_it_again_and_forgets_what_it_held() -> None:
    """Guards against a sink that stays detached although it has caught up."""
    spared = Place(spared=True)
    budgets = Budgets([spared.attachment])
    budgets.reset(1)
    await budgets.acquire(BUDGET_BYTES, 1)
    await budgets.acquire(1, 1)
    assert not spared.attachment.attached
    budgets.reset(2)
    assert spared.attachment.attached
    assert spared.said[-1] == ("starting", "")
    assert budgets.used == 0
    assert budgets.limit == BUDGET_BYTES


async def test_where_the_stream_began_is_kept_of_what_a_detached_sink_never_took() -> None:
    """Guards a sink that was detached before its first turn: it would take its next stream for its first one."""
    spared = Place(spared=True)
    assert spared.attachment.passed_over == 0
    await spared.inbox.send(lease(1, 5))
    await spared.inbox.send(BATCH)
    await spared.inbox.send(lease(2, 12))
    assert spared.attachment.detach_if_dispensable("in this test")
    assert spared.inbox.statistics().buffered == 0
    assert spared.attachment.passed_over == 5
    spared.attachment.attach()
    await spared.inbox.send(lease(3, 30))
    assert spared.attachment.detach_if_dispensable("in this test")
    assert spared.attachment.passed_over == 5


async def test_a_spared_sink_may_ask_for_one_rewind_a_minute(autojump_clock: trio.testing.MockClock) -> None:
    """Guards against a flapping optional sink that makes everybody start over."""
    spared = Place(spared=True)
    shared: Cell[int] = Cell(0)
    rewinds = Rewinds(shared, spared.attachment)
    assert rewinds.raise_to(1)
    assert shared.value == 1
    await trio.sleep(1)
    assert rewinds.raise_to(2)
    assert shared.value == 1
    assert rewinds.value == 2
    assert not spared.attachment.attached
    spared.attachment.attach()
    await trio.sleep(REWIND_EVERY_S)
    assert rewinds.raise_to(3)
    assert shared.value == 3


async def test_a_needed_sink_may_ask_as_often_as_it_has_to() -> None:
    """Guards against a needed sink that is denied its next epoch."""
    needed = Place(spared=False)
    shared: Cell[int] = Cell(0)
    rewinds = Rewinds(shared, needed.attachment)
    await trio.lowlevel.checkpoint()
    assert [rewinds.raise_to(epoch) for epoch in (1, 2, 2, 3)] == [True, True, False, True]
    assert shared.value == 3
