"""One replication stream, from just after START_REPLICATION to its end: what an epoch is made of.

Tasks: reading (gate, then chunks), feedback (status updates), and three that watch: the flush cell, the rewind cell and
the server through the control session. Only reading feels back-pressure; the others never wait for it.

Rule 1: the gate stays shut, and nobody reads the socket, until the sinks have reached this epoch.
Rule 2: flushed is what the checkpointer confirmed for this very epoch, else 0; what was received counts as written.
Rule 3: a status update goes out every third of wal_sender_timeout, soon after the flush cell rises, and when the server
        asks, but never more often than every 50 ms.
Rule 4: whoever finds that the stream is over while nobody reads it has its last words read: they say why.
Rule 5: a server from which nothing came is asked to answer; silence beyond its own timeout ends the stream. It is
        counted only while we listen.
Rule 6: how far a keepalive reaches is believed once a second one reaches there too, which is asked for. It is said in
        one number without a check, and becomes what PostgreSQL is told it may forget, beyond its own end as well.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import msgspec
import trio

from actors import ActorContext
from deltaforge.errors import DeltaforgeError, TransientError
from deltaforge.failpoints import failpoint_async
from deltaforge.model import Confirm, Lease, Lsn, Relation, SlotState, WalChunk
from deltaforge.source import frames, relations
from deltaforge.source.conn import StreamEnded
from deltaforge.source.faults import ServerShutdown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from actors import Cell, Mailbox
    from deltaforge.model import PgType
    from deltaforge.source.conn import ReplicationConnection
    from deltaforge.source.drift import Catalog
    from deltaforge.source.sql import ControlSession

LONGEST_STATUS_S = 10.0
NO_TIMEOUT_S = 30.0
"""What a wal_sender_timeout of 0 counts as."""
SHORTEST_SILENCE_S = 30.0
STATUS_GAP_S = 0.05
ASK_AGAIN_S = 1.0
"""Between two questions of how far the server is."""
OPTIONAL_GATE_S = 10.0
"""How long a sink that the commit policy can do without may hold the gate."""
WATCH_S = 2.0
PACE_S = 0.002
"""At least so long lies between two chunks when the first one was small: what a chunk costs is not its rows."""
SMALL_BYTES = 32 * 1024
IDLE_S = 0.05
FAREWELL_S = 1.0
LAST_WORDS_S = 1.0


class Rewound(TransientError):
    """Somebody downstream asked for a newer epoch."""


class NotHeld(TransientError):
    """The slot is not held by our stream: that has ended, or the control session sees another server."""


class Gate:
    """The epoch a sink has passed its guard for, and whether the stream waits for it however long it takes."""

    __slots__ = ("passed", "required")

    def __init__(self, passed: Cell[int], *, required: bool) -> None:
        self.passed, self.required = passed, required


class Budget(Protocol):
    """Room for bytes under way; the reader is the only one who waits for it."""

    async def acquire(self, weight: int, generation: int) -> None:
        """Hold bytes for an epoch, waiting until they fit."""
        ...

    def reset(self, generation: int) -> None:
        """A new epoch begins: forget what older ones hold."""
        ...


class Wires(msgspec.Struct, frozen=True):
    """The handles a stream works with. They belong to the pipeline and outlive every stream."""

    outbox: Mailbox[Lease | WalChunk]
    budget: Budget
    weight: int
    """Sinks that will each hold a share of a chunk."""
    rewind: Cell[int]
    flush: Cell[Confirm]
    gates: Sequence[Gate]
    catalog: Catalog


class Counters:
    """What was received since the process started. Written by the stream, read by statistics."""

    def __init__(self) -> None:
        self.received = Lsn(0)
        self.committed = Lsn(0)
        self.confirmed = Lsn(0)
        self.messages = self.bytes = self.chunks = 0
        self.server_clock_us = 0
        self.status_sent_at: float | None = None
        self.slot: SlotState | None = None


class Stream:
    """Run one stream to its end."""

    def __init__(
        self,
        connection: ReplicationConnection,
        control: ControlSession,
        wires: Wires,
        counters: Counters,
        *,
        ctx: ActorContext,
        epoch: int,
        wal_sender_timeout_ms: int,
        grace_s: float,
    ) -> None:
        """Take a connection in COPY BOTH; whoever opened it closes it. `grace_s`: longest wait for the last Confirm."""
        self._connection, self._control, self._wires = connection, control, wires
        self._counters, self._ctx, self._number = counters, ctx, epoch
        timeout_s = wal_sender_timeout_ms / 1000
        self._interval_s = min(LONGEST_STATUS_S, (timeout_s or NO_TIMEOUT_S) / 3)
        self._silence_s = max(SHORTEST_SILENCE_S, timeout_s)
        self._grace_s = grace_s
        self._position = 0
        self._received = Lsn(0)
        self._said = Lsn(0)
        self._unsure = False
        self._asked_at = -ASK_AGAIN_S
        self._sent_end = Lsn(0)
        self._wake = trio.Event()
        self._heard_at = trio.current_time()
        self._listening = self._flows = False
        self._next_at = 0.0
        self._types: dict[int, PgType] = {}
        self._error: DeltaforgeError | None = None
        self._all = trio.CancelScope()

    async def run(
        self, work: trio.CancelScope, lease: Callable[[SlotState], Lease], opened: Callable[[], None]
    ) -> None:
        """Stream until `work` is cancelled, the rewind cell reaches this epoch, or something breaks.

        `lease` makes the Lease from the slot's state; `opened` is called when the gates are open.

        Raises:
          Rewound: a newer epoch is wanted.
          DeltaforgeError: the server's or the connection's end.
        """
        with self._all:
            async with trio.open_nursery() as nursery:
                for task in (self._feedback, self._watch_flush, self._watch_rewind, self._watch_server):
                    nursery.start_soon(self._aside, task)
                with work:
                    await self._guarded(lambda: self._read(lease, opened))
                if self._error is None and self._ctx.draining:
                    await self._drain()
                nursery.cancel_scope.cancel(reason="the reader is done")
        if self._error is not None:
            if isinstance(self._error, Rewound | NotHeld) and not self._flows:
                await self._last_words()
            raise self._error
        if self._ctx.draining:
            await self._farewell()

    # ---- reading

    async def _read(self, lease: Callable[[SlotState], Lease], opened: Callable[[], None]) -> None:
        with self._ctx.waiting("postgres"):
            state = await self._control.slot_state()
        if state.active_pid != self._connection.backend_pid:
            raise NotHeld(f"the slot is held by process {state.active_pid}, not by our stream")
        self._counters.slot = state
        await self._wires.outbox.send(lease(state))
        await self._wait_for_gates()
        opened()
        self._heard_at = trio.current_time()
        self._flows = True
        while True:
            self._ctx.beat()
            await failpoint_async("reader.loop")
            messages = await self._next_chunk()
            if frames.idle(messages):
                # How far an idle stream has come is of no hurry, and soon told better by what follows.
                with trio.move_on_after(IDLE_S):
                    messages += await self._next_chunk()
            await self._forward(messages)

    async def _wait_for_gates(self) -> None:
        ready = self._has_passed
        for gate in self._wires.gates:
            if gate.required:
                await gate.passed.wait(ready)
        with trio.move_on_after(OPTIONAL_GATE_S):
            for gate in self._wires.gates:
                await gate.passed.wait(ready)

    def _has_passed(self, epoch: int) -> bool:
        return epoch >= self._number

    async def _next_chunk(self) -> list[bytes]:
        if trio.current_time() < self._next_at:
            await trio.sleep_until(self._next_at)
        self._listening = True
        try:
            with self._ctx.waiting("postgres"):
                return await self._connection.read_available()
        finally:
            self._listening = False
            self._heard_at = trio.current_time()

    async def _forward(self, messages: list[bytes]) -> None:
        survey = frames.survey(messages)
        if survey.reply_requested:
            self._wake.set()
        attached = tuple([await self._relation(messages[index]) for index in survey.relations])
        nbytes = sum(map(len, messages))
        self._count(survey, len(messages), nbytes)
        if survey.keepalives:
            messages = frames.telling(messages)
            self._believe(messages)
            nbytes = sum(map(len, messages))
        start, end = self._position, self._position + len(messages)
        chunk = WalChunk(self._number, start, end, messages, attached, nbytes)
        await self._wires.budget.acquire(nbytes * self._wires.weight, self._number)
        await self._wires.outbox.send(chunk)
        self._next_at = trio.current_time() + PACE_S if nbytes < SMALL_BYTES else 0.0
        self._position = end
        self._sent_end = survey.committed or self._sent_end

    def _believe(self, messages: list[bytes]) -> None:
        """Rule 6, on the keepalive at the end of a chunk."""
        self._said, believed = frames.agreed(messages, self._said)
        if believed < self._said and not self._unsure:
            self._wake.set()
        self._unsure = believed < self._said

    def _count(self, survey: frames.Survey, messages: int, nbytes: int) -> None:
        counters = self._counters
        counters.received = self._received = Lsn(max(survey.received, self._received))
        counters.committed = survey.committed or counters.committed
        counters.messages += messages
        counters.bytes += nbytes
        counters.chunks += 1
        counters.server_clock_us = survey.clock_us

    async def _relation(self, message: bytes) -> Relation:
        announced = relations.parse_relation(message, frames.XLOG_HEADER)
        # Asked again for every announcement: a changed default announces the same columns.
        with self._ctx.waiting("postgres"):
            facts = await self._control.relation_facts(announced.oid, announced.schema, announced.table)
            settled = {oid for oid, kind in self._types.items() if not relations.has_labels(kind)}
            wanted = {type_oid for _, type_oid, _, _ in announced.columns} - settled
            if wanted:
                self._types |= await self._control.types(wanted)
        return self._wires.catalog.judged(relations.build_relation(announced, facts, self._types))

    # ---- feedback

    async def _feedback(self) -> None:
        reply = False
        while True:
            await self._send_status(reply=reply)
            with trio.move_on_after(min(ASK_AGAIN_S, self._interval_s) if self._unsure else self._interval_s) as idle:
                await self._wake.wait()
            if not idle.cancelled_caught:
                # Several wishes within the gap become one update.
                await trio.sleep(STATUS_GAP_S)
            self._wake = trio.Event()
            quiet_s = trio.current_time() - self._heard_at if self._listening else 0.0
            if quiet_s > self._silence_s:
                raise StreamEnded(f"nothing came from the server for {quiet_s:.0f} s, though it was asked")
            reply = quiet_s >= self._interval_s or self._asks()

    def _asks(self) -> bool:
        """Is it time to ask how far the server is?"""
        now = trio.current_time()
        if not self._unsure or now < self._asked_at + ASK_AGAIN_S:
            return False
        self._asked_at = now
        return True

    async def _send_status(self, *, reply: bool) -> None:
        confirm = self._wires.flush.value
        flushed = confirm.lsn if confirm.epoch == self._number else Lsn(0)
        written = Lsn(max(self._received, flushed))
        await failpoint_async("reader.before_feedback")
        update = frames.status_update(written, flushed, time.time_ns() // 1000, reply=reply)
        await self._connection.send_copy_data(update)
        await failpoint_async("reader.after_feedback")
        self._counters.confirmed = flushed or self._counters.confirmed
        self._counters.status_sent_at = trio.current_time()

    async def _watch_flush(self) -> None:
        version = self._wires.flush.version
        while True:
            version = await self._wires.flush.changed(version)
            self._wake.set()

    async def _watch_rewind(self) -> None:
        await self._wires.rewind.wait(self._has_passed)
        raise Rewound("a newer stream was asked for", hint="")

    async def _watch_server(self) -> None:
        """A server in fast shutdown waits for our confirmation, which a dead Kafka keeps us from giving: let it go."""
        while True:
            await trio.sleep(WATCH_S)
            try:
                self._counters.slot = await self._control.slot_state()
            except ServerShutdown:
                raise
            except DeltaforgeError:
                # The stream itself is the judge of everything else.
                continue

    # ---- the end

    async def _drain(self) -> None:
        """Downstream drains after us: wait for its last word, while status updates go on."""
        self._wires.outbox.close()
        number, end = self._number, self._sent_end
        with trio.move_on_after(self._grace_s):
            if end:
                await self._wires.flush.wait(lambda confirm: confirm.epoch == number and confirm.lsn >= end)

    async def _farewell(self) -> None:
        """Last status, CopyDone, and read on until the server has answered.

        Closing a socket with unread data resets it, and the reset may overtake our last words.
        """
        with trio.move_on_after(FAREWELL_S):
            try:
                await self._send_status(reply=False)
                await self._connection.end_copy()
                while True:
                    await self._connection.read_available()
            except DeltaforgeError:
                return

    async def _last_words(self) -> None:
        """Raise the error with which the server ended the stream before anything was read from it, if it did."""
        with trio.move_on_after(LAST_WORDS_S):
            while True:
                await self._connection.read_available()

    async def _aside(self, task: Callable[[], Awaitable[None]]) -> None:
        # A context of its own: what this task waits for must not speak for the reading task, or no stall is ever seen.
        ActorContext(f"{self._ctx.id}.aside").arm()
        await self._guarded(task)

    async def _guarded(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except DeltaforgeError as error:
            self._error = self._error or error
            self._all.cancel(reason="the stream ended")
