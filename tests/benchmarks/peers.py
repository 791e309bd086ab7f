"""Debezium drains the same backlog: a connector of its own for every run, on a worker that has been at work before.

Rule 1: the clock is deltaforge's: from the moment PostgreSQL shows the slot as active to the moment the last row is
        committed. Connect writes the offset of the last row in the transaction of that row, and the watch reads the
        offsets as a read_committed consumer, as it reads deltaforge's checkpoints.
Rule 2: the worker outlives the runs, so that Java has compiled what it needs; its start is never measured.
Rule 3: what deltaforge's client_conf tells the producer, Connect's producer is told as well.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Self

from deltaforge.model import Lsn
from tests.benchmarks.connect import OFFSETS
from tests.benchmarks.drain import DRAIN_S, Run, Site, cpu_s, held, make_topic, peak_rss
from tests.benchmarks.topics import PositionWatch, check
from tests.benchmarks.workloads import PUBLICATION, TABLE
from tests.recorder.connect import CONNECTOR_CLASS, NO_SCHEMAS
from tests.support.kafka_topics import delete_topic
from tests.support.pipelines import kafka_config, seed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.benchmarks.backlog import Backlog

DEBEZIUM = "Debezium exactly once"
VERSIONS = "3.7.0.Final on Kafka Connect 4.1.0, distributed, exactly-once source support"
WORKLOADS = ("batch", "single")
"""What Debezium is measured with, beside latency."""
WARM_UPS = 5
"""Drains of the warm-up backlog before anything counts."""
SHARED = ("acks", "batch.size", "compression.type", "linger.ms")
"""The producer's settings that both clients know by the same name."""
TUNED = {
    "snapshot.mode": "no_data",
    "exactly.once.support": "required",
    "max.batch.size": "20480",
    "max.queue.size": "81920",
    "poll.interval.ms": "10",
    "extended.headers.enabled": "false",
    "producer.override.buffer.memory": "134217728",
}
DRAINING = {"transaction.boundary": "interval", "transaction.boundary.interval.ms": "100"}
"""Fewer and larger Kafka transactions: the fastest for a backlog."""
STREAMING = {"transaction.boundary": "poll"}
"""Every batch is committed at once: the fastest for single rows."""
_FIXED = {
    "connector.class": CONNECTOR_CLASS,
    "tasks.max": "1",
    "plugin.name": "pgoutput",
    "publication.name": PUBLICATION,
    "publication.autocreate.mode": "disabled",
    "table.include.list": f"public.{TABLE}",
    **NO_SCHEMAS,
}
_LOOK_S = 2.0


class Connector:
    """One connector on the worker, reading the slot of the same name; it goes away at the end, its topic stays."""

    def __init__(self, site: Site, name: str, boundary: Mapping[str, str]) -> None:
        """Nothing is made before the `with` block. `boundary` is `DRAINING` or `STREAMING`."""
        assert site.connect is not None
        self._boundary = boundary
        self.topic = f"{name}.public.{TABLE}"
        self._site, self._worker, self._name = site, site.connect, name
        self._looked = 0.0

    @property
    def running(self) -> bool:
        """Whether worker and task live, as far as the last look tells: asking for more costs the measured program."""
        if time.monotonic() > self._looked + _LOOK_S:
            self._worker.runs(self._name)
            self._looked = time.monotonic()
        return self._worker.process.running

    def tail(self) -> str:
        """The end of what the worker wrote."""
        return self._worker.process.tail()

    def cpu_s(self) -> float:
        """Processor seconds the worker has used so far."""
        return cpu_s(self._worker.process.pid)

    def peak_rss(self) -> int:
        """The most resident memory the worker ever had, in bytes."""
        return peak_rss(self._worker.process.pid)

    def __enter__(self) -> Self:
        make_topic(self._site, self.topic)
        self._worker.create(self._name, options(self._site, self._name, self._boundary))
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.delete(self._name)


def options(site: Site, name: str, boundary: Mapping[str, str]) -> dict[str, str]:
    """The connector's configuration."""
    conf = kafka_config(seed())["client_conf"]
    return {
        **_FIXED,
        **TUNED,
        **boundary,
        **{f"producer.override.{key}": str(conf[key]) for key in SHARED},
        "topic.prefix": name,
        "slot.name": name,
        "database.hostname": site.postgres.host,
        "database.port": str(site.postgres.port),
        "database.user": "postgres",
        "database.dbname": "postgres",
    }


def drain(site: Site, backlog: Backlog, number: int, rows: int) -> Run:
    """As `drain.drain`, by Debezium with exactly once."""
    slot = f"bench_{number}"
    backlog.make_slot(slot)
    last = backlog.last_row()
    watch = PositionWatch(site.bootstrap, OFFSETS, lambda key, value: offset_of(slot, key, value))
    launched = time.monotonic()
    connector = Connector(site, slot, DRAINING)

    def alive() -> None:
        assert connector.running, connector.tail()
        assert time.monotonic() < launched + DRAIN_S, connector.tail()

    cpu = connector.cpu_s()
    with connector:
        began = held(backlog, slot, connector)
        start_cpu = connector.cpu_s()
        first = watch.wait(Lsn(last - 1), alive)
        seconds, used = time.monotonic() - began, connector.cpu_s() - start_cpu
        run = Run(seconds, used, connector.peak_rss(), began - launched, start_cpu - cpu, first - began)
        watch.close()
    backlog.drop_slot(slot)
    check(site.bootstrap, connector.topic, rows, exactly=True)
    delete_topic(site.bootstrap, connector.topic)
    return run


def offset_of(prefix: str, key: bytes, value: bytes) -> Lsn | None:
    """Where the last row of a Kafka transaction stands; None for what a record of Connect's offsets says of others."""
    _, partition = json.loads(key)
    if partition != {"server": prefix} or not value:
        return None
    return Lsn(json.loads(value).get("lsn", 0))
