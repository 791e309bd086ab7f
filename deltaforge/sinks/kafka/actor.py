"""The Kafka sink: source transactions into Kafka transactions, each with its own checkpoint record inside.

Three things end an epoch here: the next Lease (everything open is thrown away), a doubt (thrown away, then a new epoch
is asked for) and a refusal (escalates; nothing was moved). After each of them the only way on is from the start:
lease, producer, record, slot, guard.
"""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import trio

from actors import Escalate
from deltaforge.errors import DeltaforgeError, Fault, Refused
from deltaforge.failpoints import failpoint_async
from deltaforge.logs import get_logger
from deltaforge.model import Lease, Lsn
from deltaforge.sinks.base import SinkStatistics
from deltaforge.sinks.kafka.epoch import Epoch
from deltaforge.sinks.kafka.grouping import Room
from deltaforge.sinks.kafka.opening import LeaseLost, Opened, check_lease, go_on_from
from deltaforge.sinks.kafka.patience import tell_when_stuck, tell_while_opening
from deltaforge.sinks.kafka.producer import Doubt
from deltaforge.sinks.kafka.session import Session
from deltaforge.sinks.kafka.topics import create_missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from actors import ActorContext
    from deltaforge.sinks.kafka.wiring import KafkaWiring

_MAX_DELAY_S, _CLOSE_S = 5.0, 30.0
_READ_MARGIN_S = 10.0
"""The broker looks for expired transactions every ten seconds."""

log = get_logger("kafka")


class Memory:
    """What survives an epoch, for statistics and for transactions that did not fit into one."""

    def __init__(self) -> None:
        self.commits = self.aborts = self.events = 0
        self.durable = self.flush = Lsn(0)
        self.epoch_events = 0
        self.silent_at = Lsn(0)
        """Source transaction in which the stream fell silent once."""
        self.max_tx_s: float | None = None
        """Half the age at which a Kafka transaction expired."""
        self.room = Room()
        self.beaten_at: float | None = None
        """When the last heartbeat was written, on Trio's clock; the first one is due an interval after the start."""


class KafkaSinkActor:
    """Write one pipeline's batches into Kafka.

    Owns: the producers, the open Kafka transaction, the door of the current epoch.
    Receives: Lease, Batch.  Sends: Receipt, through a cell.
    On stop: when its inbox ends, commits what ends at a source COMMIT and aborts the rest.
    On restart: asks for an epoch newer than the current one and drops everything older.
    """

    def __init__(self, wiring: KafkaWiring) -> None:
        self._w = wiring
        self._memory = Memory()
        self._doubts = 0
        self._shut_out = False
        """Whether the last try was given up before it took anything: the stream need not be begun anew for it."""
        self._state, self._detail = "starting", ""

    def statistics(self) -> SinkStatistics:
        """A snapshot for the admin."""
        m = self._memory
        return SinkStatistics(self._state, self._detail, m.durable, m.flush, m.events, m.commits, m.aborts)

    @property
    def connection(self) -> Mapping[str, object]:
        """librdkafka's settings of this sink's cluster."""
        return self._w.connection

    @property
    def durable_events(self) -> int:
        """Events of the current epoch that are durable."""
        return self._memory.epoch_events

    def _report(self, state: str, detail: str = "") -> None:
        self._state, self._detail = state, detail
        self._w.report(state, detail)

    async def run(self, ctx: ActorContext) -> None:
        """Work until the inbox ends. Cancellation: an open Kafka transaction is left to the next epoch's init."""
        self._w.rewind.raise_to(self._w.epoch.value)
        ctx.started()
        lease = await self._next_lease(ctx, None)
        while lease is not None:
            commits = self._memory.commits
            outcome = await self._epoch(ctx, lease)
            if self._memory.commits > commits:
                self._doubts = 0
            if isinstance(outcome, Refused):
                if not self._w.spared():
                    self._report("refused", outcome.line())
                    raise Escalate(outcome)
                # Parked alone: the others go on without it.
                self._report("detached", outcome.line())
                self._w.gate.set(lease.epoch)
                outcome = await self._next_lease(ctx, None)
            elif isinstance(outcome, DeltaforgeError):
                await self._doubtful(ctx, lease, outcome)
                outcome = await self._next_lease(ctx, lease if self._shut_out else None)
            lease = outcome

    async def _next_lease(self, ctx: ActorContext, lease: Lease | None) -> Lease | None:
        """The first Lease of an epoch nobody wants to leave, dropping what is older; None when the inbox ends."""
        while lease is None or lease.epoch <= self._w.rewind.value:
            try:
                item = await self._w.inbox.receive()
            except trio.EndOfChannel:
                return None
            ctx.beat()
            await failpoint_async("sink.idle")
            if isinstance(item, Lease):
                lease = item
            else:
                self._w.budget.release(item.nbytes, item.epoch)
        return lease

    async def _doubtful(self, ctx: ActorContext, lease: Lease, cause: DeltaforgeError) -> None:
        """Say why, wait so that nothing spins, then ask for a new epoch if anything of this one is gone."""
        self._doubts += 1
        self._memory.aborts += 1
        self._w.metrics.aborted()
        self._w.metrics.error(type(cause).__name__)
        what = "trying again" if self._shut_out else "rewinding"
        log.warning(what, sink=self._w.config.id, epoch=lease.epoch, reason=cause.line())
        delay = min(_MAX_DELAY_S, 0.05 * 2 ** min(self._doubts, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        if isinstance(cause, LeaseLost):
            self._report("standby", cause.line())
        elif cause.fault is Fault.OPERATOR:
            self._report("blocked", cause.line())
            delay = _MAX_DELAY_S
        else:
            self._report("waiting", cause.line())
        with ctx.waiting("the next try"):
            await trio.sleep(delay)
        if not self._shut_out:
            self._w.rewind.raise_to(lease.epoch)

    async def _epoch(self, ctx: ActorContext, lease: Lease) -> Lease | DeltaforgeError | None:
        """Work on one stream. Returns the next Lease, why the epoch was given up, or None when the inbox ended."""
        session: Session | None = None
        epoch: Epoch | None = None
        outcome: Lease | DeltaforgeError | None
        try:
            async with trio.open_nursery() as nursery:
                try:
                    self._w.encoder.reset()
                    await check_lease(self._w.slot, lease)
                    session = Session(self._w, lease, nursery)
                    opened = await self._open(ctx, lease, session)
                    epoch = Epoch(self._w, lease, opened, session, nursery, self._memory)
                    self._w.gate.set(lease.epoch)
                    self._report("running")
                    nursery.start_soon(tell_when_stuck, session, self._report, self._doubts)
                    outcome = await self._next_lease(ctx, await epoch.stream(ctx))
                except Doubt as doubt:
                    outcome = doubt.cause
                except Refused as refusal:
                    outcome = refusal
                    # Nobody comes back soon to end what is open, and readers would wait for its timeout.
                    if session is not None:
                        with contextlib.suppress(Doubt):
                            await session.abort()
                except DeltaforgeError as error:
                    outcome = error
                if session is not None and isinstance(outcome, DeltaforgeError):
                    outcome = await session.explain(outcome)
                nursery.cancel_scope.cancel(reason="the epoch is over")
        finally:
            if session is not None:
                # The limit is for show: librdkafka's threads are waited for, however long they take.
                with trio.move_on_after(_CLOSE_S, shield=True):
                    await session.close()
        self._shut_out = epoch is None and session is not None and session.given_up
        if epoch is not None and isinstance(outcome, DeltaforgeError):
            epoch.remember_expiry()
        return outcome

    async def _open(self, ctx: ActorContext, lease: Lease, session: Session) -> Opened:
        """Producer, record, slot, guard: in this order."""
        w = self._w
        if self._state != "blocked":
            # What blocks it is there until it has got past it.
            self._report("starting", "opening the transactional producer")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_while_opening, session, self._report, self._doubts)
            with ctx.waiting("Kafka"):
                problem: Doubt | None = None
                try:
                    await session.init()
                except Doubt as doubt:
                    problem = doubt
            nursery.cancel_scope.cancel(reason="initialised")
        if problem is not None:
            raise problem
        session.forget_trouble()
        self._report("starting", "reading the checkpoint")
        with ctx.waiting("Kafka: checkpoint"):
            topics = await w.expected_topics()
            if w.config.create_topics is not None:
                await create_missing((*topics, *w.occasional_topics), w.config.create_topics, w.connection)
            opened = await go_on_from(
                lease,
                w.checkpoint,
                w.slot,
                w.identity,
                wait_s=w.transaction_timeout_s + _READ_MARGIN_S,
                accept_gap=w.accept_gap,
                expected_topics=topics,
                held_up=lambda why: self._report("waiting", why),
            )
        for warning in opened.warnings:
            log.warning("data topic changed", sink=w.config.id, detail=warning)
        return opened
