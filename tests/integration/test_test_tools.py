"""The tools of the fault tests against real servers: what they report is what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from tests.ledger.replay import OMITTED, tables_of
from tests.ledger.rows import CHANGING, KEY_WIDTH, digests
from tests.ledger.workload import Workload, make_tables
from tests.ledger.writer import FULL, Plan
from tests.support.kafka_topics import create_topic
from tests.support.topics import LiveReader, aborted_transactions, markers, read

if TYPE_CHECKING:
    from deltaforge.embedded.kafka import KafkaCluster
    from tests.ledger.outcomes import Expected
    from tests.support.databases import Database


def _transaction(kafka: KafkaCluster, topic: str, name: str, rows: int) -> Producer:
    producer = Producer({"bootstrap.servers": kafka.bootstrap(), "transactional.id": name})
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(rows):
        producer.produce(topic, key=b"k", value=str(number).encode(), partition=number % 2)
    producer.flush(30)
    return producer


def test_an_abandoned_kafka_transaction_is_seen_as_one_aborted_transaction(
    kafka: KafkaCluster, topic_prefix: str
) -> None:
    """Guards against counting open transactions at a kill wrongly: by partition, or commits too."""
    topic = create_topic(kafka.bootstrap(), f"{topic_prefix}.t", 2)
    # GIVEN a committed transaction, then one whose producer goes away without a word
    _transaction(kafka, topic, topic_prefix, 4).commit_transaction(30)
    abandoned = _transaction(kafka, topic, topic_prefix, 6)
    assert len(read(kafka.bootstrap(), topic)) == 4
    assert len(read(kafka.bootstrap(), topic, committed=False)) == 10
    # WHEN its successor takes over
    _transaction(kafka, topic, topic_prefix, 2).commit_transaction(30)
    # THEN the markers tell of two commits and one abort
    marks = markers(kafka, topic)
    assert len(aborted_transactions(marks)) == 1
    assert {mark.partition for mark in marks} == {0, 1}
    assert sum(mark.committed for mark in marks) == 4
    with LiveReader(kafka.bootstrap(), topic) as reader:
        reader.wait_for(6)
    assert len(read(kafka.bootstrap(), topic)) == 6
    del abandoned


def _differences(database: Database, expected: Expected) -> list[object]:
    found: list[object] = []
    for table, rows in tables_of(database.dsn()):
        left = {key for key, versions in expected.versions.items() if key[0] == table and versions[-1].op != "d"}
        for row in rows:
            key = (table, row[: KEY_WIDTH[table]])
            last = expected.versions[key][-1]
            left.discard(key)
            digest, large = digests(table, row)
            # Columns change without an event, which takes the last one of a row out of date.
            if (last.digest != digest and table != CHANGING) or last.large not in (OMITTED, large):
                found.append((row, last))
        found += left
    return found


@pytest.mark.parametrize("plan", [Plan(), FULL], ids=["example", "full"])
@pytest.mark.parametrize("restart", [False, True])
def test_the_ledger_of_the_writers_ends_where_the_tables_do(database: Database, restart: bool, plan: Plan) -> None:
    """Guards against a ledger that forgets or invents work, above all when the server dies during a COMMIT."""
    make_tables(database.dsn(), ledger=plan.ledger)
    with Workload(database.dsn(), seed=3, plan=plan) as load:
        load.wait_for_rows(3_000)
        if restart:
            database.server.restart(immediate=True)
            load.wait_for_rows(load.rows + 3_000)
    expected = load.expected()
    assert _differences(database, expected) == []
    assert expected.undone
    assert not expected.vanished
    assert expected.events == load.events or restart
    assert database.value("select count(*) from pg_prepared_xacts") == 0
