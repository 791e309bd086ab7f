"""A reader without a pipeline: the test is its sink, checkpointer and supervisor."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import trio

from actors import ActorContext, Cell, Mailbox, Retry, WeightBudget
from deltaforge.config.dsn import parse_dsn
from deltaforge.model import Confirm, Lease, Lsn, Relation, WalChunk
from deltaforge.source.reader import ReaderActor
from deltaforge.source.sql import ControlSession
from deltaforge.source.stream import Gate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.databases import Database

BUDGET = 4 * 1024 * 1024


class ReaderRig:
    """Runs a ReaderActor again after every Retry. `lease` and `rows` play the sinks."""

    def __init__(self, dsn: str, slot: str, publication: str, control: ControlSession, *, capacity: int = 4) -> None:
        self.control = control
        self.outbox: Mailbox[Lease | WalChunk] = Mailbox(capacity, name="chunks")
        self.budget = WeightBudget(BUDGET)
        self.epoch, self.rewind, self.gate = Cell(0), Cell(0), Cell(0)
        self.flush: Cell[Confirm] = Cell(Confirm(0, Lsn(0)))
        self.reports: Cell[list[tuple[str, str]]] = Cell([])
        self.retries: Cell[list[str]] = Cell([])
        self.prepared = 0
        self.ctx = ActorContext("reader", draining=lambda: self.ctx.stopping.is_set())
        self.reader = ReaderActor(
            dsn=parse_dsn(dsn),
            slot=slot,
            publication=publication,
            control=control,
            prepare=self._prepare,
            outbox=self.outbox,
            budget=self.budget,
            weight=1,
            epoch=self.epoch,
            rewind=self.rewind,
            flush=self.flush,
            gates=[Gate(self.gate, required=True)],
            report=lambda state, detail: self.reports.set([*self.reports.value, (state, detail)]),
        )
        self.relations: list[Relation] = []
        self._position = 0

    async def _prepare(self, control: ControlSession) -> None:
        self.prepared += 1
        await control.check_server()

    async def supervise(self) -> None:
        """Run the reader until it returns."""
        while True:
            try:
                await self.reader.run(self.ctx)
            except Retry as retry:
                self.retries.set([*self.retries.value, retry.reason])
                await trio.sleep(retry.delay_s)
            else:
                return

    async def lease(self, *, open_gate: bool = True) -> Lease:
        """Drop chunks of older epochs until the next Lease."""
        while True:
            item = await self.outbox.receive()
            if isinstance(item, Lease):
                self._position = 0
                if open_gate:
                    self.gate.set(item.epoch)
                return item

    async def chunk(self) -> WalChunk:
        """The next chunk of this epoch, which has to follow the one before."""
        item = await self.outbox.receive()
        assert isinstance(item, WalChunk), item
        assert item.epoch == self.gate.value
        assert item.prev == self._position
        self._position = item.end
        self.relations += item.relations
        self.budget.release(item.nbytes, item.epoch)
        return item

    async def messages(self, kind: bytes, count: int) -> list[bytes]:
        """The next `count` pgoutput messages of a kind, without their XLogData headers."""
        found: list[bytes] = []
        while len(found) < count:
            chunk = await self.chunk()
            found += [m[25:] for m in chunk.messages if m[:1] == b"w" and m[25:26] == kind]
        return found

    async def drained(self) -> None:
        """Take what is left until the reader closes the channel."""
        with suppress(trio.EndOfChannel):
            while True:
                await self.outbox.receive()

    async def state(self, wanted: str) -> str:
        """Wait until the reader has reported this state, from now on or last; return the detail."""
        reports = await self.reports.wait(lambda all_reports: bool(all_reports) and all_reports[-1][0] == wanted)
        return reports[-1][1]

    def confirm(self, lsn: int) -> None:
        """Play the checkpointer."""
        self.flush.set(Confirm(self.epoch.value, Lsn(lsn)))


async def eventually(database: Database, query: str, *parameters: object) -> None:
    """Wait until a query returns true."""
    while not database.value(query, parameters):  # noqa: ASYNC110 - the server has no event for it
        await trio.sleep(0.05)


async def confirmed(database: Database, slot: str, lsn: int) -> None:
    """Wait until the slot's confirmed position is exactly this one."""
    query = "SELECT confirmed_flush_lsn = %s::pg_lsn FROM pg_replication_slots WHERE slot_name = %s"
    await eventually(database, query, str(Lsn(lsn)), slot)


@asynccontextmanager
async def reading(
    dsn: str, slot: str = "s", publication: str = "p", *, capacity: int = 4, within_s: float = 60.0
) -> AsyncIterator[ReaderRig]:
    """A rig whose reader is running; stopped at the end."""
    async with ControlSession(parse_dsn(dsn), slot, publication) as control:
        rig = ReaderRig(dsn, slot, publication, control, capacity=capacity)
        with trio.fail_after(within_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rig.supervise)
                yield rig
                nursery.cancel_scope.cancel(reason="the test is over")
