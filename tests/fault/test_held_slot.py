"""A slot that another client reads: waited for as a standby waits, and looked at closely once it is free."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer
from psycopg import pq

from deltaforge.model import Lsn
from deltaforge.source.frames import status_update
from tests.ledger.workload import make_tables
from tests.support.instances import Pipeline, Site, alive, refusals, states
from tests.support.kafka_topics import create_topic
from tests.support.orders import insert_orders, seen_orders, wait_for_orders, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database
    from tests.support.process import Deltaforge

pytestmark = [pytest.mark.slow, pytest.mark.fault("G8")]

REFUSED = 4
SEND_S = 30.0


class Holder:
    """A client of another make that streams from a slot: it reads nothing, and confirms what it is told to."""

    def __init__(self, database: Database, slot: str) -> None:
        """Take the slot."""
        self._connection = pq.PGconn.connect(database.dsn(replication="database").encode())
        assert self._connection.status == pq.ConnStatus.OK, self._connection.error_message
        options = "proto_version '1', publication_names 'orders_pub'"
        result = self._connection.exec_(f"START_REPLICATION SLOT {slot} LOGICAL 0/0 ({options})".encode())
        assert result.status == pq.ExecStatus.COPY_BOTH, result.error_message

    @property
    def pid(self) -> int:
        """The server's process that serves it."""
        return self._connection.backend_pid

    def confirm(self, lsn: str) -> None:
        """Say that everything up to there is safe with us."""
        position = Lsn.parse(lsn)
        self._connection.put_copy_data(status_update(position, position, 0))
        self._connection.flush()

    def close(self) -> None:
        """Let go of the slot."""
        self._connection.finish()


@pytest.fixture
def site(kafka: KafkaCluster, database: Database, tmp_path: Path) -> Iterator[Site]:
    """A database with the tables."""
    make_tables(database.dsn())
    with Site(kafka, database, tmp_path, f"h{database.name[-8:]}") as made:
        yield made


@contextmanager
def held(site: Site, pipeline: Pipeline) -> Iterator[tuple[Holder, Deltaforge]]:
    """A pipeline that has delivered order 1, and stands by since another client holds its slot."""
    product = site.process(pipeline.file, name=pipeline.name)
    product.start()
    product.wait_ready()
    insert_orders(site.database, [1])
    wait_for_orders(site.bootstrap, pipeline.topic, [1], lambda: alive(product))
    assert product.term() == 0, product.tail()
    holder = Holder(site.database, pipeline.slot)
    try:
        product.start()
        standby = {pipeline.name: "standby"}
        wait_until(lambda: states(product) == standby, "the pipeline stands by", lambda: alive(product))
        yield holder, product
    finally:
        holder.close()


def test_a_slot_held_by_another_client_is_waited_for_without_disturbing_anybody(site: Site) -> None:
    """Guards against a waiting instance that fences a working one, and against one that never wakes up."""
    pipeline = site.pipeline("held")
    scratch = create_topic(site.bootstrap, f"{pipeline.name}.scratch")
    with held(site, pipeline) as (holder, product):
        # GIVEN somebody else at work under the pipeline's transactional id, as a twin on another machine would be
        twin = _producer(site, pipeline)
        twin.begin_transaction()
        twin.produce(scratch, b"1")
        # THEN who holds the slot is named, the process counts as ready, and the other's transaction is left alone
        said = f'slot "{pipeline.slot}" is held by process {holder.pid} of the server'
        wait_until(lambda: said in product.pipeline(pipeline.name)["detail"], said, lambda: alive(product))
        assert product.ask("/ready")[0] == 200
        epoch = product.pipeline(pipeline.name)["epoch"]
        insert_orders(site.database, [2])
        _wait_until_it_has_looked(site, product)
        twin.commit_transaction(SEND_S)
        assert seen_orders(site.bootstrap, pipeline.topic) == [1]
        assert product.pipeline(pipeline.name)["epoch"] == epoch
        # AND WHEN the slot is free, it takes over
        holder.close()
        wait_for_orders(site.bootstrap, pipeline.topic, [1, 2], lambda: alive(product))
        assert product.term() == 0, product.tail()
    assert seen_orders(site.bootstrap, pipeline.topic) == [1, 2]


def test_what_another_client_has_confirmed_is_a_gap_once_it_lets_go(site: Site) -> None:
    """Guards against a standby that takes over and knows nothing of what was taken away meanwhile."""
    pipeline = site.pipeline("taken")
    with held(site, pipeline) as (holder, product):
        before = site.standing(pipeline)
        insert_orders(site.database, [2])
        end = site.database.value("select pg_current_wal_lsn()::text")
        holder.confirm(end)
        wait_until(lambda: site.confirmed(pipeline) == end, f"{end} is confirmed", lambda: alive(product))
        holder.close()
        assert product.wait() == REFUSED
        (line,) = refusals(product)
        assert f'slot "{pipeline.slot}" stands at {end}, expected at most {before.confirmed}' in line
        after = site.standing(pipeline)
    assert (after.confirmed, after.records, after.checkpoints) == (end, before.records, before.checkpoints)


def _producer(site: Site, pipeline: Pipeline) -> Producer:
    name = f"deltaforge.{pipeline.name}.orders-kafka"
    producer = Producer({"bootstrap.servers": site.bootstrap, "transactional.id": name})
    producer.init_transactions(SEND_S)
    return producer


def _wait_until_it_has_looked(site: Site, product: Deltaforge, times: int = 4) -> None:
    """Block until the standby has asked the server for the slot so often."""
    query = "select query_start::text from pg_stat_activity where application_name = 'deltaforge control'"
    seen: set[str] = set()

    def reached() -> bool:
        seen.update(row[0] for row in site.database.rows(query))
        return len(seen) > times

    wait_until(reached, f"it has looked {times} times", lambda: alive(product))
