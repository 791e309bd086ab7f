"""The partitioner against the two producers that matter: Kafka's own Java producer, and librdkafka."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # no __all__

from deltaforge.embedded.jars import class_path, java
from deltaforge.sinks.kafka.partition import partitions
from tests.support.topics import read

if TYPE_CHECKING:
    from deltaforge.embedded.kafka import KafkaCluster

COUNT = 12
RECORDED = Path(__file__).parent.parent / "data" / "debezium" / "orders_router.jsonl"
KEYS = [b'{"id":%d,"name":"%s"}' % (number, b"x" * (number % 40)) for number in range(500)]


@pytest.fixture
def topic(kafka: KafkaCluster, topic_prefix: str) -> str:
    """A topic of twelve partitions."""
    name = f"{topic_prefix}.partitions"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap()})
    admin.create_topics([NewTopic(name, COUNT, 1)])[name].result(30)
    return name


def recorded_keys() -> list[bytes]:
    """The keys that Debezium's router wrote into its shared topic."""
    rows = map(json.loads, RECORDED.read_text().splitlines())
    return sorted({row["key"].encode() for row in rows if row["topic"] == "gold.all" and row["key"]})


def found(kafka: KafkaCluster, topic: str) -> dict[bytes, int]:
    """Where each key of the topic is."""
    return {record.key: record.partition for record in read(kafka.bootstrap(), topic) if record.key is not None}


def test_keys_are_where_kafkas_java_producer_puts_them(kafka: KafkaCluster, topic: str) -> None:
    """Guards against a key in two partitions once Debezium, or any Java producer, writes into the topic as well."""
    keys = [*KEYS, *recorded_keys()]
    command = [
        str(java()), "-cp", os.pathsep.join(map(str, class_path())), "-Xmx128m",
        "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", kafka.bootstrap(), "--topic", topic,
        "--property", "parse.key=true", "--property", "key.separator=\t",
    ]  # fmt: skip
    lines = b"".join(key + b"\tx\n" for key in keys)
    done = subprocess.run(command, input=lines, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert found(kafka, topic) == dict(zip(keys, partitions(keys, COUNT), strict=True))


def test_keys_are_where_librdkafka_puts_them_when_asked_for_murmur2(kafka: KafkaCluster, topic: str) -> None:
    """Guards against rows that move when somebody leaves the choice to librdkafka."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap(), "partitioner": "murmur2_random"})
    for key in KEYS:
        producer.produce(topic, b"x", key)
    assert producer.flush(60) == 0
    assert found(kafka, topic) == dict(zip(KEYS, partitions(KEYS, COUNT), strict=True))
