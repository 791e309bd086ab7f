"""The actor around the batch policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from deltaforge.batcher.policy import BatchPolicy
from deltaforge.failpoints import failpoint_async
from deltaforge.model import Batch, Lease, Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actors import ActorContext, Cell, Mailbox
    from deltaforge.batcher.policy import Split
    from deltaforge.config.schema import Batching

_ROOM_CHECK_S = 0.005
"""How often a waiting batch looks whether a sink that was full has room again. Only while a batch waits."""


class Outbox(Protocol):
    """A sink's place in the flow; a detached one is passed over."""

    inbox: Mailbox[Lease | Batch]
    attached: bool

    def detach_if_dispensable(self, why: str) -> bool:
        """Detach the sink unless it is needed; says whether it is detached now."""
        ...


class BatcherActor:
    """Cut each epoch's stream into batches and give every sink the same ones.

    Owns: one open batch.
    Receives: Lease, Segment.  Sends: Lease, Batch, to every outbox.
    On stop: sends the open batch when its inbox ends, then closes its outboxes.
    On restart: starts empty, asks for an epoch newer than the current one and drops everything older.
    """

    def __init__(
        self,
        *,
        inbox: Mailbox[Lease | Segment],
        outboxes: Sequence[Outbox],
        settings: Batching,
        split: Split,
        epoch: Cell[int],
        rewind: Cell[int],
    ) -> None:
        self._inbox, self._outboxes, self._epoch, self._rewind = inbox, outboxes, epoch, rewind
        self._max_wait_s = settings.max_ms / 1000
        self._policy = BatchPolicy(settings.max_events, settings.max_bytes, split)
        self._opened = 0.0

    async def run(self, ctx: ActorContext) -> None:
        """Work until the inbox ends. Cancellation: the open batch is lost; the next epoch brings it again."""
        self._rewind.raise_to(self._epoch.value)
        self._policy.reset(0)
        ctx.started()
        try:
            while True:
                ctx.beat()
                await failpoint_async("batcher.loop")
                item = await self._next()
                if item is None:
                    await self._send(self._policy.close())
                elif isinstance(item, Lease):
                    await self._lease(item)
                elif item.epoch == self._policy.epoch:
                    await self._segment(item)
        except trio.EndOfChannel:
            if self._policy.open:
                await self._send(self._policy.close())
        for outbox in self._outboxes:
            outbox.inbox.close()

    async def _next(self) -> Lease | Segment | None:
        """The next item, or None when the open batch has to go: every sink has room, or it is too old."""
        while self._policy.open:
            if self._has_room() or trio.current_time() >= self._opened + self._max_wait_s:
                return None
            with trio.move_on_after(_ROOM_CHECK_S):
                return await self._inbox.receive()
        return await self._inbox.receive()

    def _has_room(self) -> bool:
        return not any(outbox.attached and _full(outbox) for outbox in self._outboxes)

    async def _lease(self, lease: Lease) -> None:
        if lease.epoch <= self._rewind.value:
            return
        self._policy.reset(lease.epoch)
        await self._send(lease)

    async def _segment(self, segment: Segment) -> None:
        if not self._policy.follows(segment):
            self._rewind.raise_to(self._policy.epoch)
            self._policy.reset(0)
            return
        if not self._policy.open:
            self._opened = trio.current_time()
        for batch in self._policy.add(segment):
            await self._send(batch)
            self._opened = trio.current_time()

    async def _send(self, item: Lease | Batch) -> None:
        for outbox in self._outboxes:
            if outbox.attached and not (_full(outbox) and outbox.detach_if_dispensable("its inbox is full of batches")):
                await outbox.inbox.send(item)


def _full(outbox: Outbox) -> bool:
    fill = outbox.inbox.statistics()
    return fill.buffered >= fill.capacity
