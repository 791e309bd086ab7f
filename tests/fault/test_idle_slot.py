"""Nothing for us in the WAL, and a lot for others: the slot follows all the same, or the server's disk fills up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.ledger.workload import make_tables
from tests.support.databases import fill_wal
from tests.support.instances import Site, alive
from tests.support.orders import insert_orders, seen_orders, wait_for_orders, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.databases import Database

SEGMENTS = 4
NOISE = 200


@pytest.mark.fault("G16")
@pytest.mark.slow
@pytest.mark.parametrize("where", ["elsewhere", "unpublished", "not-configured"])
def test_a_slot_follows_wal_in_which_nothing_is_for_us(
    kafka: KafkaCluster,
    postgres: PostgresServer,
    make_database: Callable[[PostgresServer], Database],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    where: str,
) -> None:
    """Guards against WAL that is kept for a pipeline which has no use for it."""
    # GIVEN an idle pipeline
    database, other = make_database(postgres), make_database(postgres)
    make_tables(database.dsn())
    database.execute("create table noise(id int primary key); create publication all_pub for all tables")
    other.execute("create table noise(id int primary key)")
    with Site(kafka, database, tmp_path, f"i{database.name[-8:]}") as site:
        publication = "all_pub" if where == "not-configured" else "orders_pub"
        pipeline = site.pipeline("idle", source={"publication": publication})
        product = site.process(pipeline.file, name=f"idle-{where}")
        product.start()
        product.wait_ready()
        records = site.standing(pipeline).records
        # WHEN others fill the WAL: in another database, in a table that is not published, in one not asked for
        busy = other if where == "elsewhere" else database
        began = time.monotonic()
        for number in range(NOISE):
            busy.execute("insert into noise values (%s)", [number])
        fill_wal(postgres, SEGMENTS)
        end = database.value("select pg_current_wal_lsn()::text")
        fill_wal(postgres, SEGMENTS)

        # THEN the slot comes after them, though nothing is written
        def reached() -> bool:
            query = "select confirmed_flush_lsn >= %s::pg_lsn from pg_replication_slots where slot_name = %s"
            return bool(database.value(query, [end, pipeline.slot]))

        wait_until(reached, f"the slot has passed {end}", lambda: alive(product))
        with capsys.disabled():
            print(f"\n{where}: the slot has passed {SEGMENTS * 16} MiB {time.monotonic() - began:.1f} s after it began")
        assert site.standing(pipeline).records == records
        # AND the next row of ours comes once
        insert_orders(database, [1])
        wait_for_orders(site.bootstrap, pipeline.topic, [1], lambda: alive(product))
        assert product.term() == 0, product.tail()
        assert seen_orders(site.bootstrap, pipeline.topic) == [1]
