"""Work that is not committed, or not yet: nothing of it is seen, whatever ends it, and what waits for it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.ledger.workload import make_tables
from tests.support.databases import create_database, fill_wal
from tests.support.instances import Site, alive
from tests.support.orders import insert_orders, seen_orders, wait_for_orders, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer

SEGMENTS = 3
PINNED = 2 * 16 * 2**20
"""Bytes of WAL that a prepared transaction keeps the server from removing, at least."""
RETAINED = "deltaforge_slot_retained_bytes"


@pytest.mark.fault("G13")
@pytest.mark.slow
def test_transactions_left_prepared_over_a_crash_are_seen_when_they_are_committed_and_their_wal_is_told_of(
    kafka: KafkaCluster, make_postgres: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    """Guards against rows of transactions that a crash ended, and against a full disk that nobody saw coming."""
    # GIVEN a pipeline at work, two prepared transactions, one under way with a savepoint rolled back
    server = make_postgres(options={"max_prepared_transactions": "10", "wal_sender_timeout": "5s"})
    server.start()
    database = create_database(server)
    make_tables(database.dsn())
    with Site(kafka, database, tmp_path, f"u{database.name[-8:]}") as site:
        pipeline = site.pipeline("undone")
        product = site.process(pipeline.file, name="undone")
        product.start()
        product.wait_ready()

        def running() -> None:
            alive(product)

        for name, order in (("kept", 10), ("dropped", 20)):
            with psycopg.connect(database.dsn(), autocommit=True) as connection:
                connection.execute("begin")
                connection.execute(
                    "insert into orders (id, customer_id, total, created_at) values (%s, 1, 1, now())", [order]
                )
                connection.execute(f"prepare transaction '{name}'")
        lost = psycopg.connect(database.dsn())
        lost.execute("insert into orders (id, customer_id, total, created_at) values (30, 1, 1, now())")
        insert_orders(database, [1])
        wait_for_orders(site.bootstrap, pipeline.topic, [1], running)
        # WHEN the WAL goes on without them
        fill_wal(server, SEGMENTS)
        # THEN what they keep is told
        wait_until(lambda: product.metric(RETAINED) > PINNED, f"{RETAINED} tells of {PINNED} bytes", running)
        # AND WHEN the server crashes, and they are committed and rolled back then
        server.restart(immediate=True)
        lost.close()
        database.execute("commit prepared 'kept'")
        database.execute("rollback prepared 'dropped'")
        insert_orders(database, [2])
        # THEN what was committed is seen once, and nothing else
        wait_for_orders(site.bootstrap, pipeline.topic, [1, 2, 10], running)
        # AND the server may remove what it kept

        written = [1, 2, 10]

        def released() -> bool:
            # A slot lets go of WAL at a moment that the server has written down, once a later change is confirmed.
            database.execute("select pg_log_standby_snapshot()")
            written.append(len(written) + 100)
            insert_orders(database, written[-1:])
            return product.metric(RETAINED) < PINNED

        wait_until(released, f"{RETAINED} falls again", running)
        wait_for_orders(site.bootstrap, pipeline.topic, written, running)
        assert product.term() == 0, product.tail()
        assert seen_orders(site.bootstrap, pipeline.topic) == written
