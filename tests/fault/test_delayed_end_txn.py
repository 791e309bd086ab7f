"""A commit that arrives late, during the next transaction.

librdkafka sends EndTxn again when its connection is lost; the first copy may still be on its way, in a network or in a
broker that was stopped. Kafka up to 4.1 takes it for the end of whatever transaction is open, because librdkafka's
EndTxn (version 1) names only a producer and its epoch, which is the same for all transactions of one client.
"""

from __future__ import annotations

import faulthandler
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaException, Producer

from tests.ledger.judge import judge
from tests.ledger.workload import Workload, make_tables
from tests.proxy.frames import Api, end_txn_error
from tests.support.kafka_topics import create_topic, read_topic
from tests.support.outage import wait_for_epoch
from tests.support.pipelines import local, write
from tests.support.process import Deltaforge
from tests.support.topics import LiveReader, markers, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.ledger.verdict import Verdict
    from tests.proxy.cluster import ProxiedKafka
    from tests.proxy.frames import Request
    from tests.proxy.rules import Rule
    from tests.support.databases import Database

pytestmark = pytest.mark.fault("K5")

WAIT_S = 60.0
ROWS_PER_S = 400.0
ROUNDS = 3
LOSSES = 4
"""Of errors that are alike librdkafka tells two; sometimes one of them has another text."""
FENCED = {47, 90}
"""INVALID_PRODUCER_EPOCH, PRODUCER_FENCED."""


# ---- that the danger is real


@pytest.fixture(params=[2, 1, 0])
def transaction_version(request: pytest.FixtureRequest, proxied_kafka: ProxiedKafka) -> Iterator[int]:
    """The broker's finalized transaction.version; 2, its default, is the second part of KIP-890."""
    level = int(request.param)
    if level < 2:
        _finalize(proxied_kafka, "downgrade", level)
    yield level
    if level < 2:
        _finalize(proxied_kafka, "upgrade", 2)


def _finalize(kafka: ProxiedKafka, verb: str, level: int) -> None:
    where = ["--bootstrap-server", kafka.direct, verb, "--feature", f"transaction.version={level}"]
    kafka.cluster.run_tool("org.apache.kafka.tools.FeatureCommand", *where)


@pytest.mark.slow
def test_a_late_commit_ends_the_next_transaction_of_a_plain_producer(
    proxied_kafka: ProxiedKafka, topic_prefix: str, transaction_version: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the reason for all the others: the day that this fails, a producer need not be rebuilt any more."""
    topic = create_topic(proxied_kafka.direct, f"{topic_prefix}.late", 2)
    producer = Producer(
        {"bootstrap.servers": proxied_kafka.bootstrap, "transactional.id": topic_prefix, "log_level": 0}
    )
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    producer.produce(topic, b"first", partition=0)
    producer.flush(WAIT_S)
    # GIVEN a commit whose first copy is on its way while its second one was answered
    late, commits = proxied_kafka.hold_request(Api.EndTxn), proxied_kafka.watch(Api.EndTxn)
    cutter = _CutsItsClient(proxied_kafka, late)
    with cutter:
        producer.commit_transaction(WAIT_S)
    # AND half of the next transaction
    producer.begin_transaction()
    producer.produce(topic, b"second, one half", partition=0)
    producer.flush(WAIT_S)
    # WHEN the first copy arrives
    late.release()
    late.wait_answered()
    # THEN the half is committed
    assert end_txn_error(late.answers[0]) == 0
    assert [request.version for request in commits.requests] == [1, 1]
    assert [record.value for record in read_topic(proxied_kafka.direct, topic)] == [b"first", b"second, one half"]
    producer.produce(topic, b"second, other half", partition=1)
    end = "committed"
    try:
        producer.flush(WAIT_S)
        producer.commit_transaction(WAIT_S)
    except KafkaException as error:
        end = error.args[0].name()
    seen = sorted(str(record.value) for record in read_topic(proxied_kafka.direct, topic))
    with capsys.disabled():
        print(f"\ntransaction.version {transaction_version}: the other half: {end}; seen at the end: {seen}")


class _CutsItsClient:
    """While something blocks: waits until a rule holds a request, and ends the client's side of its connection."""

    def __init__(self, kafka: ProxiedKafka, rule: Rule) -> None:
        self._kafka, self._rule = kafka, rule

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _work(self) -> None:
        self._rule.wait_hit()
        _cut_client(self._kafka, self._rule)


def _cut_client(kafka: ProxiedKafka, rule: Rule) -> None:
    number = rule.requests[-1].connection
    kafka.proxy().cut_client(lambda connection: connection.number == number)


# ---- that deltaforge is safe from it


@dataclass
class Site:
    """A pipeline whose Kafka is behind a proxy."""

    kafka: ProxiedKafka
    database: Database
    topic: str
    name: str
    product: Deltaforge
    answers: list[bytes] = field(default_factory=list)
    """What the broker said to each late request."""

    def ours(self, request: Request) -> bool:
        """Whether a request is of the pipeline's transactional producer."""
        return f"deltaforge.{self.name}.orders-kafka".encode() in request.frame

    def hold(self, api: Api, nth: int = 1) -> Rule:
        """Hold one of its requests."""
        return self.kafka.hold_request(api, nth=nth, where=self.ours)

    def late(self, api: Api) -> None:
        """Let one request arrive during the next transaction: the client has given up on it and asked again."""
        held = self.hold(api)
        held.wait_hit(seconds=WAIT_S)
        # Of a commit all rows have been delivered: what is produced from now on is the next transaction's.
        rows, half = self.kafka.watch(Api.Produce, where=self.ours), self.hold(Api.Produce, nth=2)
        _cut_client(self.kafka, held)
        half.wait_hit(seconds=WAIT_S)
        rows.wait_answered()
        held.release()
        held.wait_answered()
        self.answers += held.answers
        half.release()

    def lose_the_coordinator(self) -> None:
        """Cut the coordinator's connection while no commit is on it."""
        held = self.hold(Api.AddPartitionsToTxn)
        held.wait_hit(seconds=WAIT_S)
        number = held.requests[-1].connection
        self.kafka.proxy().cut(lambda connection: connection.number == number)
        held.discard()

    def begin_an_epoch(self) -> None:
        """Make PostgreSQL end our stream; the next one begins with a new producer."""
        self.database.execute(
            "select pg_terminate_backend(pid) from pg_stat_replication where application_name = 'deltaforge'"
        )


@pytest.fixture
def site(proxied_kafka: ProxiedKafka, database: Database, topic_prefix: str, tmp_path: Path) -> Iterator[Site]:
    """The example's pipeline on fresh tables, running."""
    # pytest's dump of all stacks is for hangs; these tests are long by design and have deadlines of their own.
    faulthandler.cancel_dump_traceback_later()
    make_tables(database.dsn())
    topic = create_topic(proxied_kafka.direct, f"{topic_prefix}.events", 12)
    name = f"late-{topic_prefix}"
    file = write(tmp_path / "pipeline.yaml", local(name, topic))
    servers = {"POSTGRES_DSN": database.dsn(), "KAFKA_BROKERS": proxied_kafka.bootstrap}
    with Deltaforge(file, servers, name="late") as product:
        product.wait_ready()
        yield Site(proxied_kafka, database, topic, name, product)


@pytest.mark.slow
@pytest.mark.parametrize("losses", [0, LOSSES], ids=["told", "untold"])
def test_a_late_commit_tears_no_transaction_of_ours(
    site: Site, losses: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against a second copy of a commit that goes unnoticed, also when librdkafka tells nothing of it."""
    with Workload(site.database.dsn(), seed=21, rows_per_s=ROWS_PER_S) as load:
        for _ in range(ROUNDS):
            for _ in range(losses):
                site.lose_the_coordinator()
            site.late(Api.EndTxn)
        load.wait_for_rows(load.rows + 200)
    # THEN each copy, that came while a transaction was open, was refused
    errors = [end_txn_error(answer) for answer in site.answers]
    verdict = _settle(site, load)
    with capsys.disabled():
        print(f"\nlate EndTxn answered with {errors}; {load.rows} rows written; {verdict}")
    assert verdict.clean, str(verdict)
    assert set(errors) <= FENCED, errors
    assert len(errors) == ROUNDS


@pytest.mark.slow
def test_a_late_fence_of_our_own_tears_no_transaction_of_ours(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against our own InitProducerId: its late copy fences the producer that it was meant to make."""
    with Workload(site.database.dsn(), seed=22, rows_per_s=ROWS_PER_S) as load:
        for _ in range(ROUNDS):
            epoch = site.product.pipeline(site.name)["epoch"]
            site.begin_an_epoch()
            site.late(Api.InitProducerId)
            # THEN the producer that was fenced is replaced, in an epoch of its own
            wait_for_epoch(site.product, site.name, epoch + 2)
        load.wait_for_rows(load.rows + 200)
    verdict = _settle(site, load)
    with capsys.disabled():
        print(f"\n{len(site.answers)} late InitProducerId; {load.rows} rows written; {verdict}")
    assert verdict.clean, str(verdict)
    assert len(site.answers) == ROUNDS


def _settle(site: Site, load: Workload) -> Verdict:
    """Let everything come that must come, end the process, and judge."""
    site.kafka.heal()
    expected = load.expected()
    with LiveReader(site.kafka.direct, site.topic) as reader:
        reader.wait_for(expected.events + expected.tombstones)
    assert site.product.metric("deltaforge_actor_restarts_total") == 0, site.product.tail()
    assert site.product.term() == 0, site.product.tail()
    records = read(site.kafka.direct, site.topic)
    return judge(records, expected, markers(site.kafka.cluster, site.topic))
