"""Brokers older and newer than the one that all other tests run on."""

from __future__ import annotations

import faulthandler
import json
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from deltaforge.embedded.kafka import KafkaCluster
from tests.fault.sizes import FULL, SEED
from tests.ledger.workload import make_tables
from tests.support.instances import Site, alive
from tests.support.orders import insert_orders, wait_for_orders
from tests.support.topics import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.databases import Database

VERSIONS = ("3.9.1", "4.0.0", "4.2.0")
TRANSACTIONS, ROWS, KILLS = 60, 20, 4


@pytest.fixture(params=VERSIONS)
def another_kafka(request: pytest.FixtureRequest) -> Iterator[KafkaCluster]:
    """A broker of that version."""
    # Longer than pytest's own patience: the first one on a machine is fetched.
    faulthandler.cancel_dump_traceback_later()
    with KafkaCluster(version=request.param) as cluster:
        yield cluster


if FULL:

    @pytest.mark.slow
    @pytest.mark.fault("K19")
    def test_another_broker_gets_every_row_once(
        another_kafka: KafkaCluster,
        database: Database,
        topic_prefix: str,
        tmp_path: Path,
        record_property: Callable[[str, object], None],
    ) -> None:
        """Guards against what only one version of Kafka's transactions does."""
        make_tables(database.dsn())
        wanted, dice = range(1, TRANSACTIONS * ROWS + 1), random.Random(SEED)
        with Site(another_kafka, database, tmp_path, topic_prefix) as site:
            pipeline = site.pipeline("versions")
            product = site.process(pipeline.file, name="versions")
            product.start()
            product.wait_ready()
            for first in wanted[::ROWS]:
                insert_orders(database, range(first, first + ROWS))
                # WHEN it is killed now and then
                if (first // ROWS) % (TRANSACTIONS // KILLS) == 1:
                    product.wait_ready()
                    time.sleep(dice.uniform(0, 0.2))
                    product.kill9()
                    product.start()
            wait_for_orders(site.bootstrap, pipeline.topic, wanted, lambda: alive(product))
            assert product.term() == 0, product.tail()
            # THEN every row is there once, in the order of the transactions
            records = read(site.bootstrap, pipeline.topic)
        ids = [json.loads(record.key or b"")["id"] for record in records]
        found = Counter(ids)
        record_property("verdict", {"lost": len(wanted) - len(found), "doubled": found.total() - len(found)})
        assert found == Counter(wanted)
        for partition in {record.partition for record in records}:
            mine = [number for number, record in zip(ids, records, strict=True) if record.partition == partition]
            assert mine == sorted(mine)
