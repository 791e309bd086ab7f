"""Read whole topics as a consumer does, and Kafka's own log segments as its tools show them."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from tests.support.kafka_log import parse_dump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from deltaforge.embedded.kafka import KafkaCluster

READ_S = 120.0


class Record(NamedTuple):
    """One record as a consumer got it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    topic: str = ""
    time_ms: int = 0
    """When it was written, as milliseconds since 1970."""


class Marker(NamedTuple):
    """The end of one Kafka transaction in one partition."""

    topic: str
    partition: int
    offset: int
    producer_id: int
    producer_epoch: int
    committed: bool


def consumer(bootstrap: str, *, committed: bool = True, security: Mapping[str, str] | None = None) -> Consumer:
    """A consumer without a group that sees committed records only, or everything."""
    return Consumer(
        {
            **(security or {}),
            "bootstrap.servers": bootstrap,
            "group.id": "deltaforge-tests",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            "queued.max.messages.kbytes": 65_536,
            "fetch.wait.max.ms": 50,
            # A broker that comes back is to be found at once: what is measured is not the reader.
            "reconnect.backoff.max.ms": 500,
        }
    )


def partitions(reader: Consumer, topic: str) -> list[int]:
    """The topic's partitions. Raises KafkaException when there is no such topic."""
    found = reader.list_topics(topic, timeout=30).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return sorted(found.partitions)


def read(
    bootstrap: str, topic: str, *, committed: bool = True, security: Mapping[str, str] | None = None
) -> list[Record]:
    """Everything in the topic up to where a reader of this kind can come now, partition by partition in order.

    Raises TimeoutError when that takes longer than `READ_S`.
    """
    records = list(stream(bootstrap, [topic], committed=committed, security=security))
    records.sort(key=lambda record: record[:2])
    return records


def stream(
    bootstrap: str, topics: Sequence[str], *, committed: bool = True, security: Mapping[str, str] | None = None
) -> Iterator[Record]:
    """The same of several topics, record by record as they come: in order within each partition.

    Raises TimeoutError when nothing comes for `READ_S`.
    """
    reader = consumer(bootstrap, committed=committed, security=security)
    try:
        open_ = {(topic, number) for topic in topics for number in partitions(reader, topic)}
        reader.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for topic, number in open_])
        deadline = time.monotonic() + READ_S
        while open_:
            if time.monotonic() > deadline:
                raise TimeoutError(f"partitions {sorted(open_)} not read to their end")
            records = take(reader, lambda topic, number: open_.discard((topic, number)))
            if records:
                deadline = time.monotonic() + READ_S
            yield from records
    finally:
        reader.close()


class Watch:
    """Waits for the very next record of a topic, committed or not: a sign that a transaction is open right now."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        """Connect; nothing is read yet."""
        self._consumer = consumer(bootstrap, committed=False)
        self._ends = [TopicPartition(topic, number, OFFSET_END) for number in partitions(self._consumer, topic)]

    def wait(self, seconds: float = 60.0) -> None:
        """Block until a record arrives. Raises TimeoutError when none does."""
        self._consumer.assign(self._ends)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            message = self._consumer.poll(0.5)
            if message is not None and message.error() is None:
                return
        raise TimeoutError(f"no record for {seconds:.0f} s")

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LiveReader:
    """A consumer in a thread of its own that reads a topic for as long as the test runs."""

    def __init__(self, bootstrap: str, topic: str, *, security: Mapping[str, str] | None = None) -> None:
        """Start reading committed records at the beginning of the topic."""
        self.records: list[Record] = []
        self._consumer = consumer(bootstrap, security=security)
        self._consumer.assign(
            [TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions(self._consumer, topic)]
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    @property
    def count(self) -> int:
        """Records so far."""
        return len(self.records)

    def wait_for(self, count: int, *, stalled_s: float = 60.0) -> None:
        """Block until so many records were read. Raises TimeoutError when none comes for `stalled_s`."""
        last, since = -1, time.monotonic()
        while (now := self.count) < count:
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > stalled_s:
                raise TimeoutError(f"{now} of {count} records, and no new one for {stalled_s:.0f} s")
            self._stop.wait(0.05)

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while not self._stop.is_set():
            self.records += take(self._consumer, lambda *_: None)


def take(reader: Consumer, on_end: Callable[[str, int], None]) -> list[Record]:
    """What has come, waiting at most 0.2 s for the first record; `on_end` is told the partitions whose end is reached.

    Raises KafkaException when it will not get better.
    """
    records: list[Record] = []
    for message in reader.consume(2000, timeout=0.2):
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None
        assert partition is not None
        assert offset is not None
        error = message.error()
        if error is None:
            headers: Any = message.headers()
            records.append(
                Record(
                    partition,
                    offset,
                    message.key(),
                    message.value(),
                    tuple(headers) if headers else (),
                    topic,
                    message.timestamp()[1],
                )
            )
        elif error.code() == KafkaError._PARTITION_EOF:
            on_end(topic, partition)
        elif not error.retriable() and error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            raise KafkaException(error)
    return records


_FILE = re.compile(r"^Dumping .*/(?P<topic>[^/]+)-(?P<partition>\d+)/\d+\.log$", re.MULTILINE)


def markers(cluster: KafkaCluster, topic: str, *, node_id: int = 1) -> list[Marker]:
    """The transaction markers of all partitions that one node has of a topic, as Kafka's dump-log tool shows them."""
    segments = sorted(cluster.node(node_id).data.glob(f"{topic}-[0-9]*/*.log"))
    if not segments:
        raise FileNotFoundError(f"node {node_id} has no segment of {topic}")
    arguments = ["--deep-iteration", "--files", ",".join(map(str, segments))]
    return parse_markers(cluster.run_tool("kafka.tools.DumpLogSegments", *arguments))


def parse_markers(dump: str) -> list[Marker]:
    """The transaction markers in a dump of several segment files."""
    found: list[Marker] = []
    files = list(_FILE.finditer(dump))
    for file, following in zip(files, [*files[1:], None], strict=True):
        section = dump[file.end() : following.start() if following else len(dump)]
        for batch in parse_dump(section):
            if batch.marker is not None:
                place = file["topic"], int(file["partition"]), batch.base_offset
                found.append(Marker(*place, batch.producer_id, batch.producer_epoch, batch.marker == "COMMIT"))
    return found


def aborted_transactions(marks: Sequence[Marker]) -> set[tuple[int, int]]:
    """The Kafka transactions that had written something and were aborted by a successor: one producer and epoch each.

    The epoch rises with every start of a producer, so each start ends at most one transaction of its predecessor.
    """
    return {(mark.producer_id, mark.producer_epoch) for mark in marks if not mark.committed}
