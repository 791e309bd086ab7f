"""A Kafka transaction is given up on purpose, and the process dies around that very moment.

That happens at a drain inside of a source transaction, and at a refusal.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.fault.points import ABORT
from tests.fault.sizes import FULL, SEED
from tests.ledger.workload import make_tables
from tests.support.databases import create_database, drop_database
from tests.support.instances import Site, alive
from tests.support.kafka_topics import end_offsets
from tests.support.orders import insert_orders, seen_orders, wait_for_orders
from tests.support.pipelines import write
from tests.support.topics import Watch, markers, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.instances import Pipeline
    from tests.support.process import Deltaforge

pytestmark = [pytest.mark.slow, pytest.mark.fault("P19", "P22")]

REFUSED = 4
BIG, NOTE = 9_000, 6_000
"""Rows of the large transaction and characters in each: far more than the byte budget lets anybody hold."""
LIMIT = 500
AT_A_REFUSAL, AT_A_STOP = (ABORT, ABORT) if FULL else (ABORT[SEED % 2 :][:1], ABORT[::-1][SEED % 2 :][:1])
_LARGE = """insert into orders (id, customer_id, total, note, created_at)
  select id, 1, 1, repeat('x', %s), now() from generate_series(1001, 1000 + %s) id"""


@pytest.fixture
def site(kafka: KafkaCluster, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One database with the tables."""
    database = create_database(postgres)
    make_tables(database.dsn())
    with Site(kafka, database, tmp_path_factory.mktemp("aborts"), f"a{database.name[-8:]}") as made:
        yield made
    drop_database(database)


def _born(site: Site, name: str) -> Pipeline:
    """A pipeline that has delivered one order, and has a large transaction before it."""
    pipeline = site.pipeline(name)
    product = site.process(pipeline.file, name=name)
    product.start()
    product.wait_ready()
    insert_orders(site.database, [1])
    wait_for_orders(site.bootstrap, pipeline.topic, [1], lambda: alive(product))
    assert product.term() == 0, product.tail()
    site.database.execute(_LARGE, [NOTE, BIG])
    return pipeline


def _armed(site: Site, pipeline: Pipeline, *points: str) -> Deltaforge:
    """A process of the pipeline, started with these failpoints."""
    product = site.process(pipeline.file, name=pipeline.name, extra={"DELTAFORGE_FAILPOINTS": ",".join(points)})
    product.start()
    return product


def _stop_inside(site: Site, pipeline: Pipeline, *points: str) -> tuple[int, Deltaforge]:
    """SIGTERM to a process once something of the large transaction is in Kafka; its exit code."""
    with Watch(site.bootstrap, pipeline.topic) as watch:
        product = _armed(site, pipeline, *points)
        watch.wait()
        return product.term(), product


def _assert_nothing_is_open(site: Site, pipeline: Pipeline) -> None:
    """Readers need not wait for anybody."""
    committed = end_offsets(site.bootstrap, pipeline.topic)
    assert committed == end_offsets(site.bootstrap, pipeline.topic, "read_uncommitted")


def _assert_delivered(site: Site, pipeline: Pipeline) -> None:
    """A process without failpoints delivers all of it, once and in one Kafka transaction."""
    product = _armed(site, pipeline)
    insert_orders(site.database, [2])
    wait_for_orders(site.bootstrap, pipeline.topic, [2], lambda: alive(product))
    assert product.term() == 0, product.tail()
    assert seen_orders(site.bootstrap, pipeline.topic) == [1, 2, *range(1001, 1001 + BIG)]
    large = [record for record in read(site.bootstrap, pipeline.topic) if len(record.value or b"") > NOTE]
    ends = {(mark.partition, mark.offset): mark for mark in markers(site.kafka, pipeline.topic)}
    wrote = set()
    for number in {record.partition for record in large}:
        offsets = [record.offset for record in large if record.partition == number]
        behind = min(offset for partition, offset in ends if partition == number and offset > min(offsets))
        assert behind > max(offsets), f"partition {number} is cut at {behind}"
        wrote.add((ends[number, behind].producer_id, ends[number, behind].producer_epoch))
    assert len(wrote) == 1


def _refuse(pipeline: Pipeline, *, large: bool) -> None:
    """From its next start on, refuse to split transactions, or not."""
    document = yaml.safe_load(pipeline.file.read_text())
    document["spec"]["batch"] = {"max_tx_events": LIMIT, "on_large_tx": "halt"} if large else {}
    write(pipeline.file, document)


def test_a_process_killed_while_it_gives_up_half_a_transaction_loses_and_doubles_nothing(site: Site) -> None:
    """Guards what was produced before a refusal or a stop: it must neither be seen nor be taken for delivered."""
    pipeline = _born(site, "aborts")
    # WHEN a process dies before, or after, it has given up what it refuses to split
    _refuse(pipeline, large=True)
    for point in AT_A_REFUSAL:
        product = _armed(site, pipeline, f"{point}=kill@1")
        assert product.wait() == -signal.SIGKILL, f"{point}\n{product.tail()}"
    # AND WHEN a process dies before, or after, it has given up what it had no time to finish
    _refuse(pipeline, large=False)
    for point in AT_A_STOP:
        code, product = _stop_inside(site, pipeline, f"{point}=kill@1")
        assert code == -signal.SIGKILL, f"{point}: exit {code}\n{product.tail()}"
    # THEN nothing of it is seen, and afterwards all of it once
    assert seen_orders(site.bootstrap, pipeline.topic) == [1]
    _assert_delivered(site, pipeline)


if FULL:

    @pytest.mark.parametrize("action", ["raise", "cancel"])
    def test_a_refusal_that_cannot_give_up_its_transaction_is_told_all_the_same(site: Site, action: str) -> None:
        """Guards the reason of a refusal, and readers, who would wait for what a refusal or a stop left open."""
        pipeline = _born(site, "refusal")
        # WHEN giving up fails once THEN the next try says the same, and leaves nothing open
        _refuse(pipeline, large=True)
        product = _armed(site, pipeline, f"{ABORT[0]}={action}@1")
        assert product.wait() == REFUSED, product.tail()
        assert f"failpoint {ABORT[0]}" in product.text()
        assert "would have to be split: it is above the limits" in product.tail()
        _assert_nothing_is_open(site, pipeline)
        # AND WHEN a stop gives up in peace THEN it ends well, and leaves nothing open either
        _refuse(pipeline, large=False)
        code, product = _stop_inside(site, pipeline)
        assert code == 0, product.tail()
        _assert_nothing_is_open(site, pipeline)
        assert seen_orders(site.bootstrap, pipeline.topic) == [1]
        _assert_delivered(site, pipeline)
