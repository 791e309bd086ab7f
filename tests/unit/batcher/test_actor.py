"""The batcher between its inbox and the sinks' inboxes."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from actors import ActorContext, Cell, Mailbox
from deltaforge.attachment import Attachment
from deltaforge.batcher.actor import BatcherActor
from deltaforge.config.schema import Batching
from deltaforge.model import Batch, Lease, Lsn, Segment, Watermark
from deltaforge.transactions.assembler import split
from tests.support.sink_rig import lease

SPARED_CAPACITY = 3


class Flow:
    """A batcher with two sinks: one is needed and takes everything, one is spared and takes nothing."""

    def __init__(self, *, spared: bool) -> None:
        self.inbox: Mailbox[Lease | Segment] = Mailbox(4)
        self.said: list[tuple[str, str]] = []
        self.needed, self.other = self._place(4, spared=False), self._place(SPARED_CAPACITY, spared=spared)
        self.actor = BatcherActor(
            inbox=self.inbox,
            outboxes=[self.other, self.needed],
            settings=Batching(max_ms=10),
            split=split,
            epoch=Cell(0),
            rewind=Cell(0),
        )

    def _place(self, capacity: int, *, spared: bool) -> Attachment:
        inbox: Mailbox[Lease | Batch] = Mailbox(capacity)
        return Attachment(inbox, lambda: spared, lambda *words: self.said.append(words))

    async def feed(self, items: int) -> None:
        """A Lease and so many segments, with a watermark each."""
        await self.inbox.send(lease(1))
        for number in range(items):
            await self.inbox.send(Segment(1, number, number + 1, [Watermark(Lsn(number))], 18))

    async def taken(self, wanted: int) -> int:
        """Take so many watermarks as the needed sink; returns how many came before nothing moved any more."""
        count = 0
        with trio.move_on_after(60):
            while count < wanted:
                item = await self.needed.inbox.receive()
                count += len(item.items) if isinstance(item, Batch) else 0
        return count


@pytest.mark.parametrize("spared", [True, False])
async def test_a_sink_that_can_be_spared_never_holds_up_the_others(
    spared: bool, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Guards against many small batches that fill an optional sink's inbox long before its byte budget."""
    flow = Flow(spared=spared)
    nursery.start_soon(flow.actor.run, ActorContext("batcher"))
    nursery.start_soon(flow.feed, 20)
    # Without the right to leave it behind, everybody waits for it.
    assert (await flow.taken(20) == 20) is spared
    assert flow.other.attached is not spared
    assert bool(flow.said) is spared
