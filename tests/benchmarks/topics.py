"""What a run has left in Kafka: when its last transaction was durable, and whether every row is there."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from deltaforge.model import Lsn
from tests.support.topics import consumer, partitions

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_S = 0.1
_STALLED_S = 120.0


class PositionWatch:
    """Reads where a program writes its positions: the cheapest way to see from outside how far the program is."""

    def __init__(self, bootstrap: str, topic: str, position: Callable[[bytes, bytes], Lsn | None]) -> None:
        """Connect; the topic need not exist yet.

        Args:
          position: what key and value of a record of the topic say; None when they are about something else.
        """
        self._topic = topic
        self._position = position
        self._consumer = consumer(bootstrap)

    def wait(self, past: Lsn, alive: Callable[[], None]) -> float:
        """Block until a position past this one is recorded as delivered.

        Returns the time at which the very first one was.

        `alive` is asked whenever nothing has come for a moment, and raises when nothing can come any more.
        """
        self._consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
        reached, first = Lsn(0), 0.0
        while reached <= past:
            message = self._consumer.poll(POLL_S)
            if message is None:
                alive()
            elif (error := message.error()) is None:
                reached = self._position(message.key() or b"", message.value() or b"") or reached
                first = first or (time.monotonic() if reached else 0.0)
            elif error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
        return first

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()


def checkpoint_of(_: bytes, value: bytes) -> Lsn:
    """The end of the last transaction that a record of a checkpoint topic tells of."""
    return Lsn.parse(json.loads(value)["last_commit_end_lsn"])


def check(bootstrap: str, topic: str, rows: int, *, exactly: bool) -> None:
    """Read the topic as a read_committed consumer: every row is there, and with `exactly` none is there twice.

    Raises AssertionError when that is not so.
    """
    records, keys = _count(bootstrap, topic)
    assert keys == rows, f"{topic} holds {keys} keys, expected {rows}"
    assert records == rows or not exactly, f"{topic} holds {records} records, expected {rows}"


def _count(bootstrap: str, topic: str) -> tuple[int, int]:
    """Records and different keys. Partition by partition: a key is in one partition only, and ten million are many."""
    reader = consumer(bootstrap)
    try:
        counts = [_count_partition(reader, TopicPartition(topic, n, 0)) for n in partitions(reader, topic)]
    finally:
        reader.close()
    return sum(records for records, _ in counts), sum(keys for _, keys in counts)


def _count_partition(reader: Consumer, place: TopicPartition) -> tuple[int, int]:
    reader.assign([place])
    records, keys = 0, set[bytes | None]()
    last = time.monotonic()
    while True:
        messages = reader.consume(10_000, timeout=POLL_S)
        ended = False
        while messages and (error := messages[-1].error()) is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            messages.pop()
            ended = True
        records += len(messages)
        keys.update([message.key() for message in messages])
        if ended:
            return records, len(keys)
        if messages:
            last = time.monotonic()
        elif time.monotonic() > last + _STALLED_S:
            raise TimeoutError(f"{place.topic} [{place.partition}]: no record for {_STALLED_S:.0f} s")
