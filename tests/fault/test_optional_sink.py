"""A sink that the commit policy can do without is away, or has lost its position: the other gets its rows anyway."""

from __future__ import annotations

import copy
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from deltaforge.checkpoint.record import decode
from deltaforge.model import Lsn
from tests.support.kafka_topics import create_topic, delete_topic, read_topic, topic_names
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


@pytest.mark.fault("K11")
@pytest.mark.slow
def test_an_optional_kafka_sink_that_has_lost_its_position_is_left_out_alone(
    kafka: KafkaCluster, database: Database, tmp_path: Path, topic_prefix: str
) -> None:
    """Guards the rows of everybody else against a topic that nobody waits for; and its rows against a guess."""
    needed, spared = (create_topic(kafka.bootstrap(), f"{topic_prefix}.{which}") for which in ("needed", "spared"))
    name = f"optional-{topic_prefix}"
    lost = f"_deltaforge.{name}.spared"
    database.execute("create table orders(id bigint primary key)")
    database.execute("create publication orders_pub for table orders")
    document = local(name, needed)
    document["spec"]["source"]["config"]["tables"] = ["public.orders"]
    other = copy.deepcopy(document["spec"]["sinks"][0])
    other["config"].update(id="spared", topic=spared, required=False)
    document["spec"]["sinks"].append(other)
    document["spec"]["commit_policy"] = {"mode": "required"}
    servers = {"POSTGRES_DSN": database.dsn(), "KAFKA_BROKERS": kafka.bootstrap()}
    with Deltaforge(write(tmp_path / "pipeline.yaml", document), servers, name="left-out") as product:
        product.wait_ready()
        _insert(database, 1)
        _wait(lambda: all(len(read_topic(kafka.bootstrap(), each)) == 1 for each in (needed, spared)), product, name)
        assert product.term() == 0, product.tail()
        # WHEN the position of the one that can be spared is gone, and the pipeline starts again
        delete_topic(kafka.bootstrap(), lost)
        _insert(database, 2)
        product.start()
        # THEN the other one goes on, and this one says why it does not
        _wait(lambda: len(read_topic(kafka.bootstrap(), needed)) == 2, product, name)
        _wait(lambda: _sink(product, name, "spared")["state"] == "detached", product, name)
        assert f"the checkpoint topic {lost} holds no record" in _sink(product, name, "spared")["detail"]
        status, health = product.ask("/health")
        assert (status, json.loads(health)["state"]) == (200, "degraded")
        # AND nothing is made up for it: no row, and no new position
        assert len(read_topic(kafka.bootstrap(), spared)) == 1
        assert lost not in topic_names(kafka.bootstrap())
        assert product.term() == 0, product.tail()


def _sink(product: Deltaforge, name: str, sink: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = product.pipeline(name)["sinks"]
    return next(each for each in found if each["id"] == sink)


def _insert(database: Database, number: int) -> None:
    database.execute("insert into orders values (%s)", (number,))


def _recorded(bootstrap: str) -> Lsn:
    """How far the newest checkpoint record lets PostgreSQL forget."""
    newest = read_topic(bootstrap, "_deltaforge.optional.orders-kafka")[-1]
    return decode(newest.key, newest.value or b"").progress.flush_lsn


def _lines(file: Path) -> int:
    return len(file.read_bytes().splitlines()) if file.exists() else 0


def _wait(done: Callable[[], bool], product: Deltaforge, name: str = "optional") -> None:
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert product.running, product.tail()
        assert time.monotonic() < deadline, f"{product.pipeline(name)}\n{product.tail()}"
        time.sleep(0.2)
