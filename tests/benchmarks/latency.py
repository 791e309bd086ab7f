"""From COMMIT returned to poll() returned: one-row transactions at a steady rate, read by a read_committed consumer.

The sender is a process of its own (sender.py), the reader is this one; on Linux both read the same monotonic clock. The
first seconds are sent and read, but not counted.

BARE is what Kafka's transactions cost a plain client: the same rows are sent to PostgreSQL, pg_recvlogical takes them,
and bare.py writes as many records of its own, each of which is timed from the moment it is due.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from array import array
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.benchmarks.backlog import Backlog
from tests.benchmarks.drain import (
    EXACTLY_ONCE,
    PARTITIONS,
    RECVLOGICAL,
    Site,
    cpu_s,
    held,
    make_topic,
    pipeline,
    recvlogical,
)
from tests.benchmarks.peers import DEBEZIUM, STREAMING, Connector
from tests.benchmarks.workloads import WORKLOADS
from tests.support.kafka_topics import delete_topic
from tests.support.process import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BARE = "bare librdkafka, exactly once"
WARM_UP_S = 5
_POLL_S = 0.5
_STALLED_S = 60.0


class Load(NamedTuple):
    """What is sent after the warm-up."""

    seconds: int
    per_second: int
    """Transactions."""


class Latency(NamedTuple):
    """One measurement; times in milliseconds."""

    transactions: int
    per_second: float
    """What the sender reached."""
    p50: float
    p90: float
    p99: float
    worst: float
    cpu_share: float
    """Processor seconds of the measured process in each second."""


def measure(site: Site, program: str, number: int, load: Load) -> Latency:
    """Send through a pipeline or a connector of its own."""
    name = f"latency_{number}"
    with Backlog(site.postgres.dsn(), WORKLOADS[0]) as backlog:
        backlog.begin(0)
        position = backlog.make_slot(name)
        if program == DEBEZIUM:
            result = _debezium(site, backlog, name, load)
        elif program == BARE:
            result = _bare(site, backlog, name, load)
        else:
            result = _deltaforge(site, backlog, name, load, exactly=program == EXACTLY_ONCE, adopt=position)
        backlog.drop_slot(name)
    return result


def warm_up(site: Site, transactions: int) -> None:
    """Let the broker's JVM compile what a Kafka transaction needs: it interprets the first thousand."""
    make_topic(site, "warm_up")
    producer = Producer({"bootstrap.servers": site.bootstrap, "transactional.id": "warm_up"})
    producer.init_transactions(_STALLED_S)
    for number in range(transactions):
        producer.begin_transaction()
        for partition in range(PARTITIONS):
            producer.produce("warm_up", b"value", b"%d" % number, partition)
        producer.commit_transaction(_STALLED_S)
    delete_topic(site.bootstrap, "warm_up")


def _deltaforge(site: Site, backlog: Backlog, name: str, load: Load, *, exactly: bool, adopt: str) -> Latency:
    make_topic(site, name)
    with pipeline(site, name, exactly=exactly, adopt=adopt) as product:
        held(backlog, name, product)
        product.wait_ready()
        result = _through(site, product.cpu_s, name, load)
        assert product.term() == 0, product.tail()
    for topic in (name, f"_deltaforge.{name}.orders-kafka"):
        delete_topic(site.bootstrap, topic)
    return result


def _debezium(site: Site, backlog: Backlog, name: str, load: Load) -> Latency:
    connector = Connector(site, name, STREAMING)
    with connector:
        held(backlog, name, connector)
        result = _through(site, connector.cpu_s, connector.topic, load)
    delete_topic(site.bootstrap, connector.topic)
    return result


def _bare(site: Site, backlog: Backlog, name: str, load: Load) -> Latency:
    make_topic(site, name)
    file, count = site.folder / f"{name}.due", _count(load)
    with ExitStack() as started:
        drain = recvlogical(site, backlog, name)
        started.callback(_end, drain)
        held(backlog, name, drain)
        bare = _start("bare", site.bootstrap, name, str(load.per_second), str(count), str(file))
        started.callback(_end, bare)
        while not file.exists():
            assert bare.poll() is None, f"{BARE} ended with {bare.returncode}"
            time.sleep(_POLL_S / 100)
        result = _through(site, lambda: cpu_s(bare.pid), name, load, file)
        assert bare.wait(_STALLED_S) == 0
        assert drain.poll() is None, f"nobody took the rows: {RECVLOGICAL} ended with {drain.returncode}"
    for topic in (name, f"{name}.positions"):
        delete_topic(site.bootstrap, topic)
    return result


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _count(load: Load) -> int:
    return (WARM_UP_S + load.seconds) * load.per_second


def _start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=REPOSITORY)


def _through(site: Site, spent_s: Callable[[], float], topic: str, load: Load, times: Path | None = None) -> Latency:
    """Send and read.

    Args:
      spent_s: processor seconds of the measured process so far.
      times: where whoever writes the topic itself has noted when each record falls due.
    """
    count, skipped = _count(load), WARM_UP_S * load.per_second
    file = site.folder / f"{topic}.committed"
    reader = _reader(site.bootstrap, topic)
    cpu, began = spent_s(), time.monotonic()
    sender = _start("sender", site.postgres.dsn(), str(load.per_second), str(count), str(file))
    try:
        seen = _read(reader, count)
        share = (spent_s() - cpu) / (time.monotonic() - began)
        assert sender.wait(_STALLED_S) == 0
    finally:
        _end(sender)
        reader.close()
    committed = array("q", (times or file).read_bytes())
    taken = sorted((seen[index + 1] - committed[index]) / 1e6 for index in range(skipped, count))
    rate = (count - skipped) / (max(committed[skipped:]) - min(committed[skipped:])) * 1e9
    p50, p90, p99 = (taken[int(len(taken) * part)] for part in (0.5, 0.9, 0.99))
    return Latency(len(taken), rate, p50, p90, p99, taken[-1], share)


def _reader(bootstrap: str, topic: str) -> Consumer:
    reader = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "deltaforge-latency",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 5,
        }
    )
    reader.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    return reader


def _read(reader: Consumer, count: int) -> dict[int, int]:
    """When each row first came out of poll(), by its id. Raises TimeoutError when rows stay away."""
    arrived: list[tuple[bytes, int]] = []
    poll, now, take = reader.poll, time.monotonic_ns, arrived.append
    waits = 0
    gc.disable()
    try:
        while len(arrived) < count:
            message = poll(_POLL_S)
            if message is not None and message.error() is None:
                take((message.key() or b"", now()))
                waits = 0
                continue
            waits += 1
            if waits * _POLL_S > _STALLED_S:
                raise TimeoutError(f"{len(arrived)} of {count} rows came, and no other for {_STALLED_S:.0f} s")
    finally:
        gc.enable()
    seen: dict[int, int] = {}
    for key, when in arrived:
        seen.setdefault(json.loads(key)["id"], when)
    return seen
