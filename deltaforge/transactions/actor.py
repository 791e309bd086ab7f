"""The actor around the assembler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaforge.failpoints import failpoint_async
from deltaforge.model import Lease, LogicalMessage, Segment, TransactionPart, TransactionRun, WalChunk
from deltaforge.transactions.assembler import Assembler

if TYPE_CHECKING:
    from actors import ActorContext, Cell, Mailbox


class AssemblerActor:
    """Turn the chunks of each epoch into parts of transactions.

    Owns: the open transaction of the current epoch.
    Receives: Lease, WalChunk.  Sends: Lease, Segment.
    On stop: ends when its inbox ends, then closes its outbox.
    On restart: asks for an epoch newer than the current one and drops everything older.
    """

    def __init__(
        self,
        *,
        inbox: Mailbox[Lease | WalChunk],
        outbox: Mailbox[Lease | Segment],
        epoch: Cell[int],
        rewind: Cell[int],
    ) -> None:
        self._inbox, self._outbox, self._epoch, self._rewind = inbox, outbox, epoch, rewind
        self.epoch_events = 0
        """Events of the current epoch seen so far."""
        self.events = 0
        """Events seen since the process started, repeated ones included."""
        self.commit_time_us = 0
        """Commit time of the newest transaction, microseconds since 1970."""

    async def run(self, ctx: ActorContext) -> None:
        """Work until the inbox ends. Cancellation: the chunk in hand is lost; the next epoch brings it again."""
        self._rewind.raise_to(self._epoch.value)
        assembler, current = Assembler(), 0
        ctx.started()
        async for item in self._inbox:
            ctx.beat()
            await failpoint_async("assembler.loop")
            if isinstance(item, Lease):
                if item.epoch <= self._rewind.value:
                    continue
                assembler.reset()
                current, self.epoch_events = item.epoch, 0
                await self._outbox.send(item)
            elif item.epoch != current:
                continue
            elif not assembler.follows(item):
                self._rewind.raise_to(current)
                current = 0
            else:
                segment = assembler.feed(item)
                self._count(segment)
                await self._outbox.send(segment)
        self._outbox.close()

    def _count(self, segment: Segment) -> None:
        events = 0
        for item in segment.items:
            if isinstance(item, TransactionPart | TransactionRun):
                events += item.events
                self.commit_time_us = item.commit_time_us
            elif isinstance(item, LogicalMessage):
                events += 1
        self.epoch_events += events
        self.events += events
