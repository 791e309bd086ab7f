"""Records on their way into librdkafka: partitions, the byte budget, and what waits for a commit in flight."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

from actors import beat_here
from deltaforge.errors import TransientError
from deltaforge.failpoints import failpoint_async
from deltaforge.logs import get_logger
from deltaforge.sinks.kafka.opening import compare_topics
from deltaforge.sinks.kafka.partition import partitions
from deltaforge.sinks.kafka.topics import create_missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltaforge.envelopes.base import Encoded
    from deltaforge.model import Lease, TopicMark
    from deltaforge.sinks.kafka.session import Session
    from deltaforge.sinks.kafka.wiring import KafkaWiring

log = get_logger("kafka")

_PENDING_BYTES = 8 * 1024 * 1024
"""Encoded bytes kept while a commit is in flight; more and we wait for it."""
_LIBRDKAFKA_OVERHEAD = 1.4
"""What a record weighs in librdkafka, over its key and value."""
_FULL_S = 0.002
_MARKS_S, _MARKS_PATIENCE_S = 10.0, 2.0
_TURN_S = 0.005
"""Nothing here waits while there is room: so long may records be handed over before others get a turn."""


class Writer:
    """Hands the records of one epoch to its session."""

    def __init__(self, wiring: KafkaWiring, lease: Lease, session: Session, marks: Sequence[TopicMark]) -> None:
        self._w, self._lease, self._session = wiring, lease, session
        self._marks = {mark.topic: mark for mark in marks}
        self._marked_at = self._turned_at = trio.current_time()
        self._pending: list[Encoded] = []
        self._pending_bytes = self._unhanded = 0
        self._pinned: frozenset[tuple[str, int, int]] = frozenset()

    @property
    def pending(self) -> bool:
        """Whether records wait for a commit in flight."""
        return bool(self._pending)

    @property
    def marks(self) -> tuple[TopicMark, ...]:
        """The data topics as last looked at."""
        return tuple(self._marks.values())

    def weigh(self, wal_bytes: int, encoded: Encoded) -> None:
        """In the byte budget, let the records take the place of the WAL they were made from."""
        weight = int(encoded.nbytes * _LIBRDKAFKA_OVERHEAD)
        self._w.budget.swap(wal_bytes, weight, self._lease.epoch)
        self._unhanded += weight

    def keep(self, encoded: Encoded, room: int) -> bool:
        """Keep records until `produce_pending`; says whether enough are kept to wait for the commit.

        Args:
          encoded: the records.
          room: bytes that a Kafka transaction may have: what is kept goes into the next one as a whole.
        """
        self._pending.append(encoded)
        self._pending_bytes += encoded.nbytes
        return self._pending_bytes >= min(room, _PENDING_BYTES)

    async def produce_pending(self) -> None:
        """Produce what was kept. Raises Doubt."""
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        for encoded in pending:
            await self.produce(encoded)
        self.handed()

    async def produce(self, encoded: Encoded) -> None:
        """Hand records to librdkafka, opening a Kafka transaction if none is open.

        Raises:
          Doubt: a record was refused, or an earlier one failed.
          TransientError, OperatorError: a topic is missing and cannot be created, or must not be.
        """
        if trio.current_time() - self._turned_at > _TURN_S:
            await trio.lowlevel.checkpoint()
            self._turned_at = trio.current_time()
        self._session.begin()
        await failpoint_async("kafka.before_produce")
        while self._session.inflight >= self._w.batching.max_inflight:
            self.release()
            self._session.check()
            if self._session.inflight >= self._w.batching.max_inflight:
                # Good deliveries make no callback: there is no event to wait for. And waiting for Kafka is no stall.
                beat_here()
                await trio.sleep(_FULL_S)
        if encoded.topics:
            await self._session.produce(encoded, await self._partitions(encoded))
        await failpoint_async("kafka.after_produce")

    def handed(self) -> None:
        """What was produced since the last call is one batch."""
        if self._pending or not self._unhanded:
            return
        self._session.handed(self._unhanded)
        self._unhanded = 0
        self.release()

    def release(self) -> None:
        """Give the bytes of delivered batches back to the budget."""
        freed = self._session.delivered()
        if freed:
            self._w.budget.release(freed, self._lease.epoch)

    async def _partitions(self, encoded: Encoded) -> Sequence[int]:
        topics = encoded.topics
        if topics.count(topics[0]) == len(topics):
            return partitions(encoded.keys, await self._count(topics[0]))
        chosen = [0] * len(topics)
        for topic in set(topics):
            rows = [row for row, name in enumerate(topics) if name == topic]
            numbers = partitions([encoded.keys[row] for row in rows], await self._count(topic))
            for row, number in zip(rows, numbers, strict=True):
                chosen[row] = number
        return chosen

    async def _count(self, topic: str) -> int:
        mark = self._marks.get(topic)
        if mark is None:
            # One that depends on the row, of a table that joined later, or of logical messages.
            if self._w.config.create_topics is not None:
                await create_missing((topic,), self._w.config.create_topics, self._w.connection)
            (mark,) = await self._w.checkpoint.topic_marks((topic,))
            self._marks[topic] = mark
        return len(mark.high_watermarks)

    async def renew_marks(self) -> None:
        """Note now and then how far the data topics reach, for the next start's comparison. Raises Refused."""
        now = trio.current_time()
        if not self._marks or now < self._marked_at + _MARKS_S:
            return
        self._marked_at = now
        known = tuple(self._marks.values())
        found: tuple[TopicMark, ...] = ()
        with contextlib.suppress(TransientError), trio.move_on_after(_MARKS_PATIENCE_S):
            # The next transaction waits for this, and can do without it.
            found = await self._w.checkpoint.topic_marks([mark.topic for mark in known])
            self._tell(await self._w.checkpoint.pinned(known))
        if not found:
            return
        marks, _ = compare_topics(known, found)
        self._marks |= {mark.topic: mark for mark in marks}

    def _tell(self, pinned: frozenset[tuple[str, int, int]]) -> None:
        """Say once where committed readers stand still. Ours have ended: somebody else's transaction is open there.

        It keeps us from nothing, so nothing else would tell.
        """
        for topic, partition, offset in sorted(pinned - self._pinned):
            where = f"--topic {topic} --partition {partition}"
            log.warning(
                "committed readers are held up by the open transaction of another producer",
                sink=self._w.config.id,
                topic=topic,
                partition=partition,
                offset=offset,
                hint=f"for its producer's id run: kafka-transactions.sh --bootstrap-server {self._w.config.brokers} "
                f"describe-producers {where}; if nobody is left to end it: ... abort {where} --start-offset {offset}",
            )
        self._pinned = pinned
