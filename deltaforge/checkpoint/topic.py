"""The checkpoint topic: one compacted partition per Kafka sink, from which a sink learns how far it has come.

Rule 1: the log's end is asked for as read_uncommitted, whatever is read afterwards as read_committed. The last stable
        offset, which a read_committed reader takes for the end, hides every record above an open transaction.
Rule 2: the end is reached when the partition's end-of-partition event stands there. Transaction markers occupy offsets,
        so the offset of the last record says nothing.
Rule 3: `peek` never waits for a transaction, `read` does; only what `read` returns is good for going on.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import confluent_kafka as ck
import trio

from deltaforge.checkpoint import settings
from deltaforge.checkpoint.record import encode
from deltaforge.checkpoint.scan import Found, Newest, windows
from deltaforge.errors import Fault, TransientError
from deltaforge.failpoints import failpoint_async
from deltaforge.model import Checkpoint, Stored, TopicMark
from deltaforge.sinks.kafka import faults
from deltaforge.sinks.kafka.cluster import SLICE_S, Cluster, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SILENCE_S = 30.0
"""How long the partition may show neither a record nor its end before the broker counts as away."""

_AT_ONCE = 5000
_PATIENCE_S = 2.0
"""Our own last transaction has ended sooner: a longer wait is for somebody else's, and worth telling."""

_READER: dict[str, object] = {
    "group.id": "deltaforge-checkpoint-reader",  # librdkafka wants one; nothing is ever committed to it
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    "fetch.wait.max.ms": 100,
    "fetch.error.backoff.ms": 100,
}

_WRITER: dict[str, object] = {
    "enable.idempotence": True,
    "acks": "all",
    "message.timeout.ms": int(SILENCE_S * 1000),
    "linger.ms": 0,
}


def _untold(_: str) -> None:
    """Nobody wants to know."""


class CheckpointTopic:
    """Reads and prepares one checkpoint topic. `client_properties` are librdkafka's; those of producing are ignored.

    One call at a time. All methods raise TransientError (brokers away: try again) and OperatorError (a right or a
    credential is missing). `aclose` ends the connection that is kept between calls.
    """

    def __init__(self, name: str, client_properties: Mapping[str, object], *, instance: str) -> None:
        self.name = name
        self.instance = instance
        self._cluster = Cluster(settings.connection_properties(client_properties))

    async def peek(self) -> Stored:
        """The newest records up to the last stable offset; empty when there is no topic. Never waits for a transaction.

        Raises:
          Refused: a record is damaged, not ours or of a newer format.
        """
        return await self._newest(stable=True, wait_s=0.0, held_up=_untold)

    async def read(self, *, wait_s: float, held_up: Callable[[str], None] = _untold) -> Stored:
        """The newest committed records of the log as long as it is now; empty when there is no topic.

        Waits up to `wait_s` seconds for transactions of others that are open below the log's end. `held_up` is told
        in a line what is waited for, when that takes more than a moment.

        Raises:
          TransientError: such a transaction is still open.
          Refused: a record is damaged, not ours or of a newer format.
        """
        return await self._newest(stable=False, wait_s=wait_s, held_up=held_up)

    async def topic_marks(self, topics: Sequence[str]) -> tuple[TopicMark, ...]:
        """Id, partitions and ends (asked as read_uncommitted) of data topics, in the given order.

        Raises:
          OperatorError: a topic is missing.
        """
        self._cluster.begin()
        described = {}
        for topic in dict.fromkeys(topics):
            if (found := await self._cluster.describe(topic)) is None:
                raise faults.missing_topic(topic, self._cluster.brokers)
            described[topic] = str(found.topic_id), range(len(found.partitions))
        wanted = [(topic, number) for topic, (_, numbers) in described.items() for number in numbers]
        ends = await self._cluster.ends(wanted, stable=False)
        return tuple(
            TopicMark(topic, described[topic][0], tuple(ends[topic, number] for number in described[topic][1]))
            for topic in topics
        )

    async def pinned(self, marks: Sequence[TopicMark]) -> frozenset[tuple[str, int, int]]:
        """Partitions whose committed readers stand before an open transaction, below the ends that `marks` have.

        Returns topic, partition and the offset where they stand.
        """
        self._cluster.begin()
        before = {(mark.topic, number): end for mark in marks for number, end in enumerate(mark.high_watermarks)}
        stable = await self._cluster.ends(list(before), stable=True)
        return frozenset((*place, at) for place, at in stable.items() if at < before[place])

    async def ensure(self, like_topic: str | None) -> tuple[str, ...]:
        """Create the topic when it is missing, replicated like `like_topic` (None: as the broker's defaults say).

        A topic that exists is judged, also when another process creates it at this moment. Returns warnings: settings
        that we have no right to read.

        Raises:
          Refused: the existing topic could lose a record.
          OperatorError: `like_topic` is missing.
        """
        self._cluster.begin()
        if await self._cluster.describe(self.name) is not None:
            return await self._judge()
        replicas, min_insync, warnings = await self._as(like_topic)
        created = await self._cluster.create(self.name, 1, replicas, settings.topic_settings(min_insync))
        return warnings if created else warnings + await self._judge()

    async def write_first(self, record: Checkpoint) -> None:
        """Write a `creating` or `born` record outside any transaction; returns when all in-sync replicas have it.

        After an error the record may or may not be there.
        """
        self._cluster.begin()
        key, value = encode(record)
        outcome: list[ck.KafkaError | None] = []
        producer = await self._cluster.open(ck.Producer, _WRITER)

        def produce() -> None:
            producer.produce(self.name, value, key, partition=0, on_delivery=lambda error, _: outcome.append(error))

        try:
            await self._cluster.thread(produce)
            while not outcome:
                await self._cluster.thread(lambda: producer.poll(SLICE_S))
        except ck.KafkaException as error:
            # What is fatal for the client is raised by poll and comes in no report.
            raise self._cluster.fault(error.args[0], f'write checkpoint topic "{self.name}"') from None
        finally:
            with trio.move_on_after(5, shield=True):
                await self._cluster.thread(lambda: _discard(producer))
        if outcome[0] is not None:
            raise self._cluster.fault(outcome[0], f'write checkpoint topic "{self.name}"')

    async def aclose(self) -> None:
        """End the connection kept between calls. The object can be used again afterwards."""
        await self._cluster.aclose()

    # ---- inside

    async def _judge(self) -> tuple[str, ...]:
        found = await self._cluster.describe(self.name)
        if found is None:
            raise TransientError(f'checkpoint topic "{self.name}" disappeared while it was looked at')
        try:
            current = await self._cluster.settings(self.name)
        except Unreadable as error:
            return (f'cannot check the settings of checkpoint topic "{self.name}": {error}',)
        settings.check(self.name, len(found.partitions), current)
        return ()

    async def _as(self, like_topic: str | None) -> tuple[int, str | None, tuple[str, ...]]:
        """Replicas, min.insync.replicas and warnings for a new topic."""
        if like_topic is None:
            return -1, None, ()
        like = await self._cluster.describe(like_topic)
        if like is None:
            raise faults.missing_topic(like_topic, self._cluster.brokers)
        replicas = len(like.partitions[0].replicas)
        try:
            return replicas, (await self._cluster.settings(like_topic)).get("min.insync.replicas"), ()
        except Unreadable as error:
            return replicas, None, (f'cannot read min.insync.replicas of topic "{like_topic}": {error}',)

    async def _newest(self, *, stable: bool, wait_s: float, held_up: Callable[[str], None]) -> Stored:
        self._cluster.begin()
        newest = Newest(self.name)
        if await self._cluster.describe(self.name) is None:
            return newest.stored()
        partition = (self.name, 0)
        low = (await self._cluster.begins([partition]))[partition]
        end = (await self._cluster.ends([partition], stable=stable))[partition]
        if low >= end:
            return newest.stored()
        consumer = await self._cluster.open(ck.Consumer, _READER)
        try:
            for start, stop in windows(low, end):
                await failpoint_async("checkpoint.reading")
                await self._window(consumer, newest, start, stop, wait_s, held_up)
                if newest.close_window():
                    break
        finally:
            with trio.move_on_after(5, shield=True):
                await self._cluster.thread(consumer.close)
        return newest.stored()

    async def _window(
        self,
        consumer: ck.Consumer,
        newest: Newest,
        start: int,
        stop: int,
        wait_s: float,
        held_up: Callable[[str], None],
    ) -> None:
        """Read one window to its stop."""
        await self._cluster.thread(lambda: consumer.assign([ck.TopicPartition(self.name, 0, start)]))
        heard = trio.current_time()
        reached = start
        pinned = told = False
        while reached < stop:
            for message in await self._cluster.thread(lambda: _poll(consumer)):
                offset, error = message.offset() or 0, message.error()
                if error is None:
                    reached = offset + 1
                    if offset < stop:
                        newest.add(Found(offset, message.key(), message.value()))
                elif error.code() == ck.KafkaError._PARTITION_EOF:
                    reached = offset
                else:
                    self._complained(error)
                    continue
                heard, pinned = trio.current_time(), error is not None
            pinned_s = trio.current_time() - heard if pinned and reached < stop else -1.0
            if pinned_s >= wait_s:
                raise self._pinned(reached, stop)
            if pinned_s >= _PATIENCE_S and not told:
                held_up(self._pinned(reached, stop).line())
                told = True
            if not pinned and self._cluster.silent(heard, SILENCE_S):
                raise self._cluster.away(f'read checkpoint topic "{self.name}"', "the broker sends nothing")

    def _complained(self, error: ck.KafkaError) -> None:
        # We are in no group; librdkafka asks for its coordinator all the same, and users need not allow that.
        if error.name() == "GROUP_AUTHORIZATION_FAILED":
            return
        found = self._cluster.fault(error, f'read checkpoint topic "{self.name}"')
        if found.fault is not Fault.TRANSIENT:
            raise found

    def _pinned(self, at: int, end: int) -> TransientError:
        return TransientError(
            f'checkpoint topic "{self.name}": the open transaction of another producer pins the partition at offset '
            f"{at} (its end is {end}); what lies above cannot be read yet",
            hint="it ends with its timeout; for its producer's id run: kafka-transactions.sh --bootstrap-server "
            f"{self._cluster.brokers} describe-producers --topic {self.name} --partition 0; if nobody is left to end "
            f"it: ... abort --topic {self.name} --partition 0 --start-offset {at}",
        )


def _poll(consumer: ck.Consumer) -> list[ck.Message]:
    """In a thread: what arrives within a slice, up to a limit; at once at the end of the partition."""
    messages: list[ck.Message] = []
    deadline = time.monotonic() + SLICE_S
    while len(messages) < _AT_ONCE and (left := deadline - time.monotonic()) > 0:
        message = consumer.poll(left)
        if message is not None:
            messages.append(message)
            if message.error() is not None:
                break
    return messages


def _discard(producer: ck.Producer) -> None:
    producer.purge()
    producer.poll(0)
