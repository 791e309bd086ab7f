"""The publication changes under way, while transactions are open and without any: the WAL decides, not the clock.

PostgreSQL looks a publication up as it was when a change was made. So what is read again later has to be the same, and
what was changed while there was no publication can never be read.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.fault import sizes
from tests.ledger.workload import make_tables
from tests.support.databases import create_database, drop_database
from tests.support.instances import Site, alive, states
from tests.support.orders import insert_orders, seen_orders, wait_for_orders, wait_until
from tests.support.twins import MARK, Twins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.databases import Database

pytestmark = [pytest.mark.slow, pytest.mark.fault("G9")]

FILTERS = (15, 16, 17, 18) if sizes.FULL else (18,)
"""Versions that have row filters and column lists."""
WARNING, ERROR = 18, 16
"""A version that only warns of a missing publication and leaves its changes out, and one that ends the stream."""
TABLES = f"""
{MARK}; create table a(id int primary key, v text); create table b(id int primary key);
create publication orders_pub for table mark, a;
"""


@contextmanager
def open_transaction(database: Database, before: str, after: str) -> Iterator[None]:
    """Do `before`, let the block happen elsewhere, do `after` and commit."""
    with psycopg.connect(database.dsn()) as connection:
        connection.execute(before)
        yield
        connection.execute(after)


@pytest.fixture(scope="module", params=FILTERS, ids=lambda version: f"pg{version}")
def twins(
    request: pytest.FixtureRequest, kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Twins]:
    """A pipeline in peace and one that was killed and read everything again at the end."""
    server: PostgresServer = request.getfixturevalue(f"postgres{request.param}")
    database = create_database(server)
    database.execute(TABLES)
    directory = tmp_path_factory.mktemp("publications")
    with Site(kafka, database, directory, f"p{database.name[-8:]}") as site:
        made = Twins(site)
        made.start()
        database.execute("insert into a values (0)")
        made.die("kafka.before_commit")
        _change(database)
        made.settle()
        yield made
    drop_database(database)


AGAIN = "begin; drop publication orders_pub; create publication orders_pub for table mark, a, b; commit"
ALTER = "alter publication orders_pub"
CHANGES = (
    # In an open transaction; meanwhile, committed at once; in the open transaction, which commits then; later.
    (
        "insert into a values (1); insert into b values (1)", f"{ALTER} add table b",
        "insert into a values (2); insert into b values (2)", "insert into b values (3)",
    ),
    ("insert into a values (10)", AGAIN, "insert into a values (11)", "insert into a values (12)"),
    (
        "insert into a values (20), (920)", f"{ALTER} set table mark, b, a where (id < 900)",
        "insert into a values (21), (921)", "insert into a values (22), (922)",
    ),
    (
        "insert into a values (30, 'x')", f"{ALTER} set table mark, b, a (id)",
        "insert into a values (31, 'x')", "insert into a values (32, 'x')",
    ),
    ("insert into b values (40)", f"{ALTER} drop table b", "insert into b values (41)", "insert into b values (42)"),
)  # fmt: skip


def _change(database: Database) -> None:
    for before, meanwhile, after, later in CHANGES:
        with open_transaction(database, before, after):
            database.execute(meanwhile)
        database.execute(later)


def test_what_is_read_again_after_the_publication_has_changed_has_the_same_bytes(twins: Twins) -> None:
    """Guards against numbers of events that depend on today's publication: some would be skipped, others doubled."""
    assert twins.bytes(twins.hurt) == twins.bytes(twins.straight)


def test_a_change_is_published_as_the_publication_was_when_it_was_made(twins: Twins) -> None:
    """Guards against rows that come or stay away because of when they were read, or when their transaction began."""
    found = twins.changes(twins.straight, "a", "b")
    assert all(change.op == "c" for change in found)
    rows = [(change.table, *(change.after or {}).values()) for change in found]
    assert rows == [
        ("a", 0, None),
        # b comes in
        *[("a", 1, None), ("a", 2, None), ("b", 2), ("b", 3)],
        # the publication is made anew
        *[("a", 10, None), ("a", 11, None), ("a", 12, None)],
        # numbers from 900 on are filtered out
        *[("a", 20, None), ("a", 920, None), ("a", 21, None), ("a", 22, None)],
        # only the id is published
        *[("a", 30, "x"), ("a", 31), ("a", 32)],
        # b goes out
        ("b", 40),
    ]


@pytest.mark.parametrize("version", [WARNING, ERROR], ids=lambda version: f"pg{version}")
def test_what_was_changed_without_a_publication_stops_the_pipeline_for_good(
    request: pytest.FixtureRequest,
    kafka: KafkaCluster,
    make_database: Callable[[PostgresServer], Database],
    tmp_path: Path,
    version: int,
) -> None:
    """Guards against changes that PostgreSQL leaves out in silence once the publication is there again."""
    # GIVEN a pipeline at work
    database = make_database(request.getfixturevalue(f"postgres{version}"))
    make_tables(database.dsn())
    with Site(kafka, database, tmp_path, f"q{database.name[-8:]}") as site:
        pipeline = site.pipeline("dropped")
        product = site.process(pipeline.file, name="dropped")
        product.start()
        product.wait_ready()

        def says(*words: str) -> bool:
            detail = product.pipeline(pipeline.name)["detail"]
            return states(product) == {pipeline.name: "blocked"} and all(word in detail for word in words)

        def wait_says(*words: str) -> None:
            wait_until(lambda: says(*words), f"{pipeline.name} is blocked: {words}", lambda: alive(product))

        # WHEN the publication goes and comes, first with nothing between
        create = "create publication orders_pub for table orders, order_items, payments"
        database.execute(f"begin; drop publication orders_pub; {create}; commit")
        insert_orders(database, [1])
        # THEN that is no matter
        wait_for_orders(site.bootstrap, pipeline.topic, [1], lambda: alive(product))
        # AND WHEN something is changed meanwhile
        database.execute("drop publication orders_pub")
        insert_orders(database, [2])
        wait_says("orders_pub")
        before = site.standing(pipeline)
        database.execute(create)
        insert_orders(database, [3])
        epoch = product.pipeline(pipeline.name)["epoch"]
        wait_until(lambda: epoch < product.pipeline(pipeline.name)["epoch"], "another stream", lambda: alive(product))
        # THEN it cannot be read, nothing behind it is, and what to do is said
        wait_says("did not exist when the next changes were made", "drop the slot and start anew")
        assert site.standing(pipeline) == before
        product.kill9()
        assert seen_orders(site.bootstrap, pipeline.topic) == [1]
