"""Topics and keys by row through the whole product: topics made when a row needs them, with a kill in between."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.ledger.workload import make_tables
from tests.support.instances import alive
from tests.support.kafka_topics import read_topic, topic_names
from tests.support.orders import wait_until
from tests.support.pipelines import kafka_config, local, write
from tests.support.process import Deltaforge

if TYPE_CHECKING:
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database

CUSTOMERS = (1, 2, 3)
ROWS = 60
CHANGES = f"""
insert into orders (id, customer_id, total, created_at)
  select id, 1 + id % 3, 1, now() from generate_series(1, {ROWS}) id;
update orders set total = 2 where id = 4;
delete from orders where id = 5;
"""


@pytest.mark.slow
def test_each_row_goes_to_the_topic_that_it_names(
    kafka: KafkaCluster, database: Database, topic_prefix: str, tmp_path: Path
) -> None:
    """Guards against a topic that is made in the middle of a Kafka transaction and tears or doubles it."""
    make_tables(database.dsn())
    database.execute("alter table orders replica identity full")
    database.execute("alter publication orders_pub set table orders")
    bootstrap = kafka.bootstrap()
    document = local(f"rows-{topic_prefix}", f"{topic_prefix}.${{after.customer_id}}")
    document["spec"]["source"]["config"]["tables"] = ["public.orders"]
    create = {"partitions": 2, "replication_factor": 1}
    kafka_config(document).update({"key": "order:${after.id}:${op}", "create_topics": create})
    file = write(tmp_path / "pipeline.yaml", document)
    servers = {"POSTGRES_DSN": database.dsn(), "KAFKA_BROKERS": bootstrap}
    # GIVEN a pipeline whose topics nobody has made, which dies when everything is in Kafka and not committed
    with Deltaforge(file, {**servers, "DELTAFORGE_FAILPOINTS": "kafka.before_commit=kill@1"}, name="rows") as first:
        first.wait_ready()
        assert not [name for name in topic_names(bootstrap) if name.startswith(f"{topic_prefix}.1")]
        database.execute(CHANGES)
        assert first.wait(90) == -signal.SIGKILL, first.tail()
    # WHEN it runs again
    with Deltaforge(file, servers, name="rows") as second:
        topics = {number: f"{topic_prefix}.{number}" for number in CUSTOMERS}

        def arrived() -> bool:
            return sum(len(read_topic(bootstrap, topic)) for topic in topics.values()) >= ROWS + 3

        wait_until(arrived, "all records are committed", lambda: alive(second))
        assert second.term() == 0, second.tail()
    # THEN every record is in its topic, under its key, once
    for number, topic in topics.items():
        keys = Counter(record.key for record in read_topic(bootstrap, topic))
        wanted = Counter(f"order:{id}:c".encode() for id in range(1, ROWS + 1) if 1 + id % 3 == number)
        wanted += Counter([b"order:4:u"] if number == 2 else [b"order:5:d"] * 2 if number == 3 else [])
        assert keys == wanted
