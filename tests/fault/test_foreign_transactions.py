"""Transactions of other producers in our partitions: open, and one that nobody is left to end."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaException, Producer

from tests.fault.sizes import FULL
from tests.ledger.workload import make_tables
from tests.proxy.cluster import ProxiedKafka
from tests.proxy.frames import Api
from tests.support.databases import create_database, drop_database
from tests.support.instances import Pipeline, Site, alive, states, wait_told
from tests.support.kafka_topics import end_offsets
from tests.support.orders import insert_orders, seen_orders, wait_for_orders, wait_until
from tests.support.topics import read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.process import Deltaforge

pytestmark = [pytest.mark.slow, pytest.mark.fault("K16")]

# As brokers before 3.6: a request that comes late opens a transaction that nobody knows of.
UNVERIFIED = {"transaction.partition.verification.enable": "false"}
PINNED = r"the open transaction of another producer pins the partition at offset (\d+)"
HELD_UP = "committed readers are held up by the open transaction of another producer"
WAIT_S = 30.0


@pytest.fixture
def kafka(kafka_jars: None) -> Iterator[ProxiedKafka]:
    """A broker of the test's own; foreign producers reach it through a proxy."""
    with ProxiedKafka(1, options=UNVERIFIED) as made:
        yield made


@pytest.fixture
def site(kafka: ProxiedKafka, postgres: PostgresServer, tmp_path: Path) -> Iterator[Site]:
    """One database with the tables."""
    database = create_database(postgres)
    make_tables(database.dsn())
    with Site(kafka.cluster, database, tmp_path, f"f{database.name[-8:]}") as made:
        yield made
    drop_database(database)


def _foreign(bootstrap: str, name: str, **settings: Any) -> Producer:
    """A producer of another program that has begun a transaction."""
    made = Producer({"bootstrap.servers": bootstrap, "transactional.id": name, "linger.ms": 0, **settings})
    made.init_transactions(WAIT_S)
    made.begin_transaction()
    return made


def _put(producer: Producer, topic: str) -> None:
    producer.produce(topic, b"foreign", b"foreign", partition=0)
    assert producer.flush(WAIT_S) == 0


def _uncommitted(site: Site, pipeline: Pipeline) -> int:
    """Records that there are, whoever may see them."""
    return len(read(site.bootstrap, pipeline.topic, committed=False))


def _deliver(site: Site, product: Deltaforge, pipeline: Pipeline, order: int) -> None:
    insert_orders(site.database, [order])
    wait_for_orders(site.bootstrap, pipeline.topic, [order], lambda: alive(product))


def test_a_foreign_transaction_in_a_data_partition_stops_readers_and_not_us(site: Site) -> None:
    """Guards against WAL that piles up behind somebody else's transaction, and rows lost or repeated once it ends."""
    pipeline = site.pipeline("data")
    product = site.process(pipeline.file, name="foreign-data")
    product.start()
    product.wait_ready()
    _deliver(site, product, pipeline, 1)
    # WHEN another producer begins a transaction in our partition, and leaves it open
    foreign = _foreign(site.bootstrap, f"{pipeline.name}-foreign")
    _put(foreign, pipeline.topic)
    before = _uncommitted(site, pipeline)
    start = site.database.value("select pg_current_wal_insert_lsn()::text")
    insert_orders(site.database, [2, 3])
    # THEN we write and confirm
    wait_until(lambda: _uncommitted(site, pipeline) == before + 2, "rows are written", lambda: alive(product))
    confirmed = "select confirmed_flush_lsn > %s::pg_lsn from pg_replication_slots where slot_name = %s"
    wait_until(
        lambda: site.database.value(confirmed, [start, pipeline.slot]), "they are confirmed", lambda: alive(product)
    )
    assert states(product)[pipeline.name] == "running"
    more = _wait_warned(site, product, pipeline) if FULL else []
    # AND committed readers see them when it has ended, once each, also those that a new epoch wrote
    assert seen_orders(site.bootstrap, pipeline.topic) == [1]
    product.kill9()
    product.start()
    product.wait_ready()
    insert_orders(site.database, [4])
    wait_until(
        lambda: _uncommitted(site, pipeline) == before + 3 + len(more), "the next is written", lambda: alive(product)
    )
    foreign.abort_transaction(WAIT_S)
    wait_for_orders(site.bootstrap, pipeline.topic, [1, 2, 3, 4, *more], lambda: alive(product))
    assert seen_orders(site.bootstrap, pipeline.topic) == [1, 2, 3, 4, *more]
    assert product.term() == 0, product.tail()


def _wait_warned(site: Site, product: Deltaforge, pipeline: Pipeline) -> list[int]:
    """Wait until the operator was told where readers stand, and by what command to find out for whom.

    deltaforge looks at the topics' ends every ten seconds, and only while it writes: returns the orders made for it.
    """
    more: list[int] = []

    def warned() -> bool:
        more.append(100 + len(more))
        insert_orders(site.database, more[-1:])
        return HELD_UP in product.text()

    wait_until(warned, "a warning", lambda: alive(product))
    found = next(json.loads(line) for line in product.text().splitlines() if HELD_UP in line)
    assert (found["topic"], found["partition"]) == (pipeline.topic, 0)
    assert f"describe-producers --topic {pipeline.topic} --partition 0" in found["hint"]
    return more


def _hang(kafka: ProxiedKafka, topic: str, name: str) -> None:
    """Leave a transaction that has no producer: a record that arrives after its transaction was aborted."""
    producer = _foreign(kafka.bootstrap, name, **{"message.timeout.ms": 2000, "transaction.timeout.ms": 10_000})
    _put(producer, topic)
    late = kafka.hold_request(Api.Produce)
    producer.produce(topic, b"late", b"late", partition=0)
    late.wait_hit()
    with pytest.raises(KafkaException):
        producer.commit_transaction(WAIT_S)
    producer.abort_transaction(WAIT_S)
    late.release()
    late.wait_answered()


def _wait_pinned(product: Deltaforge, pipeline: Pipeline) -> int:
    """Wait until the pipeline says where it is held up, and by what command to find out by whom."""
    wanted = f"describe-producers --topic {pipeline.checkpoints} --partition 0"
    found = re.search(PINNED, wait_told(product, pipeline.name, "starting", "pins the partition", wanted))
    assert found is not None
    return int(found[1])


def test_a_foreign_transaction_in_the_checkpoint_partition_is_named_and_waited_for(
    kafka: ProxiedKafka, site: Site
) -> None:
    """Guards against an older record taken for the newest because the newest cannot be read: rows would come again."""
    pipeline = site.pipeline("checkpoints")
    product = site.process(pipeline.file, name="foreign-checkpoints")
    product.start()
    product.wait_ready()
    _deliver(site, product, pipeline, 1)
    # WHEN another producer leaves a transaction open in it
    foreign = _foreign(site.bootstrap, f"{pipeline.name}-foreign")
    _put(foreign, pipeline.checkpoints)
    # THEN whoever works goes on working
    _deliver(site, product, pipeline, 2)
    # AND whoever starts says what he waits for, writes nothing, and goes on when it has ended
    product.kill9()
    product.start()
    insert_orders(site.database, [3])
    pinned = _wait_pinned(product, pipeline)
    assert pinned == end_offsets(site.bootstrap, pipeline.checkpoints)[0]
    assert _uncommitted(site, pipeline) == 2
    foreign.abort_transaction(WAIT_S)
    wait_for_orders(site.bootstrap, pipeline.topic, [3], lambda: alive(product))
    # WHEN nobody is left to end it
    _hang(kafka, pipeline.checkpoints, f"{pipeline.name}-late")
    product.kill9()
    product.start()
    pinned = _wait_pinned(product, pipeline)
    # THEN Kafka's own tool ends it, at the offset that was named
    server = ("--bootstrap-server", site.bootstrap)
    place = ("--topic", pipeline.checkpoints, "--partition", "0", "--start-offset", str(pinned))
    kafka.cluster.run_tool("org.apache.kafka.tools.TransactionsCommand", *server, "abort", *place)
    _deliver(site, product, pipeline, 4)
    assert seen_orders(site.bootstrap, pipeline.topic) == [1, 2, 3, 4]
    assert product.term() == 0, product.tail()
