"""Kafka forgets the transactional id of a pipeline that was idle for long, and its producer in the partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deltaforge.embedded.kafka import KafkaCluster
from tests.fault.sizes import FULL
from tests.ledger.workload import make_tables
from tests.support.databases import create_database, drop_database
from tests.support.instances import Pipeline, Site, alive, states
from tests.support.orders import insert_orders, seen_orders, wait_for_orders, wait_until
from tests.support.topics import stream
from tests.support.transaction_log import TOPIC as TRANSACTION_STATE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deltaforge.embedded.postgres import PostgresServer

pytestmark = [pytest.mark.slow, pytest.mark.fault("K17")]

FORGETFUL = {
    "transactional.id.expiration.ms": "4000",
    "transaction.remove.expired.transaction.cleanup.interval.ms": "500",
    "producer.id.expiration.ms": "3000",
    "producer.id.expiration.check.interval.ms": "500",
}


@pytest.fixture
def site(kafka_jars: None, postgres: PostgresServer, tmp_path: Path) -> Iterator[Site]:
    """A broker that forgets within seconds what others keep for seven days, and one database with the tables."""
    database = create_database(postgres)
    make_tables(database.dsn())
    with (
        KafkaCluster(1, options=FORGETFUL) as cluster,
        Site(cluster, database, tmp_path, f"i{database.name[-8:]}") as made,
    ):
        yield made
    drop_database(database)


def _forgotten(site: Site, pipeline: Pipeline) -> bool:
    """Whether the last that the coordinator wrote of its id is that there is no such id."""
    name = pipeline.checkpoints.removeprefix("_").encode()
    known = [
        r.value for r in stream(site.bootstrap, [TRANSACTION_STATE], committed=False) if (r.key or b"")[4:] == name
    ]
    return bool(known) and known[-1] is None


def test_an_idle_pipeline_whose_id_was_forgotten_goes_on(site: Site) -> None:
    """Guards against the first row after a quiet week: an error for it is no end, no crash and no second row."""
    exactly, least = site.pipeline("exactly-once"), site.pipeline("at-least-once", exactly_once=False)
    product = site.process(site.directory / "all", name="forgotten")
    product.start()
    product.wait_ready()
    *before, last = range(1, 5 if FULL else 3)
    for order in before:
        insert_orders(site.database, [order])
        for pipeline in (exactly, least):
            wait_for_orders(site.bootstrap, pipeline.topic, [order], lambda: alive(product))
            # WHEN nothing is written for so long that Kafka has forgotten who we are
            gone = f"{pipeline.name} is forgotten"
            wait_until(lambda of=pipeline: _forgotten(site, of), gone, lambda: alive(product))  # type: ignore[misc]
    # THEN the next row arrives all the same, and once
    insert_orders(site.database, [last])
    for pipeline in (exactly, least):
        wait_for_orders(site.bootstrap, pipeline.topic, [last], lambda: alive(product))
    assert seen_orders(site.bootstrap, exactly.topic) == [*before, last]
    assert sorted(set(seen_orders(site.bootstrap, least.topic))) == [*before, last]
    assert set(states(product).values()) == {"running"}
    assert product.metric("deltaforge_actor_restarts_total") == 0
    assert product.term() == 0, product.tail()
