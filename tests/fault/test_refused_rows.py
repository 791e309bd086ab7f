"""Rows that Kafka never takes as they are: too large for client, topic or broker, too old, or without a key.

Every pipeline of this file reads the same database into a topic of its own, each with a limit of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined]  # no __all__

from tests.ledger.workload import make_tables
from tests.proxy.cluster import ProxiedKafka
from tests.proxy.faults import TO_SERVER
from tests.support.databases import create_database, drop_database
from tests.support.instances import Pipeline, Site, about, alive, states
from tests.support.kafka_topics import alter, alter_topic
from tests.support.orders import insert_orders, seen_orders, wait_for_orders, wait_until
from tests.support.outage import busiest_second
from tests.support.pipelines import kafka_config, write
from tests.support.topics import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.process import Deltaforge

pytestmark = [pytest.mark.slow]

BROKER_LIMIT, TOPIC_LIMIT, CLIENT_LIMIT = 100_000, 50_000, 20_000
BIG = 600_000
"""Characters, half as many once they are compressed."""
LARGEST = 10_000_000
LINES_A_SECOND = 20
BLOCKED = 3
DELAY_MS = 1000
TABLES = ["public.orders", "public.order_items", "public.payments"]
ROW = r"the record of public\.orders at [0-9A-F]+/[0-9A-F]+ \((\d+) bytes\): "
SAID = {
    # kind: what must be said
    "client": ROW + r".*Unable to produce.*\(MSG_SIZE_TOO_LARGE\).*message\.max\.bytes in client_conf",
    "topic": ROW + r".*\(MSG_SIZE_TOO_LARGE\).*raise max\.message\.bytes of the topic",
    "broker": ROW + r".*\(MSG_SIZE_TOO_LARGE\).*raise max\.message\.bytes of the topic",
    # As librdkafka names it: by the time where one record is too old, else by the record.
    "timestamp": ROW + r".*\(INVALID_(TIMESTAMP|RECORD)\).*message\.timestamp\.type=LogAppendTime",
    "keyless": r"the record of public\.plain at .*\(INVALID_RECORD\).*give the table a primary key",
}
MENDED: dict[str, Mapping[str, str]] = {
    "topic": {"max.message.bytes": str(LARGEST)},
    "timestamp": {"message.timestamp.before.max.ms": str(2**63 - 1)},
    "keyless": {"cleanup.policy": "delete"},
}


@pytest.fixture
def kafka(kafka_jars: None) -> Iterator[ProxiedKafka]:
    """A broker with a limit of its own."""
    with ProxiedKafka(1, options={"message.max.bytes": str(BROKER_LIMIT)}) as made:
        yield made


@pytest.fixture
def site(kafka: ProxiedKafka, postgres: PostgresServer, tmp_path: Path) -> Iterator[Site]:
    """One database with the tables and one that has no key."""
    database = create_database(postgres)
    make_tables(database.dsn())
    database.execute("create table plain (id bigint, note text)")
    database.execute("alter publication orders_pub add table plain")
    with Site(kafka.cluster, database, tmp_path, f"r{database.name[-8:]}") as made:
        yield made
    drop_database(database)


def _pipelines(site: Site) -> dict[str, Pipeline]:
    made = {}
    for kind in (*SAID, "neighbour"):
        # librdkafka refuses by the size before compression.
        limit = CLIENT_LIMIT if kind == "client" else LARGEST
        client = {"compression.type": "lz4", "message.max.bytes": limit, "client.id": f"client-{kind}"}
        source = {"tables": [*TABLES, "public.plain"] if kind == "keyless" else TABLES}
        made[kind] = site.pipeline(kind, source=source, client_conf=client)
    alter_topic(site.bootstrap, made["topic"].topic, {"max.message.bytes": str(TOPIC_LIMIT)})
    for kind in ("timestamp", "keyless", "neighbour"):
        alter_topic(site.bootstrap, made[kind].topic, {"max.message.bytes": str(LARGEST)})
    return made


def _told(product: Deltaforge, pipeline: Pipeline, words: str) -> Callable[[], bool]:
    def reached() -> bool:
        view: dict[str, Any] = product.pipeline(pipeline.name)
        return view["state"] == "blocked" and re.search(words, view["detail"]) is not None

    return reached


def _raise_client_limit(pipeline: Pipeline) -> None:
    document = yaml.safe_load(pipeline.file.read_text())
    kafka_config(document)["client_conf"]["message.max.bytes"] = LARGEST
    write(pipeline.file, document)


@pytest.mark.fault("K12", "K13", "X5")
def test_a_row_that_kafka_refuses_is_named_and_waits_for_a_person(kafka: ProxiedKafka, site: Site) -> None:
    """Guards against a row left out, its neighbours with it or torn from it, and against a loop that never rests."""
    # GIVEN pipelines that work, each before something that Kafka will not take
    made = _pipelines(site)
    product = site.process(site.directory / "all", name="refused-rows", extra={"KAFKA_BROKERS": kafka.bootstrap})
    product.start()
    product.wait_ready()
    insert_orders(site.database, [1])
    for pipeline in made.values():
        wait_for_orders(site.bootstrap, pipeline.topic, [1], lambda: alive(product))
    # Records are too old when they come so late; the broker's own markers, which are records too, are not.
    alter_topic(site.bootstrap, made["timestamp"].topic, {"message.timestamp.before.max.ms": str(DELAY_MS // 2)})
    late = kafka.proxy().delay(DELAY_MS, [TO_SERVER], lambda connection: b"client-timestamp" in connection.opening)
    alter_topic(site.bootstrap, made["keyless"].topic, {"cleanup.policy": "compact"})
    # WHEN a large row comes between two small ones, and one without a key before them
    note = f"(select string_agg(md5(n::text), '') from generate_series(1, {BIG // 32}) n)"
    site.database.execute(
        "begin; insert into plain values (1, 'no key');"
        "insert into orders (id, customer_id, total, note, created_at) values (2, 1, 1, 'small', now());"
        f"insert into orders (id, customer_id, total, note, created_at) values (3, 1, 1, {note}, now());"
        "insert into orders (id, customer_id, total, note, created_at) values (4, 1, 1, 'small', now()); commit"
    )
    # THEN whoever can take it does, and of the others each names its row and shows nothing of its transaction
    wait_for_orders(site.bootstrap, made["neighbour"].topic, [2, 3, 4], lambda: alive(product))
    for kind, words in SAID.items():
        wait_until(_told(product, made[kind], words), f"{kind}: {words}", lambda: alive(product))
        sizes = re.search(ROW, product.pipeline(made[kind].name)["detail"])
        assert kind in ("keyless", "timestamp") or (sizes and int(sizes[1]) > BIG), kind
    confirmed = {kind: site.confirmed(made[kind]) for kind in SAID}
    tries = product.text().count('"rewinding"')
    wait_until(lambda: product.text().count('"rewinding"') >= tries + len(SAID), "more tries", lambda: alive(product))
    assert {kind: site.confirmed(made[kind]) for kind in SAID} == confirmed
    assert {kind: seen_orders(site.bootstrap, made[kind].topic) for kind in SAID} == {kind: [1] for kind in SAID}
    for kind in SAID:
        assert busiest_second(about(product, made[kind])) <= LINES_A_SECOND
    # AND what is put right is gone on from, at the broker without a restart
    kafka.proxy().lift(late)
    alter(site.bootstrap, ConfigResource.Type.BROKER, "1", {"message.max.bytes": str(LARGEST)})
    for kind, config in MENDED.items():
        alter_topic(site.bootstrap, made[kind].topic, config)
    for kind in ("broker", *MENDED):
        wait_until(lambda at=made[kind].name: states(product)[at] == "running", kind, lambda: alive(product))  # type: ignore[misc]
    # A moment ago the last of them was tried again, and the one that stays blocked with it.
    wait_until(lambda: states(product)[made["client"].name] == "blocked", "client", lambda: alive(product))
    assert product.term() == BLOCKED, product.tail()
    _raise_client_limit(made["client"])
    product.start()
    product.wait_ready()
    for kind, pipeline in made.items():
        orders = [1, 2, 3, 4]
        if kind == "keyless":
            records = read(site.bootstrap, pipeline.topic)
            assert len(records) == len(orders) + 1
            assert sum(record.key is None for record in records) == 1
            continue
        wait_for_orders(site.bootstrap, pipeline.topic, orders, lambda: alive(product))
        assert seen_orders(site.bootstrap, pipeline.topic) == orders, kind
    assert product.term() == 0, product.tail()
