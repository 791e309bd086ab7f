"""The broker loses the end of its log: all of it goes back to an older state, or single partitions do.

What was lost within the last ten seconds before the broker went down, while the process stayed up, is not always
noticed: docs/explanation/delivery.md, residual risks.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import pytest

from deltaforge.embedded.kafka import KafkaCluster
from tests.fault.sizes import FULL
from tests.ledger.workload import make_tables
from tests.support.databases import create_database, drop_database
from tests.support.instances import Pipeline, Site, alive, refusals, states, wait_refused
from tests.support.log_copies import LogCopy
from tests.support.orders import insert_orders, seen_orders, wait_for_orders, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.process import Deltaforge

pytestmark = [pytest.mark.slow, pytest.mark.fault("K7")]

REFUSED = 4
LSN = r"[0-9A-F]+/[0-9A-F]+"
KEPT, LOST, LATER, AFTER = [1, 2, 3], [4, 5, 6], [7, 8, 9], list(range(10, 30))
RANGE = rf"stands at {LSN}, expected at most {LSN}: changes between {LSN} and {LSN} would be lost"
SHORTER = r"topic {topic}, partition 0 ends at offset \d+, expected at least \d+: the cluster lost records it had"


@pytest.fixture
def site(kafka_jars: None, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A broker of the test's own, and one database with the tables."""
    database = create_database(postgres)
    make_tables(database.dsn())
    with (
        KafkaCluster(1) as cluster,
        Site(cluster, database, tmp_path_factory.mktemp("lost"), f"l{database.name[-8:]}") as made,
    ):
        yield made
    drop_database(database)


def _deliver(site: Site, groups: Sequence[tuple[Deltaforge, Sequence[Pipeline]]], orders: Sequence[int]) -> None:
    """Write these orders, and wait until all pipelines have delivered and confirmed them."""
    start = site.database.value("select pg_current_wal_insert_lsn()::text")
    insert_orders(site.database, orders)
    passed = "select confirmed_flush_lsn > %s::pg_lsn from pg_replication_slots where slot_name = %s"
    for product, pipelines in groups:
        for pipeline in pipelines:
            wait_for_orders(site.bootstrap, pipeline.topic, orders, partial(alive, product))
            confirmed = partial(site.database.value, passed, [start, pipeline.slot])
            wait_until(confirmed, f"{pipeline.slot} is confirmed", partial(alive, product))


def _start(products: Mapping[str, Deltaforge]) -> None:
    for product in products.values():
        product.start()
    for product in products.values():
        product.wait_ready()


def _swap(site: Site, copy: LogCopy) -> None:
    """Kill the broker, put the older state in its place, start it."""
    site.kafka.kill_node(1)
    copy.put_back()
    site.kafka.start_node(1)


def test_a_broker_that_went_back_to_an_older_state_is_refused_with_the_range_that_is_gone(site: Site) -> None:
    """Guards against going on behind a hole: rows and positions agree, and PostgreSQL has forgotten the rows."""
    pipeline = site.pipeline("whole")
    product = site.process(pipeline.file, name="lost-whole")
    product.start()
    product.wait_ready()
    _deliver(site, [(product, [pipeline])], KEPT)
    with LogCopy(site.kafka.node(1)) as copy:
        _deliver(site, [(product, [pipeline])], LOST)
        product.kill9()
        _swap(site, copy)
    before = site.standing(pipeline)

    product.start()

    assert product.wait() == REFUSED, product.tail()
    lines = refusals(product)
    assert len(lines) == 1, lines
    assert re.search(RANGE, lines[0]), lines[0]
    assert site.standing(pipeline) == before
    assert seen_orders(site.bootstrap, pipeline.topic) == KEPT


if FULL:

    def test_partitions_that_lost_their_end_are_named_at_rest_and_under_way(site: Site) -> None:
        """Guards against a log that was cut off where nobody looks: no consumer and no producer need ever notice."""
        # GIVEN partitions as they were, and two runs since: the second one's records know how long they had become
        rest = {kind: site.pipeline(kind, "rest") for kind in ("data", "checkpoint")}
        live, neighbour = site.pipeline("live", "live"), site.pipeline("neighbour", "live")
        products = {folder: site.process(site.directory / folder, name=f"lost-{folder}") for folder in ("rest", "live")}
        groups = [(products["rest"], list(rest.values())), (products["live"], [live, neighbour])]
        _start(products)
        _deliver(site, groups, KEPT)
        harmed = [rest["data"].topic, rest["checkpoint"].checkpoints, live.topic]
        with LogCopy(site.kafka.node(1), harmed) as copy:
            _deliver(site, groups, LOST)
            assert [product.term() for product in products.values()] == [0, 0]
            _start(products)
            _deliver(site, groups, LATER)
            # WHEN the broker comes back with the older ones, under the one process and while the other one is down
            products["rest"].kill9()
            _swap(site, copy)
        before = {kind: site.standing(pipeline) for kind, pipeline in rest.items()}
        products["rest"].start()
        insert_orders(site.database, AFTER)
        # THEN each is refused for what is gone
        assert products["rest"].wait() == REFUSED, products["rest"].tail()
        lines = refusals(products["rest"])
        assert len(lines) == len(rest), lines
        for kind, words in (("data", SHORTER), ("checkpoint", RANGE)):
            told = f"{rest[kind].name} refused: .*{words.format(topic=re.escape(rest[kind].topic))}"
            assert any(re.search(told, line) for line in lines), (told, lines)
        assert {kind: site.standing(pipeline) for kind, pipeline in rest.items()} == before
        # AND so is the one at work, beside a neighbour that lost nothing
        (line,) = wait_refused(products["live"], [live])
        assert re.search(SHORTER.format(topic=re.escape(live.topic)), line), line
        wait_for_orders(site.bootstrap, neighbour.topic, AFTER, lambda: alive(products["live"]))
        assert states(products["live"])[neighbour.name] == "running"
        assert seen_orders(site.bootstrap, neighbour.topic) == [*KEPT, *LOST, *LATER, *AFTER]
        products["live"].kill9()
