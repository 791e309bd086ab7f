"""A pipeline that lives is given another topic: what went to the first stays there, what comes goes to the second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fault.sizes import FULL
from tests.ledger.workload import make_tables
from tests.support.kafka_topics import create_topic
from tests.support.orders import insert_orders, seen_orders, wait_for_orders
from tests.support.pipelines import local, write
from tests.support.process import Deltaforge

if TYPE_CHECKING:
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database


@pytest.mark.fault("C2")
@pytest.mark.slow
@pytest.mark.parametrize("end", ["kill", "stop"] if FULL else ["kill"])
def test_another_topic_under_a_pipeline_that_lives_takes_over_where_the_first_one_ends(
    kafka: KafkaCluster, database: Database, topic_prefix: str, tmp_path: Path, end: str
) -> None:
    """Guards against rows that are in both topics, or in neither."""
    make_tables(database.dsn())
    bootstrap = kafka.bootstrap()
    first, second = (create_topic(bootstrap, f"{topic_prefix}.{name}") for name in ("first", "second"))
    file = write(tmp_path / "pipeline.yaml", local(topic_prefix, first))
    with Deltaforge(file, {"POSTGRES_DSN": database.dsn(), "KAFKA_BROKERS": bootstrap}, name="topics") as product:
        # GIVEN a pipeline that has delivered, and was ended, whether or not PostgreSQL was told
        product.wait_ready()
        insert_orders(database, range(1, 6))
        wait_for_orders(bootstrap, first, range(1, 6), lambda: None)
        if end == "kill":
            product.kill9()
        else:
            assert product.term() == 0
        # WHEN it is started with another topic
        insert_orders(database, range(6, 11))
        write(file, local(topic_prefix, second))
        product.start()
        wait_for_orders(bootstrap, second, range(6, 11), lambda: None)
        insert_orders(database, [11])
        wait_for_orders(bootstrap, second, [11], lambda: None)
        assert product.term() == 0, product.tail()

    # THEN each row is in one of them
    assert seen_orders(bootstrap, first) == list(range(1, 6))
    assert seen_orders(bootstrap, second) == list(range(6, 12))
