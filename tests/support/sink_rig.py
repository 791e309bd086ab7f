"""One sink with all its handles, a stream to feed it with, and somebody who restarts it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from actors import ActorContext, Cell, Mailbox, Retry, WeightBudget
from deltaforge.envelopes.base import Encoded
from deltaforge.metrics import SinkMetrics
from deltaforge.model import (
    Batch,
    Item,
    Lease,
    LogicalMessage,
    Lsn,
    Receipt,
    TransactionPart,
    TransactionRun,
    Watermark,
)
from deltaforge.runs import parts
from deltaforge.sinks.base import SinkWiring

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.sinks.base import Sink


def part(xid: int, commit: int, first: int, events: int, end: int = 0) -> TransactionPart:
    return TransactionPart(xid, Lsn(commit), xid * 10, first, events, [], (), Lsn(end), Lsn(0), events)


def message(lsn: int) -> LogicalMessage:
    return LogicalMessage(Lsn(lsn), b"w" + bytes(24) + b"M" + bytes(9) + b"p\0m", Lsn(0), 1)


def mark(lsn: int) -> Watermark:
    return Watermark(Lsn(lsn))


def lease(epoch: int, confirmed: int = 1) -> Lease:
    return Lease(epoch, 99, "sys", 1, (), "db", "slot", Lsn(confirmed))


def events_in(item: Item) -> int:
    return item.events if isinstance(item, TransactionPart) else int(isinstance(item, LogicalMessage))


class PlainEncoder:
    """Values say which event they are: {"id": "xid.index"}; the topic is "t"."""

    name = "python"
    omitted: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.topic = "t"
        self.resets = 0
        self.previous_ends: list[int] = []

    def reset(self) -> None:
        self.resets += 1

    def learn(self, part: TransactionPart) -> None:
        pass

    def encode(
        self, part: TransactionPart, skip: int, previous_end: Lsn, now_ns: int, *, positions: bool = False
    ) -> Encoded:
        self.previous_ends.append(previous_end)
        return self._encoded([f"{part.xid}.{part.first_index + n}" for n in range(skip, part.events)])

    def encode_run(self, run: TransactionRun, previous_end: Lsn, now_ns: int) -> Encoded:
        encoded = Encoded([], [], [], [], 0, 0)
        for part in parts(run):
            encoded.extend(self.encode(part, 0, part.previous_end or previous_end, now_ns))
        return encoded

    def encode_message(self, message: LogicalMessage, now_ns: int) -> Encoded:
        return self._encoded([f"m.{message.lsn:d}"])

    def _encoded(self, ids: list[str]) -> Encoded:
        values: list[bytes | None] = [b'{"id":"%s"}' % name.encode() for name in ids]
        keys: list[bytes | None] = [b'{"k":1}'] * len(ids)
        return Encoded([self.topic] * len(ids), keys, values, [None] * len(ids), 20 * len(ids), len(ids))


@dataclass
class Handles:
    """What a pipeline holds for one sink, and who feeds it."""

    inbox: Mailbox[Lease | Batch] = field(default_factory=lambda: Mailbox(1000))
    gate: Cell[int] = field(default_factory=lambda: Cell(0))
    receipts: Cell[Receipt | None] = field(default_factory=lambda: Cell(None))
    epoch: Cell[int] = field(default_factory=lambda: Cell(0))
    rewind: Cell[int] = field(default_factory=lambda: Cell(0))
    budget: WeightBudget = field(default_factory=lambda: WeightBudget(1_000_000))
    encoder: PlainEncoder = field(default_factory=PlainEncoder)
    reports: list[tuple[str, str]] = field(default_factory=list)
    end: int = 0
    confirmed: int = 1
    spared: bool = False
    """Whether the commit policy could do without the sink."""
    passed_over: int = 0
    """Where the slot stood in a first Lease that the sink was not given."""

    def wiring(self) -> SinkWiring:
        return SinkWiring(
            inbox=self.inbox,
            gate=self.gate,
            receipts=self.receipts,
            epoch=self.epoch,
            rewind=self.rewind,
            budget=self.budget,
            encoder=self.encoder,
            metrics=SinkMetrics("rig", "sink", ""),
            report=lambda state, detail: self.reports.append((state, detail)),
            spared=lambda: self.spared,
            passed_over=lambda: Lsn(self.passed_over),
        )

    async def begin(self, epoch: int, confirmed: int = 1) -> None:
        """A new stream: what the reader does."""
        self.epoch.set(epoch)
        self.budget.reset(epoch)
        self.end, self.confirmed = 0, confirmed
        await self.inbox.send(lease(epoch, confirmed))

    async def feed(self, *items: Item, epoch: int | None = None, prev: int | None = None) -> None:
        """One batch that follows the one before, unless told otherwise."""
        epoch = self.epoch.value if epoch is None else epoch
        begin = self.end if prev is None else prev
        self.end = begin + len(items)
        events = sum(map(events_in, items))
        nbytes = 100 * len(items)
        await self.budget.acquire(nbytes, epoch)
        await self.inbox.send(Batch(epoch, begin, self.end, list(items), events, nbytes))

    async def until_durable(self, flush_lsn: int, epoch: int | None = None) -> Receipt:
        """Wait for a receipt that allows this much to be confirmed."""
        wanted = self.epoch.value if epoch is None else epoch
        found = await self.receipts.wait(lambda r: r is not None and r.epoch == wanted and r.flush_lsn >= flush_lsn)
        assert found is not None
        return found

    async def until_idle(self) -> None:
        """Wait until everything sent was taken and let go."""
        while self.inbox.statistics().buffered or self.budget.used:  # noqa: ASYNC110 - neither tells
            await trio.sleep(0.005)


async def keep_running(  # noqa: ASYNC128 - the context calls it
    make: Callable[[], Sink], restarts: list[str], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run a sink and start it again whenever it asks for that, at once. Started when the sink first is."""
    status: list[trio.TaskStatus[None]] = [task_status]

    def started() -> None:
        while status:
            status.pop().started()

    while True:
        try:
            await make().run(ActorContext("sink", attempt=len(restarts), on_started=started))
        except Retry as retry:
            restarts.append(retry.reason)
            await trio.sleep(0.01)
        else:
            return
