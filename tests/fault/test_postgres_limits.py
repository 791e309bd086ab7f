"""Limits of PostgreSQL that somebody else has used up, and time limits set on our role.

One small server. Each limit is reached, named in the status, and gone on from once there is room.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import pq

from deltaforge.embedded.postgres import PostgresServer
from tests.ledger.workload import make_tables
from tests.support.databases import CDC_USER, create_database, prepare_server
from tests.support.instances import Pipeline, Site, alive
from tests.support.orders import insert_orders, seen_orders, wait_for_orders, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg.pq.abc import PGconn

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.process import Deltaforge

pytestmark = [pytest.mark.slow, pytest.mark.fault("G18")]

OPTIONS = {"max_wal_senders": "3", "max_replication_slots": "2", "max_connections": "12"}
TIMEOUTS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout")
SHORT = "300ms"
"""Less than lies between two looks of ours at the server, and more than one look takes."""
LOOKS = 3


@pytest.fixture(scope="module")
def site(kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A database on a server with little room, and a role without privileges beyond what it needs."""
    with ExitStack() as stack:
        server = stack.enter_context(PostgresServer(18, options=OPTIONS))
        prepare_server(server)
        database = create_database(server)
        make_tables(database.dsn())
        database.execute(f"grant select on all tables in schema public to {CDC_USER}")
        yield stack.enter_context(Site(kafka, database, tmp_path_factory.mktemp("limits"), f"m{database.name[-8:]}"))


@contextmanager
def running(site: Site, name: str) -> Iterator[tuple[Pipeline, Deltaforge]]:
    """A pipeline of the plain role, started; ended in good order at the end, and its slot with it."""
    pipeline = site.pipeline(name, name)
    product = site.process(pipeline.file, name=f"limits-{name}", extra={"POSTGRES_DSN": site.database.cdc_dsn()})
    product.start()
    yield pipeline, product
    assert product.term() == 0, product.tail()
    site.database.execute("select pg_drop_replication_slot(%s)", [pipeline.slot])


def says(product: Deltaforge, pipeline: Pipeline, state: str, *words: str) -> None:
    """Wait until the status names the limit."""

    def reached() -> bool:
        if product.ask("/health")[0] == 0:
            return False
        view = product.pipeline(pipeline.name)
        return view["state"] == state and all(word in view["detail"] for word in words)

    wait_until(reached, f"{pipeline.name} is {state}: {words}", lambda: alive(product))


def delivers(site: Site, product: Deltaforge, pipeline: Pipeline, order: int) -> None:
    """A row that is written now comes, and came never before."""
    insert_orders(site.database, [order])
    wait_for_orders(site.bootstrap, pipeline.topic, [order], lambda: alive(product))
    assert seen_orders(site.bootstrap, pipeline.topic) == [order]


def walsender(site: Site) -> PGconn | None:
    """A client that takes a walsender; None when there is none left."""
    connection = pq.PGconn.connect(site.database.dsn(replication="database", application_name="somebody").encode())
    if connection.status == pq.ConnStatus.OK:
        return connection
    connection.finish()
    return None


def test_without_a_free_replication_slot_it_waits_and_names_the_setting(site: Site) -> None:
    """Guards against an exit, or a crash loop, where an operator has to drop a slot."""
    for name in ("other_a", "other_b"):
        site.database.execute("select pg_create_physical_replication_slot(%s)", [name])
    with running(site, "no-slot") as (pipeline, product):
        says(product, pipeline, "blocked", "all replication slots are in use", "max_replication_slots")
        for name in ("other_a", "other_b"):
            site.database.execute("select pg_drop_replication_slot(%s)", [name])
        product.wait_ready()
        delivers(site, product, pipeline, 1)


def test_without_a_free_walsender_it_waits_and_names_the_setting(site: Site) -> None:
    """Guards against the same where others stream."""
    with running(site, "no-walsender") as (pipeline, product), ExitStack() as others:
        product.wait_ready()
        end = "select pg_terminate_backend(pid, 5000) from pg_stat_replication where application_name = 'deltaforge'"
        # Whoever is faster has it: ours comes back at once.
        while not product.pipeline(pipeline.name)["detail"].count("max_wal_senders"):
            alive(product)
            site.database.execute(end)
            while (taken := walsender(site)) is not None:
                others.callback(taken.finish)
        says(product, pipeline, "starting", 'exceeds "max_wal_senders"', "raise max_connections or max_wal_senders")
        others.close()
        product.wait_ready()
        delivers(site, product, pipeline, 2)


def test_without_a_free_connection_it_waits_and_names_the_setting(site: Site) -> None:
    """Guards against the same where an application has leaked its connections."""
    with running(site, "no-connection") as (pipeline, product), ExitStack() as others:
        product.wait_ready()
        with site.database.connect() as superuser:
            end = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = %s and pid <> all(%s)"
            leaked: list[int] = []
            while "connection slots" not in product.pipeline(pipeline.name)["detail"]:
                alive(product)
                with suppress(psycopg.OperationalError):
                    leak = others.enter_context(psycopg.connect(site.database.cdc_dsn(), autocommit=True))
                    leaked.append(leak.info.backend_pid)
                    continue
                superuser.execute(end, [CDC_USER, leaked])
            says(product, pipeline, "starting", "remaining connection slots", "max_connections")
        others.close()
        product.wait_ready()
        delivers(site, product, pipeline, 3)


def test_time_limits_of_the_role_do_not_reach_our_sessions(site: Site) -> None:
    """Guards against a stream that ends whenever nothing happens, and queries that end when the server is slow."""
    for name in TIMEOUTS:
        site.database.execute(f"alter role {CDC_USER} set {name} = '{SHORT}'")
    site.database.execute(f"alter role {CDC_USER} set transaction_timeout = '{SHORT}'")
    try:
        with running(site, "timeouts") as (pipeline, product):
            product.wait_ready()
            query = "select pid, query_start::text from pg_stat_activity where application_name = 'deltaforge control'"
            seen: dict[int, set[str]] = {}

            def looked() -> bool:
                for pid, began in site.database.rows(query):
                    seen.setdefault(pid, set()).add(began)
                return any(len(looks) > LOOKS for looks in seen.values())

            # THEN one session looks again and again, with more between two looks than the role may be idle
            wait_until(looked, f"the same session has looked {LOOKS} times", lambda: alive(product))
            assert len(seen) == 1, seen
            assert product.pipeline(pipeline.name)["epoch"] == 1
            delivers(site, product, pipeline, 4)
            assert product.metric("deltaforge_actor_retries_total") == 0
    finally:
        site.database.execute(f"alter role {CDC_USER} reset all")
