"""Make topics on a real cluster and read back what is in them."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # no __all__
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka import Message

Isolation = Literal["read_committed", "read_uncommitted"]
ADMIN_S = 30.0


@dataclass(frozen=True)
class Record:
    """One Kafka record as a consumer gets it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int


def create_topic(
    bootstrap: str,
    name: str,
    partitions: int = 1,
    replication_factor: int = -1,
    config: Mapping[str, str] | None = None,
) -> str:
    """Create a topic, wait until every partition has a leader, return its name. Factor -1 is the cluster's default."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = NewTopic(name, partitions, replication_factor, config=dict(config or {}))
    admin.create_topics([new], operation_timeout=ADMIN_S)[name].result(ADMIN_S)
    deadline = time.monotonic() + ADMIN_S
    while not _led(admin, name, partitions):
        if time.monotonic() > deadline:
            raise TimeoutError(f"topic {name} has no leaders")
        time.sleep(0.05)
    return name


def delete_topic(bootstrap: str, name: str) -> None:
    """Delete a topic and wait until no broker lists it."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([name], operation_timeout=ADMIN_S)[name].result(ADMIN_S)
    deadline = time.monotonic() + ADMIN_S
    while name in topic_names(bootstrap):
        if time.monotonic() > deadline:
            raise TimeoutError(f"topic {name} is still listed")
        time.sleep(0.05)


def alter_topic(bootstrap: str, name: str, config: Mapping[str, str]) -> None:
    """Change settings of a topic."""
    alter(bootstrap, ConfigResource.Type.TOPIC, name, config)


def alter(bootstrap: str, kind: Any, name: str, config: Mapping[str, str]) -> None:
    """Change settings of a resource, `kind` being a ConfigResource.Type; a broker's name is its number."""
    entries = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in config.items()]
    resource = ConfigResource(kind, name, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.incremental_alter_configs([resource])[resource].result(ADMIN_S)


def grow_topic(bootstrap: str, name: str, partitions: int) -> None:
    """Let a topic have so many partitions, and wait until all have leaders."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_partitions([NewPartitions(name, partitions)], operation_timeout=ADMIN_S)[name].result(ADMIN_S)
    deadline = time.monotonic() + ADMIN_S
    while not _led(admin, name, partitions):
        if time.monotonic() > deadline:
            raise TimeoutError(f"topic {name} has no leaders")
        time.sleep(0.05)


def truncate_topic(bootstrap: str, name: str) -> None:
    """Delete all records of a topic."""
    places = [TopicPartition(name, number, end) for number, end in end_offsets(bootstrap, name).items()]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for answer in admin.delete_records(places).values():
        answer.result(ADMIN_S)


def topic_names(bootstrap: str) -> set[str]:
    """The topics of a cluster."""
    return set(AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=ADMIN_S).topics)


def end_offsets(bootstrap: str, topic: str, isolation: Isolation = "read_committed") -> dict[int, int]:
    """Partition to end: the last stable offset for read_committed, else the high watermark."""
    return {number: end for (_, number), end in ends_of(bootstrap, [topic], isolation).items()}


def ends_of(
    bootstrap: str, topics: Sequence[str], isolation: Isolation = "read_committed"
) -> dict[tuple[str, int], int]:
    """The same for each partition of several topics, asked at once."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    known = admin.list_topics(timeout=ADMIN_S).topics
    level = IsolationLevel.READ_COMMITTED if isolation == "read_committed" else IsolationLevel.READ_UNCOMMITTED
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    wanted = {TopicPartition(topic, number): latest for topic in topics for number in known[topic].partitions}
    found = admin.list_offsets(wanted, isolation_level=level, request_timeout=ADMIN_S)
    return {(place.topic, place.partition): future.result(ADMIN_S).offset for place, future in found.items()}


def read_topic(
    bootstrap: str, topic: str, isolation: Isolation = "read_committed", *, within_s: float = 60.0
) -> list[Record]:
    """All records from the beginning to the end as of now, ordered by partition and offset.

    With read_committed, "the end" is before the first open transaction.
    """
    with TopicReader(bootstrap, [topic], isolation) as reader:
        return sorted(reader.read_to_end(within_s), key=lambda record: (record.partition, record.offset))


class TopicReader:
    """Reads topics from the beginning, record by record, and keeps its place between calls."""

    def __init__(
        self,
        bootstrap: str,
        topics: Sequence[str],
        isolation: Isolation = "read_committed",
        client: Mapping[str, Any] | None = None,
    ) -> None:
        """Assign all partitions that exist now. `client` adds librdkafka settings."""
        self._bootstrap = bootstrap
        self._topics = tuple(topics)
        self._isolation: Isolation = isolation
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"reader-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "isolation.level": isolation,
                "fetch.wait.max.ms": 100,
                **(client or {}),
            }
        )
        known = self._consumer.list_topics(timeout=ADMIN_S).topics
        places = [TopicPartition(topic, number, 0) for topic in topics for number in known[topic].partitions]
        self._next = {(place.topic, place.partition): 0 for place in places}
        self._consumer.assign(places)

    def poll(self, seconds: float = 0.2) -> list[Record]:
        """What has arrived, waiting at most so long for the first record."""
        messages = self._consumer.consume(10_000, seconds)
        return [_record(message) for message in messages if not self._is_end(message)]

    def read_to_end(self, within_s: float = 60.0) -> list[Record]:
        """Everything up to the end as of now.

        Raises:
          TimeoutError: not reached in time.
        """
        ends = ends_of(self._bootstrap, self._topics, self._isolation)
        records: list[Record] = []
        deadline = time.monotonic() + within_s
        while any(self._next[place] < end for place, end in ends.items()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"stopped at {self._next}, wanted {ends}")
            records += self.poll()
        return records

    def read_until(self, count: int, within_s: float = 60.0) -> list[Record]:
        """At least so many more records.

        Raises:
          TimeoutError: fewer came in time; with how many.
        """
        records: list[Record] = []
        deadline = time.monotonic() + within_s
        while len(records) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(records)} of {count} records came within {within_s:.0f} s")
            records += self.poll()
        return records

    def close(self) -> None:
        """Leave the cluster."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_end(self, message: Message) -> bool:
        """Keep the place; true for librdkafka's end-of-partition event, whose offset is past any control record."""
        place = (str(message.topic()), int(message.partition() or 0))
        error = message.error()
        if error is None:
            self._next[place] = int(message.offset() or 0) + 1
            return False
        if error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        self._next[place] = max(self._next[place], int(message.offset() or 0))
        return True


def _led(admin: AdminClient, name: str, partitions: int) -> bool:
    metadata = admin.list_topics(name, timeout=ADMIN_S).topics[name]
    return len(metadata.partitions) == partitions and all(part.leader >= 0 for part in metadata.partitions.values())


def _record(message: Message) -> Record:
    _, timestamp_ms = message.timestamp()
    headers: Any = message.headers() or []
    return Record(
        topic=str(message.topic()),
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        headers=tuple((name, value) for name, value in headers),
        timestamp_ms=timestamp_ms,
    )


def _bytes(data: str | bytes | None) -> bytes | None:
    return data.encode() if isinstance(data, str) else data
