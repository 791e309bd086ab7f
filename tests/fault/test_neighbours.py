"""Two pipelines on one database, rows of an origin, and messages inside and outside of transactions: no cross-talk."""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.ledger.workload import make_tables
from tests.support.databases import create_database, drop_database
from tests.support.instances import Site, alive, wait_states
from tests.support.orders import seen_orders, wait_until
from tests.support.topics import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.instances import Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.fault("G19")]

ORIGIN = "elsewhere"
_ORDER = "insert into orders (id, customer_id, total, created_at) values ({0}, 1, 1, now());"
_PAYMENT = "insert into payments (id, order_id, amount) values (gen_random_uuid(), {0}, 1);"
_BOTH = _ORDER + _PAYMENT
_INSIDE = "select pg_logical_emit_message(true, 'note', 'inside {0}');"
_OUTSIDE = "select pg_logical_emit_message(false, 'note', 'outside {0}');"


@pytest.fixture
def site(kafka: KafkaCluster, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A database with the tables, one publication for orders and one for payments."""
    database = create_database(postgres)
    make_tables(database.dsn())
    database.execute("create publication only_orders for table orders")
    database.execute("create publication only_payments for table payments")
    with Site(kafka, database, tmp_path_factory.mktemp("neighbours"), f"n{database.name[-8:]}") as made:
        yield made
    drop_database(database)


def _write(site: Site, number: int) -> None:
    """Two transactions with everything in them, the first as replayed from another server, and one rolled back."""
    with site.database.connect() as connection:
        connection.execute("select pg_replication_origin_session_setup(%s)", [ORIGIN])
        connection.execute(f"begin; {_BOTH.format(number)} {_INSIDE.format(number)} commit")
        connection.execute("select pg_replication_origin_session_reset()")
        last = number + 1
        connection.execute(
            f"begin; {_INSIDE.format(last)} {_BOTH.format(last)} {_OUTSIDE.format(last)} {_ORDER.format(1000 + last)}"
            f" savepoint s; {_INSIDE.format('undone')} rollback to s; commit"
        )
        connection.execute(f"begin; {_BOTH.format(2000 + number)} {_INSIDE.format('undone')} {_OUTSIDE.format(number)}")
        connection.execute("rollback")


def _messages(site: Site, pipeline: Pipeline) -> Counter[str]:
    values = (json.loads(record.value or b"") for record in read(site.bootstrap, f"{pipeline.name}.message"))
    return Counter(base64.b64decode(value["message"]["content"]).decode() for value in values)


def _payments(site: Site, pipeline: Pipeline) -> list[int]:
    values = (json.loads(record.value or b"") for record in read(site.bootstrap, pipeline.topic))
    assert all("amount" in value["after"] for value in values)
    values = (json.loads(record.value or b"") for record in read(site.bootstrap, pipeline.topic))
    return sorted(value["after"]["order_id"] for value in values)


def test_pipelines_of_one_database_share_nothing_and_read_whatever_an_origin_or_a_message_brings(site: Site) -> None:
    """Guards against rows of a neighbour, a message seen twice or by one alone, and an origin's rows left out."""
    site.database.execute("select pg_replication_origin_create(%s)", [ORIGIN])
    tables = {"orders": "public.orders", "payments": "public.payments"}
    orders, payments = (
        site.pipeline(kind, kind, source={"publication": f"only_{kind}", "tables": [table]})
        for kind, table in tables.items()
    )
    first = site.process(orders.file, name="neighbour-orders")
    second = site.process(payments.file, name="neighbour-payments")
    for product in (first, second):
        product.start()
    for product in (first, second):
        product.wait_ready()
    try:
        # GIVEN both at work
        _write(site, 1)
        wait_until(lambda: seen_orders(site.bootstrap, orders.topic) == [1, 2, 1002], "orders", lambda: alive(first))
        wait_until(lambda: _payments(site, payments) == [1, 2], "payments", lambda: alive(second))
        # WHEN one of them dies, and the other goes on
        second.kill9()
        stood = site.confirmed(payments)
        _write(site, 11)
        expected = [1, 2, 11, 12, 1002, 1012]
        wait_until(lambda: seen_orders(site.bootstrap, orders.topic) == expected, "more orders", lambda: alive(first))
        # THEN nothing of the dead one has moved, and it misses nothing once it is back
        assert site.confirmed(payments) == stood
        second.start()
        wait_until(lambda: _payments(site, payments) == [1, 2, 11, 12], "all payments", lambda: alive(second))
        said = Counter(f"{where} {number}" for number in (1, 2, 11, 12) for where in ("inside", "outside"))
        for pipeline, product in ((orders, first), (payments, second)):
            wait_until(
                lambda at=pipeline: sum(_messages(site, at).values()) >= sum(said.values()),  # type: ignore[misc]
                f"messages of {pipeline.name}",
                lambda at=product: alive(at),  # type: ignore[misc]
            )
            wait_states(product, [pipeline], "running")
            assert product.term() == 0, product.tail()
            assert _messages(site, pipeline) == said
        assert seen_orders(site.bootstrap, orders.topic) == expected
        assert _payments(site, payments) == [1, 2, 11, 12]
    finally:
        site.end_all()
        site.database.execute("select pg_replication_origin_drop(%s)", [ORIGIN])
