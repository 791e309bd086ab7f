"""A Kafka that the commit policy can do without is away: the other sink gets its rows all the same."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from deltaforge.checkpoint.record import decode
from deltaforge.model import Lsn
from tests.support.kafka_topics import create_topic, read_topic
from tests.support.pipelines import kafka_config, local, write
from tests.support.process import Deltaforge

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database

WAIT_S = 90.0
CONFIRMED = "select confirmed_flush_lsn::text from pg_replication_slots"


@pytest.mark.fault("K1")
@pytest.mark.slow
def test_an_outage_of_an_optional_kafka_holds_up_nobody_and_leaves_no_gap(
    make_kafka: Callable[..., KafkaCluster], database: Database, tmp_path: Path
) -> None:
    """Guards a new stream against questions to a Kafka that is away, and its sink against a gap that is none."""
    kafka = make_kafka(1)
    kafka.start()
    topic = create_topic(kafka.bootstrap(), "optional.events")
    database.execute("create table orders(id bigint primary key)")
    database.execute("create publication orders_pub for table orders")
    out = tmp_path / "out.jsonl"
    document = local("optional", topic)
    document["spec"]["source"]["config"]["tables"] = ["public.orders"]
    kafka_config(document)["required"] = False
    document["spec"]["sinks"].append({"type": "file", "config": {"id": "out", "path": str(out)}})
    document["spec"]["commit_policy"] = {"mode": "required"}
    servers = {"POSTGRES_DSN": database.dsn(), "KAFKA_BROKERS": kafka.bootstrap()}
    with Deltaforge(write(tmp_path / "pipeline.yaml", document), servers, name="optional") as product:
        product.wait_ready()
        _insert(database, 1)
        _wait(lambda: _lines(out) == 1 and len(read_topic(kafka.bootstrap(), topic)) == 1, product)
        # AND Kafka's own position has caught up: the slot may have moved on while Kafka was still writing the row
        _wait(lambda: _recorded(kafka.bootstrap()) >= Lsn.parse(database.value(CONFIRMED)), product)
        # WHEN Kafka dies, and a new stream begins while it is away
        kafka.kill_node(1)
        database.execute("select pg_terminate_backend(pid) from pg_stat_replication")
        _insert(database, 2)
        # THEN the file gets its row, and PostgreSQL may forget it
        _wait(lambda: _lines(out) == 2, product)
        before = database.value(CONFIRMED)
        _insert(database, 3)
        _wait(lambda: _lines(out) == 3 and database.value(CONFIRMED) != before, product)
        # AND once Kafka is back, it gets what waited for it
        kafka.start_node(1)
        _wait(lambda: len(read_topic(kafka.bootstrap(), topic)) == 3, product)
        assert product.term() == 0, product.tail()
    assert len(read_topic(kafka.bootstrap(), topic)) == 3


def _insert(database: Database, number: int) -> None:
    database.execute("insert into orders values (%s)", (number,))


def _recorded(bootstrap: str) -> Lsn:
    """How far the newest checkpoint record lets PostgreSQL forget."""
    newest = read_topic(bootstrap, "_deltaforge.optional.orders-kafka")[-1]
    return decode(newest.key, newest.value or b"").progress.flush_lsn


def _lines(file: Path) -> int:
    return len(file.read_bytes().splitlines()) if file.exists() else 0


def _wait(done: Callable[[], bool], product: Deltaforge) -> None:
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert product.running, product.tail()
        assert time.monotonic() < deadline, f"{product.pipeline('optional')}\n{product.tail()}"
        time.sleep(0.2)
