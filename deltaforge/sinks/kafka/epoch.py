"""One epoch of a Kafka sink, from the open gate to the next Lease.

Theory of operation. `stream` takes batches; each item passes the door, is encoded and handed to librdkafka. `Grouping`
says when the Kafka transaction ends; `_settle` then commits it beside us, and until it is done whatever comes is
encoded and kept in `_pending`. Exactly one settle runs at a time.

Rule 1: nothing enters librdkafka between the checkpoint record and the end of its commit.
Rule 2: `Door.accepted` is what the next record says, taken at the moment the transaction ends.
Rule 3: any doubt leaves through an exception; nothing here repairs.
Rule 4: a heartbeat is no event: it goes with the next commit when it is due, and a commit is made for it when idle.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import trio

from deltaforge.errors import DeltaforgeError, Refused, TransientError
from deltaforge.failpoints import failpoint_async
from deltaforge.model import (
    Batch,
    Checkpoint,
    Lease,
    LogicalMessage,
    Lsn,
    Progress,
    Receipt,
    TransactionPart,
    TransactionRun,
    Watermark,
)
from deltaforge.position import Door, Passed, item_flush
from deltaforge.sinks.kafka.grouping import End, Grouping, Limits
from deltaforge.sinks.kafka.producer import Doubt
from deltaforge.sinks.kafka.writer import Writer

if TYPE_CHECKING:
    from actors import ActorContext
    from deltaforge.envelopes.base import Encoded
    from deltaforge.model import Item
    from deltaforge.sinks.kafka.actor import Memory
    from deltaforge.sinks.kafka.opening import Opened
    from deltaforge.sinks.kafka.session import Session
    from deltaforge.sinks.kafka.wiring import KafkaWiring

_IDLE_S, _IDLE_BYTES = 10.0, 16 * 1024 * 1024
"""An idle checkpoint confirms WAL that holds nothing for us: at most this often, or after so much WAL."""
_SILENT_S = 30.0
_DELIVERED_S = 0.01


class LostOnTheWay(TransientError):
    """A stage restarted and lost what it had in hand; the next epoch brings it again."""


class Epoch:
    """The streaming half of a Kafka sink, for one Lease."""

    def __init__(
        self, wiring: KafkaWiring, lease: Lease, opened: Opened, session: Session, nursery: trio.Nursery, memory: Memory
    ) -> None:
        batching = wiring.batching
        self._w, self._lease, self._session, self._nursery, self._memory = wiring, lease, session, nursery, memory
        self._door = Door(lease, opened.progress)
        self._door.committed(msgspec.structs.replace(opened.progress, flush_lsn=opened.recorded_flush))
        self._split_lsn = _half_delivered(opened.progress)
        self._seq = opened.seq
        self._writer = Writer(wiring, lease, session, opened.marks)
        limit_s = min(batching.max_tx_seconds or wiring.transaction_timeout_s / 2, wiring.transaction_timeout_s * 0.9)
        self._group = Grouping(
            Limits(
                batching.max_ms / 1000,
                batching.respect_source_tx,
                batching.max_tx_events,
                batching.max_tx_bytes,
                min(limit_s, memory.max_tx_s or limit_s),
                batching.on_large_tx == "split",
            ),
            memory.room,
        )
        # A transaction must not expire in Kafka before anybody finds the stream silent.
        self._silent_s = min(_SILENT_S, wiring.transaction_timeout_s / 2)
        self._settled = trio.Event()
        self._settled.set()
        self._failure: DeltaforgeError | None = None
        self._wake: trio.CancelScope | None = None
        self._at_commit = True
        self._taken = 0
        self._ending: tuple[int, Lsn] | None = None
        """Bytes and last source transaction of what is being committed."""
        self._last_checkpoint = self._last_item = trio.current_time()
        self._receipt: Receipt | None = None
        memory.epoch_events = 0
        if memory.beaten_at is None:
            memory.beaten_at = trio.current_time()

    # ---- taking

    async def stream(self, ctx: ActorContext) -> Lease | None:
        """Work until the next Lease, which is returned, or until the inbox ends (None).

        Raises:
          Refused: the stream is another history.
          Doubt, DeltaforgeError: the epoch has to be given up.
        """
        while True:
            self._check()
            ctx.beat()
            await failpoint_async("sink.loop")
            try:
                item = await self._receive()
            except trio.EndOfChannel:
                await self._drain()
                return None
            if isinstance(item, Lease):
                return item
            if item is None:
                await self._tick()
            elif item.epoch == self._lease.epoch:
                await self._batch(item)
                # Only now: while we waited for Kafka it was not the stream that kept silent.
                self._last_item = trio.current_time()

    async def _receive(self) -> Lease | Batch | None:
        """The next item, or None when time or a finished commit asks for attention."""
        with trio.CancelScope(deadline=self._deadline()) as self._wake:
            try:
                return await self._w.inbox.receive()
            finally:
                self._wake = None
        return None

    def _deadline(self) -> float:
        if self._writer.pending and self._settled.is_set():
            return trio.current_time()
        if self._group.open and not self._at_commit:
            # Deliveries make no event, and the reader may be waiting for the room they give back.
            silent = self._last_item + self._silent_s
            return min(silent, trio.current_time() + _DELIVERED_S) if self._session.inflight else silent
        beat = self._beat_at() if self._settled.is_set() else math.inf
        if self._idle_gain():
            return min(self._last_checkpoint + _IDLE_S, beat)
        return min(trio.current_time() + _IDLE_S, beat)

    def _beat_at(self) -> float:
        """When the next heartbeat is due."""
        heartbeat, last = self._w.heartbeat, self._memory.beaten_at
        return math.inf if heartbeat is None or last is None else last + heartbeat.interval_s

    def _idle_gain(self) -> int:
        """Bytes of WAL that an idle checkpoint would let PostgreSQL forget."""
        if self._group.open or not self._settled.is_set():
            return 0
        return self._door.accepted.flush_lsn - self._door.durable.flush_lsn

    async def _tick(self) -> None:
        self._check()
        now = trio.current_time()
        self._writer.release()
        if self._session.inflight or not self._settled.is_set():
            # Whoever waits for Kafka cannot blame the stream for its silence.
            self._last_item = now
        await self._flush_pending()
        if self._group.open and not self._at_commit and now >= self._last_item + self._silent_s:
            self._silent()
        await self._consider_end(more_waits=self._more_waits())
        gain = self._idle_gain()
        confirm = gain >= _IDLE_BYTES or (gain and now >= self._last_checkpoint + _IDLE_S)
        beat = self._settled.is_set() and not self._group.open and now >= self._beat_at()
        if confirm or beat:
            self._end()

    def _silent(self) -> None:
        """The stream fell silent inside a transaction, which pins every reader of the topic."""
        lsn = self._door.accepted.position.commit_lsn
        if self._memory.silent_at != lsn:
            self._memory.silent_at = lsn
            raise LostOnTheWay(f"no data for {self._silent_s:.0f} s inside the transaction at {lsn}")
        self._split(f"the stream was silent twice inside the transaction at {lsn}")

    async def _batch(self, batch: Batch) -> None:
        if not self._door.follows(batch.prev, batch.end):
            raise LostOnTheWay(f"batch {batch.prev} of epoch {batch.epoch} does not follow the last one taken")
        overhead, last = batch.nbytes, len(batch.items) - 1
        for n, item in enumerate(batch.items):
            if not isinstance(item, Watermark):
                overhead -= item.nbytes
            pieces = self._door.pieces(item)
            for piece in pieces:
                await self._take(piece)
                more = n < last or piece is not pieces[-1]
                await self._consider_end(more_waits=more or self._more_waits())
        if not batch.items:
            # It made the one before it wait for more, and was not worth waiting for.
            await self._consider_end(more_waits=self._more_waits())
        self._w.budget.release(overhead, batch.epoch)
        self._writer.handed()
        self._confirm()
        if self._idle_gain() >= _IDLE_BYTES:
            self._end()

    def _more_waits(self) -> bool:
        return self._w.inbox.statistics().buffered > 0

    async def _take(self, item: Item) -> None:
        """One item through the door."""
        before = self._door.accepted.last_commit_end_lsn
        passed = self._door.take(item)
        if isinstance(item, Watermark):
            return
        if self._at_commit:
            self._group.next_source()
        self._at_commit = item_flush(item) != 0
        self._taken += passed.skip + passed.events
        encoded = self._encode(item, passed, before)
        if encoded is None:
            self._w.budget.release(item.nbytes, self._lease.epoch)
            return
        self._writer.weigh(item.nbytes, encoded)
        self._group.add(passed.events, encoded.nbytes, item.nbytes, trio.current_time())
        if self._settled.is_set() and not self._writer.pending:
            await self._writer.produce(encoded)
        elif self._writer.keep(encoded, self._memory.room.nbytes):
            await self._settled.wait()
            await self._flush_pending()

    async def _flush_pending(self) -> None:
        """Produce what was kept while a commit was in flight, once it is done."""
        if self._writer.pending and self._settled.is_set():
            self._check()
            await self._writer.produce_pending()

    def _encode(
        self, item: TransactionPart | TransactionRun | LogicalMessage, passed: Passed, before: Lsn
    ) -> Encoded | None:
        encoder, now_ns = self._w.encoder, self._w.now_ns()
        if isinstance(item, TransactionRun):
            return encoder.encode_run(item, item.previous_end or before, now_ns)
        if isinstance(item, LogicalMessage):
            return encoder.encode_message(item, now_ns) if passed.events else None
        if not (passed.events or passed.ends):
            encoder.learn(item)
            return None
        # Parts of a transaction that was split can only be put together again by their positions.
        split = item.commit_lsn == self._split_lsn
        encoded = encoder.encode(item, passed.skip, item.previous_end or before, now_ns, positions=split)
        return encoded if passed.events or encoded.topics else None

    # ---- ending

    async def _consider_end(self, *, more_waits: bool) -> None:
        if not self._settled.is_set() or self._writer.pending:
            return
        now, lsn = trio.current_time(), self._door.accepted.position.commit_lsn
        end = self._group.end(at_commit=self._at_commit, more_waits=more_waits, now=now, lsn=lsn)
        if end is End.COMMIT:
            self._writer.handed()
            self._end()
        elif end is End.SPLIT:
            self._writer.handed()
            self._split("it is above the limits of the batch section")

    def _split(self, why: str) -> None:
        lsn = self._door.accepted.position.commit_lsn
        if self._w.batching.on_large_tx == "halt":
            raise Refused(
                f"the source transaction at {lsn} would have to be split: {why}",
                hint="raise batch.max_tx_events, max_tx_bytes or max_tx_seconds, or allow it with on_large_tx: split",
            )
        self._split_lsn = lsn
        self._end()

    def _end(self) -> None:
        """End the Kafka transaction; the commit goes on beside us."""
        self._session.begin()
        progress, started, events = self._door.accepted, self._group.started, self._group.events
        self._seq += 1
        self._ending = self._group.nbytes, progress.position.commit_lsn
        self._group.clear()
        self._settled = trio.Event()
        self._nursery.start_soon(self._settle, self._record(progress), progress, started, events, self._taken)

    def _record(self, progress: Progress) -> Checkpoint:
        lease, identity = self._lease, self._w.identity
        return Checkpoint(
            state="running",
            system_id=lease.system_id,
            timeline=lease.timeline,
            database=lease.database,
            slot=lease.slot,
            publication=identity.publication,
            options=identity.options,
            instance=identity.instance,
            seq=self._seq,
            progress=progress,
            topics=self._writer.marks,
        )

    async def _settle(
        self, record: Checkpoint, progress: Progress, started: float | None, events: int, taken: int
    ) -> None:
        """Commit, then say so. A doubt is kept for `stream` to find."""
        try:
            await self._beat()
            slow = await self._session.settle(self._w.checkpoint.name, self._w.encode_record(record))
            self._writer.release()
            self._durable(progress, started, events, taken)
            await failpoint_async("kafka.after_receipt")
            if slow and self._w.config.exactly_once:
                await self._session.rebuild()
            await self._writer.renew_marks()
            await trio.sleep(self._session.pause_s)
        except Doubt as doubt:
            self._failure = doubt.cause
        except DeltaforgeError as error:
            self._failure = error
        finally:
            self._settled.set()
            if self._wake is not None:
                self._wake.cancel(reason="a commit is done")

    async def _beat(self) -> None:
        """Write a heartbeat if it is due. Raises Doubt."""
        heartbeat, now = self._w.heartbeat, trio.current_time()
        if heartbeat is not None and now >= self._beat_at():
            self._memory.beaten_at = now
            await self._session.produce(heartbeat.record(self._w.now_ns()), [0])

    def _durable(self, progress: Progress, started: float | None, events: int, taken: int) -> None:
        memory, metrics = self._memory, self._w.metrics
        now = self._last_checkpoint = trio.current_time()
        self._door.committed(progress)
        memory.commits += 1
        if self._ending is not None:
            memory.room.taken(self._ending[0], self._session.took_s, self._w.config.send_timeout_secs)
            self._ending = None
        memory.events += events
        memory.epoch_events = taken
        memory.durable, memory.flush = progress.position.commit_lsn, progress.flush_lsn
        metrics.committed()
        metrics.events_sent(events)
        if started is not None:
            metrics.observe_latency(now - started)
        self._confirm()

    def _confirm(self) -> None:
        """Tell the checkpointer what is durable and what this stream has reached."""
        door = self._door
        events = self._memory.epoch_events
        receipt = Receipt(self._lease.epoch, door.durable.position, door.confirmable, events, door.event_end)
        if receipt != self._receipt:
            self._receipt = receipt
            self._w.receipts.set(receipt)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._session.check()

    async def _drain(self) -> None:
        """The inbox has ended: commit what ends at a source COMMIT, abort the rest."""
        await self._settled.wait()
        await self._flush_pending()
        self._check()
        if self._group.open and not (self._at_commit or not self._w.batching.respect_source_tx):
            await self._session.abort()
        elif self._group.open or self._idle_gain():
            self._end()
            await self._settled.wait()
        self._check()

    def remember_expiry(self) -> None:
        """The epoch ended in doubt: a transaction that was open too long, or sent too slowly, is smaller next time."""
        if self._session.late:
            open_one = self._group.nbytes, self._door.accepted.position.commit_lsn
            self._memory.room.missed(*(self._ending or open_one))
        if self._group.started is not None and not self._at_commit:
            age = trio.current_time() - self._group.started
            if age > self._w.transaction_timeout_s / 2:
                self._memory.max_tx_s = age / 2


def _half_delivered(progress: Progress) -> Lsn:
    """Commit LSN of the transaction the checkpoint stands inside of; 0 when it stands between two."""
    inside = progress.anchor is not None and progress.anchor.message_crc is None
    at = progress.position.commit_lsn
    return at if inside and progress.flush_lsn <= at else Lsn(0)
