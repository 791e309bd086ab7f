"""The tools of the fault tests against real servers: what they report is what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from tests.ledger.homes import Homes
from tests.ledger.java_reader import read_with_java
from tests.ledger.replay import OMITTED, tables_of
from tests.ledger.rows import CHANGING, KEY_WIDTH, digests
from tests.ledger.tapes import Tape, judge_agreement, judge_isolation
from tests.ledger.turn import BLOCK
from tests.ledger.verdict import Verdict
from tests.ledger.workload import Workload, make_tables
from tests.ledger.writer import FULL, Plan
from tests.support.kafka_topics import create_topic
from tests.support.partition_logs import read_logs
from tests.support.topics import LiveReader, aborted_transactions, markers, read, stream
from tests.support.transaction_log import ENDED, read_transaction_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer
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


def _decided(database: Database) -> list[tuple[object, ...]]:
    """What one writer did, transaction by transaction, as far as it does not depend on the clock."""
    make_tables(database.dsn(), ledger=True)
    with Workload(database.dsn(), seed=5, writers=1, plan=FULL) as load:
        load.wait_for_rows(2_000)
    versions = load.expected().versions
    own = [(key, version) for key, each in versions.items() for version in each if version.at > BLOCK]
    return sorted((each.at, key, each.op, each.digest, each.large, each.number) for key, each in own)


def test_a_seed_makes_the_same_transactions_again(
    postgres: PostgresServer, make_database: Callable[[PostgresServer], Database]
) -> None:
    """Guards against a fault that was found once and cannot be found again."""
    shorter, longer = sorted((_decided(make_database(postgres)) for _ in range(2)), key=len)
    assert longer[: len(shorter)] == shorter
    assert len(shorter) > 1_000


def test_the_coordinators_log_tells_which_partitions_one_transaction_is_in(
    kafka: KafkaCluster, topic_prefix: str
) -> None:
    """Guards against taking transactions of two partitions for one, or for two, because their markers look alike."""
    topic = create_topic(kafka.bootstrap(), f"{topic_prefix}.t", 3)
    producer = _transaction(kafka, topic, topic_prefix, 4)
    producer.commit_transaction(30)
    producer.begin_transaction()
    producer.produce(topic, key=b"k", value=b"{}", partition=2)
    producer.produce(topic, key=b"k", value=None, partition=0)
    producer.commit_transaction(30)
    abandoned = _transaction(kafka, topic, topic_prefix, 2)
    # WHEN a successor ends what was left open
    _transaction(kafka, topic, topic_prefix, 1).commit_transaction(30)
    log, logs = read_transaction_log(kafka.bootstrap()), read_logs(kafka, [topic])
    decisions, homes = log.decisions[topic_prefix], Homes(logs, log.decisions[topic_prefix])
    # THEN each record is found in its transaction, whatever its partition
    assert [decision.committed for decision in decisions] == [True, True, False, True]
    assert log.states[topic_prefix] in ENDED
    everything = list(stream(kafka.bootstrap(), [topic], committed=False))
    found = {(each.partition, each.offset): homes.home((topic, each.partition), each.offset) for each in everything}
    expected = {(0, 0): 0, (0, 1): 0, (1, 0): 0, (1, 1): 0, (2, 0): 1, (0, 3): 1, (0, 5): 2, (1, 3): 2, (0, 7): 3}
    assert {place: home.transaction for place, home in found.items()} == expected
    # AND three readers agree on what is committed
    final, java = Tape("final"), read_with_java(kafka.bootstrap(), {topic: 7})
    for record in stream(kafka.bootstrap(), [topic]):
        final.add(record)
    tape, verdict = Tape("everything"), Verdict()
    for record in everything:
        tape.add(record)
    judge_agreement(final, java, verdict)
    judge_isolation(final, tape, logs, verdict)
    assert verdict.clean, str(verdict)
    assert (final.count, java.count, tape.count) == (7, 7, 9)
    del abandoned
