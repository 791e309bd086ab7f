"""The actor that holds the slot: opens streams, one after another, and says how it stands.

Rule 1: one run of the actor is one epoch. The epoch cell is raised before START_REPLICATION, so that nobody can ask for
        an epoch newer than one he has not heard of.
Rule 2: holding the slot is the lease. A slot held by somebody else makes this reader the standby; it looks again soon.
Rule 3: we never name a start position; the server starts where the slot stands.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec
import trio

from actors import Escalate, Retry
from deltaforge.errors import DeltaforgeError, Fault, SlotBusy, TransientError
from deltaforge.failpoints import failpoint_async
from deltaforge.model import Lease, Lsn, SlotState, TimelineSwitch
from deltaforge.source import conn
from deltaforge.source.drift import Catalog
from deltaforge.source.slot import parse_history, start_command
from deltaforge.source.stream import Budget, Counters, Gate, Rewound, Stream, Wires

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from actors import ActorContext, Cell, Mailbox
    from deltaforge.config.dsn import Dsn
    from deltaforge.model import Confirm, WalChunk
    from deltaforge.source.conn import ReplicationConnection
    from deltaforge.source.sql import ControlSession

BLOCKED_S = 5.0
REWIND_S = 0.1
LONGEST_BACKOFF_S = 5.0
_OWN_SLOT_S = 3.0
"""How long the server may take to notice that our previous stream is closed."""


class ReaderStatistics(msgspec.Struct, frozen=True):
    """What the reader has done since the process started."""

    state: str
    detail: str
    walsender_pid: int
    """0 = no stream."""
    received_lsn: Lsn
    committed_lsn: Lsn
    """End of the last transaction received."""
    confirmed_lsn: Lsn
    """Last position PostgreSQL was told is flushed."""
    messages: int
    bytes: int
    chunks: int
    server_clock_us: int
    """Server clock of the last message, microseconds since 1970; 0 = none yet."""
    slot: SlotState | None
    """As last looked at, every two seconds while streaming."""


class ReaderActor:
    """Stream the slot's changes.

    Owns: the replication connection and the slot, while it streams.
    Receives: nothing but the cells rewind, flush and gates.  Sends: Lease, WalChunk.
    On stop: stops reading and closes its outbox; then waits `stop_grace_s` for the last Confirm, passes it on, leaves.
    On restart: a new epoch; nothing is kept but the counters.
    """

    def __init__(
        self,
        *,
        dsn: Dsn,
        slot: str,
        publication: str,
        control: ControlSession,
        prepare: Callable[[ControlSession], Awaitable[None]],
        outbox: Mailbox[Lease | WalChunk],
        budget: Budget,
        weight: int,
        epoch: Cell[int],
        rewind: Cell[int],
        flush: Cell[Confirm],
        gates: Sequence[Gate],
        report: Callable[[str, str], None],
        catalog: Catalog | None = None,
        stop_grace_s: float = 3.0,
    ) -> None:
        """`prepare` does the checks of a first start and may raise any DeltaforgeError; `weight`: how many sinks."""
        self._dsn, self._slot, self._publication = dsn, slot, publication
        self._control, self._prepare, self._report = control, prepare, report
        self._epoch = epoch
        self._wires = Wires(outbox, budget, weight, rewind, flush, tuple(gates), catalog or Catalog())
        self._grace_s = stop_grace_s
        self._counters = Counters()
        self._state, self._detail = "", ""
        self._pid = self._last_pid = 0
        self._failures = 0

    def statistics(self) -> ReaderStatistics:
        """A snapshot; cheap enough for every scrape."""
        c = self._counters
        return ReaderStatistics(
            state=self._state,
            detail=self._detail,
            walsender_pid=self._pid,
            received_lsn=c.received,
            committed_lsn=c.committed,
            confirmed_lsn=c.confirmed,
            messages=c.messages,
            bytes=c.bytes,
            chunks=c.chunks,
            server_clock_us=c.server_clock_us,
            slot=c.slot,
        )

    async def run(self, ctx: ActorContext) -> None:
        """One epoch. Raises Retry for the next, Escalate when going on would lose or repeat data."""
        if not self._state:
            self._say("starting", "")
        ctx.started()
        opening, reading = trio.CancelScope(), trio.CancelScope()
        error: DeltaforgeError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_heed, ctx, opening, reading)
            try:
                await self._one_epoch(ctx, opening, reading)
            except DeltaforgeError as caught:
                error = caught
            nursery.cancel_scope.cancel(reason="the epoch is over")
        self._pid = 0
        if not ctx.stopping.is_set():
            self._judge(error)
        if ctx.draining:
            self._wires.outbox.close()

    async def _one_epoch(self, ctx: ActorContext, opening: trio.CancelScope, reading: trio.CancelScope) -> None:
        connection = None
        await failpoint_async("reader.prepare")
        with opening, ctx.waiting("PostgreSQL or Kafka"):
            if self._state == "standby":
                await self._stand_by(ctx)
            await self._prepare(self._control)
            identity = await self._control.identify()
            self._epoch.set(self._epoch.value + 1)
            self._wires.budget.reset(self._epoch.value)
            await failpoint_async("reader.before_start")
            connection, lease = await self._open()
        if connection is None:
            return
        with connection:
            self._pid = self._last_pid = connection.backend_pid
            stream = Stream(
                connection,
                self._control,
                self._wires,
                self._counters,
                ctx=ctx,
                epoch=self._epoch.value,
                wal_sender_timeout_ms=identity.wal_sender_timeout_ms,
                grace_s=self._grace_s,
            )
            self._say("starting", "the stream is open; the sinks make ready")
            await stream.run(reading, lease, self._opened)

    async def _open(self) -> tuple[ReplicationConnection, Callable[[SlotState], Lease]]:
        """START_REPLICATION on a new connection; the second value makes the Lease from the slot's state."""
        connection = await conn.connect(self._dsn)
        try:
            ((system, line, *_),) = await connection.simple_query("IDENTIFY_SYSTEM")
            system_id, timeline = (system or b"").decode(), int(line or 0)
            # The server has no history file for the first timeline, and asking for it is an error.
            history = await _history(connection, timeline) if timeline > 1 else ()
            await self._start(connection)
        except BaseException:
            connection.close()
            raise
        epoch, pid, slot = self._epoch.value, connection.backend_pid, self._slot

        def lease(state: SlotState) -> Lease:
            if state.system_id != system_id:
                raise TransientError("stream and control session reached different servers", hint="is it a failover?")
            return Lease(epoch, pid, system_id, timeline, history, state.database, slot, state.confirmed_flush)

        return connection, lease

    async def _start(self, connection: ReplicationConnection) -> None:
        command = start_command(self._slot, self._publication, server_version=connection.server_version)
        until = trio.current_time() + _OWN_SLOT_S
        while True:
            try:
                return await connection.start_copy(command, doing=f'streaming from slot "{self._slot}"')
            except SlotBusy as caught:
                busy = caught
            # Ours from a moment ago, whose end the server has not noticed yet, is no competitor.
            holder = (await self._control.slot_state()).active_pid
            if holder not in (0, self._last_pid) or trio.current_time() > until:
                raise busy
            await trio.sleep(0.05)

    async def _stand_by(self, ctx: ActorContext) -> None:
        """Look only at the slot until it is free: the checks before a start cost more, and come then."""
        while holder := (await self._control.slot_state()).active_pid:
            ctx.beat()
            self._say("standby", f'slot "{self._slot}" is held by process {holder} of the server ({SlotBusy.hint})')
            await trio.sleep(_look_again_s())

    def _opened(self) -> None:
        self._failures = 0
        self._say("running", "")

    def _judge(self, error: DeltaforgeError | None) -> None:
        """Say how it stands, and raise what the supervisor needs to hear."""
        if error is None:
            raise Retry(REWIND_S, "the stream ended")
        line = error.line()
        if isinstance(error, Rewound):
            raise Retry(REWIND_S, line)
        if isinstance(error, SlotBusy):
            self._say("standby", line)
            raise Retry(_look_again_s(), line)
        if error.fault is Fault.TRANSIENT:
            self._failures += 1
            self._say("waiting", line)
            raise Retry(self._backoff(), line)
        if error.fault is Fault.OPERATOR:
            self._say("blocked", line)
            raise Retry(BLOCKED_S, line)
        if error.fault is Fault.REFUSED:
            raise Escalate(error)
        raise error

    def _backoff(self) -> float:
        longest = min(LONGEST_BACKOFF_S, 0.2 * 2.0 ** min(self._failures, 10))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter

    def _say(self, state: str, detail: str) -> None:
        if (state, detail) != (self._state, self._detail):
            self._state, self._detail = state, detail
            self._report(state, detail)


def _look_again_s() -> float:
    return random.uniform(0.5, 1.0)  # noqa: S311 - only spreads two standbys


async def _heed(ctx: ActorContext, *scopes: trio.CancelScope) -> None:
    # The wish to stop is not waited for in the actor's name: it would count as waiting for ever.
    await ctx.stopping.wait()
    for scope in scopes:
        scope.cancel(reason="told to stop")


async def _history(connection: ReplicationConnection, timeline: int) -> tuple[TimelineSwitch, ...]:
    ((_, content),) = await connection.simple_query(f"TIMELINE_HISTORY {timeline}")
    return parse_history(content or b"")
