"""What a sink is, and the shell that the small sinks (memory, file, stdout) share.

The contract, for every sink:

Rule 1: all handles belong to the pipeline and survive the sink. `run` may be called again on the same object.
Rule 2: at the start of `run` it asks for an epoch newer than the current one (`rewind.raise_to(epoch.value)`): what
        its predecessor had in hand is lost. Whatever belongs to an epoch at or below `rewind` is dropped.
Rule 3: at a Lease it forgets everything open, resets its encoder, builds a Door with its durable progress, and opens
        its gate (`gate.set(lease.epoch)`) once it is sure to go on from there.
Rule 4: a Batch that does not follow the one before asks for a rewind (`rewind.raise_to(lease.epoch)`).
Rule 5: every item goes through the door, in order, and only what the door passes is written.
Rule 6: a Receipt says only what is durable: `door.committed` first, then `receipts.set`.
Rule 7: every Batch taken releases its weight exactly once, when it is durable or dropped.
Rule 8: TRANSIENT and OPERATOR errors become `actors.Retry` after a report, Refused becomes `actors.Escalate`;
        everything else is a crash.
Rule 9: a sink behind the slot has lost its place. One that the commit policy can spare says so, takes nothing more and
        holds up nobody; any other refuses.
Rule 10: when the inbox ends, what was taken is made durable and `run` returns.

The small sinks keep no position outside the process. After a restart of the process they begin where the slot stands,
and what was written but not confirmed yet is written again: at least once. A restart of the actor alone skips what is
durable, as far as the object remembers.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec
import trio

from actors import Escalate, Retry
from deltaforge.errors import DeltaforgeError, Fault
from deltaforge.failpoints import failpoint_async
from deltaforge.model import Batch, Lease, LogicalMessage, Lsn, Progress, Receipt, TransactionPart, TransactionRun
from deltaforge.position import Door, Passed, gap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from actors import ActorContext, Cell, Mailbox, WeightBudget
    from deltaforge.envelopes.base import Encoded, Encoder
    from deltaforge.metrics import SinkMetrics
    from deltaforge.model import Item

TRANSIENT_DELAY_S = 1.0
OPERATOR_DELAY_S = 5.0


class SinkStatistics(msgspec.Struct, frozen=True):
    """What the admin shows of a sink."""

    state: str
    detail: str
    durable: Lsn
    """Commit LSN of the newest durable event."""
    flush_lsn: Lsn
    events: int
    """Events made durable by this process."""
    commits: int
    aborts: int


class Sink(Protocol):
    """A sink as the pipeline sees it."""

    async def run(self, ctx: ActorContext) -> None:
        """Work until the inbox ends."""
        ...

    def statistics(self) -> SinkStatistics:
        """A snapshot."""
        ...


class Rewind(Protocol):
    """Where a sink asks for a newer epoch: the shared cell, or what stands before it."""

    @property
    def value(self) -> int:
        """The newest epoch that anybody wants to leave."""
        ...

    def raise_to(self, epoch: int, /) -> bool:
        """Ask for an epoch newer than this one."""
        ...


@dataclass(frozen=True, kw_only=True)
class SinkWiring:
    """The handles of one small sink.

    Attributes:
      failpoints: start of the names of this sink's failpoints, e.g. `sink`.
      now_ns: the clock for processing times, nanoseconds since 1970.
      spared: whether the commit policy could do without this sink just now.
      passed_over: where the slot stood in the first Lease that this sink was not given; 0 = none.
    """

    inbox: Mailbox[Lease | Batch]
    gate: Cell[int]
    receipts: Cell[Receipt | None]
    epoch: Cell[int]
    rewind: Rewind
    budget: WeightBudget
    encoder: Encoder
    metrics: SinkMetrics
    report: Callable[[str, str], None]
    failpoints: str = "sink"
    now_ns: Callable[[], int] = field(default=time.time_ns)
    spared: Callable[[], bool] = field(default=lambda: False)
    passed_over: Callable[[], Lsn] = field(default=lambda: Lsn(0))


class SmallSink(ABC):
    """Write batches somewhere, at least once.

    Owns: the target while it runs, the door of the current epoch, the durable progress (kept over restarts).
    Receives: Lease, Batch.  Sends: Receipt, through a cell.
    On stop: when its inbox ends, everything taken is durable already.
    On restart: asks for an epoch newer than the current one and drops everything older.
    """

    def __init__(self, wiring: SinkWiring) -> None:
        self._w = wiring
        self._durable = Progress()
        self._held = Lsn(0)
        """What the slot may stand at without a gap: durable here, or finished when the process's first stream began."""
        self._lease: Lease | None = None
        self._door: Door | None = None
        self._epoch_events = self._events = self._commits = 0
        self._state, self._detail = "starting", ""

    # ---- what a kind of sink defines

    @abstractmethod
    async def open(self) -> None:
        """Make the target ready. Raises OperatorError when a person has to do something about it."""

    @abstractmethod
    def write(self, encoded: Encoded) -> None:
        """Append records, in order. They need not be durable yet."""

    @abstractmethod
    async def make_durable(self) -> None:
        """Return when everything written is as durable as this target can make it."""

    @abstractmethod
    def close(self) -> None:
        """Let the target go; called once for every `open`, also after errors. Does not wait for anybody."""

    # ---- what they share

    def statistics(self) -> SinkStatistics:
        """A snapshot for the admin."""
        durable = self._durable
        return SinkStatistics(
            self._state, self._detail, durable.position.commit_lsn, durable.flush_lsn, self._events, self._commits, 0
        )

    @property
    def durable_events(self) -> int:
        """Events of the current epoch that are durable, skipped ones included."""
        return self._epoch_events

    async def run(self, ctx: ActorContext) -> None:
        """Work until the inbox ends."""
        self._lease = self._door = None
        self._w.rewind.raise_to(self._w.epoch.value)
        ctx.started()
        with self._reactions():
            try:
                await self.open()
                self._report("starting", "waiting for the replication stream")
                await self._work(ctx)
            finally:
                self.close()

    async def _work(self, ctx: ActorContext) -> None:
        while True:
            await failpoint_async(f"{self._w.failpoints}.loop")
            try:
                item = await self._w.inbox.receive()
            except trio.EndOfChannel:
                return
            ctx.beat()
            if isinstance(item, Lease):
                self._begin(item)
            else:
                await self._batch(item)

    def _begin(self, lease: Lease) -> None:
        self._lease = self._door = None
        self._held = self._held or self._w.passed_over() or lease.confirmed_flush
        if lease.epoch <= self._w.rewind.value:
            return
        self._w.encoder.reset()
        self._epoch_events = 0
        if lease.confirmed_flush > self._held:
            refusal = gap(self._held, lease.confirmed_flush, lease.slot)
            if not self._w.spared():
                raise refusal
            # The others went on without it; ending the pipeline would punish them.
            self._w.metrics.error("gap")
            self._report("detached", refusal.line())
        else:
            # Before the first change, what a crashed server sends again is of an earlier process: written once more.
            known = self._durable if self._durable.anchor is not None else Progress()
            self._lease, self._door = lease, Door(lease, known)
            self._report("running")
        self._w.gate.set(lease.epoch)

    async def _batch(self, batch: Batch) -> None:
        lease, door = self._lease, self._door
        if lease is None or door is None or batch.epoch != lease.epoch or lease.epoch <= self._w.rewind.value:
            self._w.budget.release(batch.nbytes, batch.epoch)
            return
        if not door.follows(batch.prev, batch.end):
            self._lease = self._door = None
            self._w.rewind.raise_to(lease.epoch)
            self._w.budget.release(batch.nbytes, batch.epoch)
            return
        began = time.perf_counter()
        taken = [self._item(door, piece) for item in batch.items for piece in door.pieces(item)]
        passed = sum(one.events for one in taken)
        if any(one.events or one.ends for one in taken):
            await failpoint_async(f"{self._w.failpoints}.written")
            await self.make_durable()
        self._epoch_events += batch.events
        self._committed(door, lease.epoch, passed, time.perf_counter() - began)
        self._w.budget.release(batch.nbytes, batch.epoch)

    def _item(self, door: Door, item: Item) -> Passed:
        """One item through the door; returns what of it is new."""
        previous_end = door.accepted.last_commit_end_lsn
        passed = door.take(item)
        if isinstance(item, TransactionPart):
            if passed.events or passed.ends:
                previous_end = item.previous_end or previous_end
                self.write(self._w.encoder.encode(item, passed.skip, previous_end, self._w.now_ns()))
            else:
                self._w.encoder.learn(item)
        elif isinstance(item, TransactionRun):
            previous_end = item.previous_end or previous_end
            self.write(self._w.encoder.encode_run(item, previous_end, self._w.now_ns()))
        elif isinstance(item, LogicalMessage) and passed.events:
            self.write(self._w.encoder.encode_message(item, self._w.now_ns()))
        return passed

    def _committed(self, door: Door, epoch: int, events: int, seconds: float) -> None:
        self._durable = door.accepted
        self._held = max(self._held, door.accepted.flush_lsn)
        door.committed(door.accepted)
        confirmable, events = door.confirmable, self._epoch_events
        self._w.receipts.set(Receipt(epoch, door.durable.position, confirmable, events, door.event_end))
        if events:
            self._events += events
            self._commits += 1
            self._w.metrics.events_sent(events)
            self._w.metrics.observe_latency(seconds)
            self._w.metrics.committed()

    def _report(self, state: str, detail: str = "") -> None:
        self._state, self._detail = state, detail
        self._w.report(state, detail)

    @contextmanager
    def _reactions(self) -> Iterator[None]:
        """Rule 8."""
        try:
            yield
        except DeltaforgeError as error:
            if error.fault not in (Fault.TRANSIENT, Fault.OPERATOR, Fault.REFUSED):
                raise
            self._w.metrics.error(type(error).__name__)
            if error.fault is Fault.REFUSED:
                self._report("refused", error.line())
                raise Escalate(error) from None
            operator = error.fault is Fault.OPERATOR
            self._report("blocked" if operator else "waiting", error.line())
            raise Retry(OPERATOR_DELAY_S if operator else TRANSIENT_DELAY_S, error.line()) from None
