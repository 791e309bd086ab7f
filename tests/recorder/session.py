"""One recording: servers, SQL, connector, and the records read back.

Rule 1: every recording has servers of its own, so that slots, offsets and topics begin empty.
Rule 2: transactions run when the replication connection streams; the snapshot is over by then.
Rule 3: the end is a logical message outside any transaction: it needs no table, so it changes nothing that is
  recorded. When its record is in Kafka, Connect is stopped in good order, and the topics are read.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from deltaforge.embedded.kafka import KafkaCluster
from deltaforge.embedded.postgres import PostgresServer
from deltaforge.embedded.process import wait_until
from tests.recorder.connect import NO_SCHEMAS, ConnectWorker
from tests.support.kafka_topics import create_topic, read_topic, topic_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.recorder.script import Script
    from tests.support.kafka_topics import Record

NAME = "gold"
DATABASE = "golddb"
END_S = 120.0
# Every look at the topics is a new client.
_PAUSE_S = 0.5
_END = b'"prefix":"recorder.end"'
_ALWAYS = {
    "topic.prefix": NAME,
    "database.dbname": DATABASE,
    "database.user": "postgres",
    "plugin.name": "pgoutput",
    "publication.name": "pub",
    "snapshot.mode": "initial",
    **NO_SCHEMAS,
}


def record(script: Script, options: Mapping[str, str]) -> list[dict[str, Any]]:
    """Run the script beside a live Debezium and return its records as the lines of a recording.

    Raises:
      EmbeddedError: a server does not start, the connector fails, or the end does not arrive.
    """
    broker = {"auto.create.topics.enable": "true"}
    with PostgresServer(script.postgres) as postgres, KafkaCluster(options=broker) as kafka:
        bootstrap = kafka.bootstrap()
        for topic, partitions in script.topics.items():
            create_topic(bootstrap, topic, partitions)
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            connection.execute(f"create database {DATABASE}")
        place = {"database.hostname": postgres.host, "database.port": str(postgres.port)}
        with (
            tempfile.TemporaryDirectory(prefix="deltaforge-connect-") as directory,
            psycopg.connect(postgres.dsn(dbname=DATABASE), autocommit=True) as connection,
        ):
            connection.execute(script.before.encode())
            worker = ConnectWorker(Path(directory), bootstrap, {**_ALWAYS, **place, **options})
            try:
                _play(script, connection, worker, bootstrap)
            finally:
                worker.stop()
        return _read(bootstrap, script)


def _play(script: Script, connection: psycopg.Connection[Any], worker: ConnectWorker, bootstrap: str) -> None:
    def streams() -> bool:
        found = connection.execute("select 1 from pg_stat_replication where state = 'streaming'").fetchone()
        return worker.running() and found is not None

    _wait(streams, worker, "replication")
    for transaction in script.transactions:
        # Several statements in one message are one transaction.
        connection.execute(transaction.encode())
    connection.execute("select pg_logical_emit_message(false, 'recorder.end', '')")
    _wait(lambda: worker.running() and _ended(bootstrap), worker, "the last record")


def _wait(ready: Any, worker: ConnectWorker, what: str) -> None:
    wait_until(ready, [worker.process], threading.Event(), END_S, what)


def _ended(bootstrap: str) -> bool:
    time.sleep(_PAUSE_S)
    return any(
        _is_end(record)
        for topic in topic_names(bootstrap)
        if topic.endswith("message")
        for record in read_topic(bootstrap, topic)
    )


def _is_end(record: Record) -> bool:
    return record.key is not None and _END in record.key


def _read(bootstrap: str, script: Script) -> list[dict[str, Any]]:
    return [
        _line(record, tell_partition=bool(script.topics))
        for topic in sorted(topic_names(bootstrap))
        if not topic.startswith("__consumer")
        for record in read_topic(bootstrap, topic)
        if not _is_end(record)
    ]


def _line(record: Record, *, tell_partition: bool) -> dict[str, Any]:
    place: dict[str, Any] = {"partition": record.partition} if tell_partition else {}
    return place | {
        "topic": record.topic,
        "key": _text(record.key),
        "value": _text(record.value),
        "headers": [
            [name, "RUN" if name == "__debezium.context.runId" else _text(value)] for name, value in record.headers
        ],
    }


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()
