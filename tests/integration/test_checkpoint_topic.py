"""The checkpoint topic on a real broker: what is read, when, and what is refused."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
)

from deltaforge.checkpoint.record import encode
from deltaforge.checkpoint.topic import CheckpointTopic
from deltaforge.errors import OperatorError, Refused, TransientError
from deltaforge.model import Anchor, Checkpoint, Lsn, Position, Progress, Stored
from tests.support.kafka_clients import TokenSource, mtls_conf, oauth_conf, scram_conf
from tests.support.kafka_topics import create_topic, delete_topic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.fix_tls import Certificates

COMPACT = {"cleanup.policy": "compact"}


def record(state: str, seq: int) -> Checkpoint:
    progress = Progress(Position(Lsn(seq), 0), Anchor(Lsn(seq), 5, 6), Lsn(seq), Lsn(seq))
    return Checkpoint(state, "sys", 1, "db", "slot", "pub", "opt", "me", seq, progress)


@pytest.fixture
def name(topic_prefix: str) -> str:
    return f"_deltaforge.{topic_prefix}.sink"


@pytest.fixture
async def topic(kafka: KafkaCluster, name: str) -> AsyncIterator[CheckpointTopic]:
    made = CheckpointTopic(name, {"bootstrap.servers": kafka.bootstrap(), "linger.ms": 5}, instance="me")
    yield made
    await made.aclose()


@contextmanager
def producer(kafka: KafkaCluster, transactional_id: str) -> Iterator[Producer]:
    """A transactional producer that has begun a transaction; what is open at the end is aborted."""
    made = Producer({"bootstrap.servers": kafka.bootstrap(), "transactional.id": transactional_id, "linger.ms": 5})
    made.init_transactions(30)
    made.begin_transaction()
    yield made


def put(made: Producer, name: str, *records: Checkpoint) -> None:
    for found in records:
        key, value = encode(found)
        while True:
            try:
                made.produce(name, value, key, partition=0)
                break
            except BufferError:
                made.poll(0.1)
    assert made.flush(60) == 0


async def test_a_topic_that_does_not_exist_holds_nothing_and_is_not_created(
    topic: CheckpointTopic, kafka: KafkaCluster, name: str
) -> None:
    """Guards the peek of a wrong configuration: looking must leave no trace, also where brokers create topics."""
    with trio.fail_after(60):
        assert await topic.peek() == Stored()
        assert await topic.read(wait_s=0) == Stored()
    assert name not in AdminClient({"bootstrap.servers": kafka.bootstrap()}).list_topics(timeout=30).topics


async def test_a_new_topic_is_compacted_and_replicated_like_the_data(
    topic: CheckpointTopic, kafka: KafkaCluster, name: str, topic_prefix: str
) -> None:
    """Guards the position's own durability: it must not be weaker than that of the rows."""
    create_topic(kafka.bootstrap(), topic_prefix, 2, 1, {"min.insync.replicas": "1"})
    with trio.fail_after(60):
        assert await topic.ensure(topic_prefix) == ()
        assert await topic.ensure(topic_prefix) == ()
        marks = await topic.topic_marks([name, topic_prefix])
    assert [len(mark.high_watermarks) for mark in marks] == [1, 2]
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap()})
    found = admin.describe_configs([resource])[resource].result(30)
    wanted = {"cleanup.policy": "compact", "segment.bytes": "4194304", "segment.ms": "600000"}
    wanted |= {"min.cleanable.dirty.ratio": "0.01", "min.insync.replicas": "1"}
    assert {key: found[key].value for key in wanted} == wanted


async def test_two_first_starts_may_create_the_topic_at_once(
    kafka: KafkaCluster, name: str, topic: CheckpointTopic
) -> None:
    """Guards the race of two instances: the slower one must not fail."""
    other = CheckpointTopic(name, {"bootstrap.servers": kafka.bootstrap()}, instance="other")
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(topic.ensure, None)
            nursery.start_soon(other.ensure, None)
        assert await other.read(wait_s=0) == Stored()
        await other.aclose()


async def test_a_missing_data_topic_is_named_with_the_command_that_creates_it(
    topic: CheckpointTopic, kafka: KafkaCluster, topic_prefix: str
) -> None:
    """Guards the operator's time: nothing is created silently, and nothing has to be looked up."""
    command = f"kafka-topics.sh --bootstrap-server {kafka.bootstrap()} --create --topic {topic_prefix}"
    with trio.fail_after(60):
        for ask in (lambda: topic.topic_marks([topic_prefix]), lambda: topic.ensure(topic_prefix)):
            with pytest.raises(OperatorError, match="does not exist") as missing:
                await ask()
            assert command in missing.value.hint


@pytest.mark.fault("K11")
@pytest.mark.parametrize(
    ("partitions", "config", "words"),
    [
        (1, {"cleanup.policy": "delete"}, "cleanup.policy=delete"),
        (1, {"cleanup.policy": "compact,delete"}, "cleanup.policy=compact,delete"),
        (1, {**COMPACT, "unclean.leader.election.enable": "true"}, "unclean.leader.election"),
        (2, COMPACT, "2 partitions"),
    ],
)
async def test_a_topic_that_could_lose_the_position_is_refused(
    topic: CheckpointTopic, kafka: KafkaCluster, name: str, partitions: int, config: dict[str, str], words: str
) -> None:
    """Guards a topic made by hand or by auto.create: after the retention time the position would be gone."""
    create_topic(kafka.bootstrap(), name, partitions, 1, config)
    with trio.fail_after(60), pytest.raises(Refused, match=words):
        await topic.ensure(None)


async def test_first_records_are_kept_under_keys_of_their_own(topic: CheckpointTopic) -> None:
    """Guards a kill between two steps of the first start: each step leaves its own trace."""
    with trio.fail_after(60):
        await topic.ensure(None)
        await topic.write_first(record("creating", 1))
        assert await topic.peek() == Stored(creating=record("creating", 1))
        await topic.write_first(record("born", 2))
        assert await topic.read(wait_s=0) == Stored(record("creating", 1), record("born", 2))


@pytest.mark.fault("K16")
async def test_an_open_transaction_hides_the_newest_record_until_it_ends(
    topic: CheckpointTopic, kafka: KafkaCluster, name: str, topic_prefix: str
) -> None:
    """Guards T3: a reader that stops at the last stable offset goes on from an older position and repeats rows."""
    with trio.fail_after(120):
        await topic.ensure(None)
        with producer(kafka, f"{topic_prefix}-us") as ours, producer(kafka, f"{topic_prefix}-foreign") as foreign:
            put(ours, name, record("running", 1))
            ours.commit_transaction(30)
            foreign.produce(name, b"foreign", b"foreign", partition=0)
            assert foreign.flush(30) == 0
            ours.begin_transaction()
            put(ours, name, record("running", 2))
            ours.commit_transaction(30)

            # THEN the peek sees the older one and does not wait, and a short wait ends with an error
            assert (await topic.peek()).running == record("running", 1)
            with pytest.raises(TransientError, match="pins the partition"):
                await topic.read(wait_s=0.5)

            # AND a long wait ends with the newest as soon as the foreign transaction does
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_abort_soon, foreign)
                assert (await topic.read(wait_s=100)).running == record("running", 2)


async def _abort_soon(foreign: Producer) -> None:
    # Long enough for the reader to meet the pinned end; the outcome does not depend on it.
    await trio.sleep(1)
    await trio.to_thread.run_sync(foreign.abort_transaction, 30)


async def test_an_aborted_record_is_never_seen_and_markers_at_the_end_do_not_stop_the_reader(
    topic: CheckpointTopic, kafka: KafkaCluster, name: str, topic_prefix: str
) -> None:
    """Guards the end of the log: aborted records and markers occupy offsets that no reader is ever shown."""
    with trio.fail_after(120):
        await topic.ensure(None)
        with producer(kafka, topic_prefix) as made:
            put(made, name, record("running", 1))
            made.commit_transaction(30)
            for seq in range(2, 6):
                made.begin_transaction()
                put(made, name, *[record("running", seq)] * 200)
                made.abort_transaction(30)
        for stored in (await topic.peek(), await topic.read(wait_s=0)):
            assert stored == Stored(running=record("running", 1))


@pytest.mark.fault("K10")
async def test_a_recreated_topic_is_empty_and_has_another_id(
    topic: CheckpointTopic, kafka: KafkaCluster, topic_prefix: str
) -> None:
    """Guards h of the halts: a topic deleted and made again looks the same but for its id."""
    create_topic(kafka.bootstrap(), topic_prefix)
    with trio.fail_after(60):
        (before,) = await topic.topic_marks([topic_prefix])
        delete_topic(kafka.bootstrap(), topic_prefix)
        create_topic(kafka.bootstrap(), topic_prefix)
        (after,) = await topic.topic_marks([topic_prefix])
    assert before.topic_id != after.topic_id


@pytest.mark.fault("K7")
async def test_marks_count_what_is_not_committed_yet(
    topic: CheckpointTopic, kafka: KafkaCluster, topic_prefix: str
) -> None:
    """Guards the check for a lost tail: the stable end is too low as long as anybody's transaction is open."""
    create_topic(kafka.bootstrap(), topic_prefix)
    with trio.fail_after(60), producer(kafka, f"{topic_prefix}-open") as made:
        for _ in range(10):
            made.produce(topic_prefix, b"x", partition=0)
        assert made.flush(30) == 0
        (mark,) = await topic.topic_marks([topic_prefix])
        assert mark.high_watermarks == (10,)
        await trio.to_thread.run_sync(made.abort_transaction, 30)


@pytest.mark.fault("K11")
@pytest.mark.parametrize("key", [b"running", b"somebody"])
async def test_a_record_that_is_not_ours_is_refused_with_topic_and_offset(
    topic: CheckpointTopic, kafka: KafkaCluster, name: str, key: bytes
) -> None:
    """Guards a topic that another program writes to."""
    with trio.fail_after(60):
        await topic.ensure(None)
        await topic.write_first(record("born", 1))
        plain = Producer({"bootstrap.servers": kafka.bootstrap()})
        plain.produce(name, b"garbage", key, partition=0)
        assert plain.flush(30) == 0
        for ask in (topic.peek, lambda: topic.read(wait_s=0)):
            with pytest.raises(Refused, match=f'topic "{name}" offset 1 is not a checkpoint'):
                await ask()


@pytest.mark.fault("K11")
async def test_a_tombstone_counts_as_no_record(topic: CheckpointTopic, kafka: KafkaCluster, name: str) -> None:
    """Guards an emptied topic: it must lead to the refusal of the first start, not to a crash."""
    with trio.fail_after(60):
        await topic.ensure(None)
        await topic.write_first(record("born", 1))
        plain = Producer({"bootstrap.servers": kafka.bootstrap()})
        plain.produce(name, None, b"born", partition=0)
        assert plain.flush(30) == 0
        assert await topic.read(wait_s=0) == Stored()


async def test_the_newest_of_fifty_thousand_records_is_found_fast(
    topic: CheckpointTopic, kafka: KafkaCluster, name: str, topic_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the time to start after an hour of commits; measured, not asserted."""
    with trio.fail_after(300):
        await topic.ensure(None)
        await topic.write_first(record("born", 1))
        with producer(kafka, topic_prefix) as made:
            await trio.to_thread.run_sync(lambda: put(made, name, *[record("running", n) for n in range(50_000)]))
            await trio.to_thread.run_sync(made.commit_transaction, 60)
        began = time.perf_counter()
        newest = (await topic.read(wait_s=30)).running
        took = time.perf_counter() - began
    assert newest == record("running", 49_999)
    with capsys.disabled():
        print(f"\nnewest of 50,000 checkpoint records read in {took:.2f} s")


@pytest.mark.fault("K16")
async def test_a_read_can_be_cancelled_while_a_transaction_pins_the_partition(
    topic: CheckpointTopic, kafka: KafkaCluster, name: str, topic_prefix: str
) -> None:
    """Guards the shutdown: no thread keeps the process from ending."""
    with trio.fail_after(60):
        await topic.ensure(None)
        with producer(kafka, topic_prefix) as foreign:
            foreign.produce(name, b"foreign", b"foreign", partition=0)
            assert foreign.flush(30) == 0
            with trio.move_on_after(1) as scope:
                await topic.read(wait_s=1000)
            assert scope.cancelled_caught
            await trio.to_thread.run_sync(foreign.abort_transaction, 30)


@pytest.mark.fault("K15")
@pytest.mark.slow
async def test_brokers_that_are_away_are_transient_and_a_refused_login_is_the_operators(
    kafka: KafkaCluster, unused_tcp_port: int
) -> None:
    """Guards the reaction: waiting is right for the one, a person is needed for the other."""
    password = "canary-Zp4"
    login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "u"}
    cases = [
        ({"bootstrap.servers": f"127.0.0.1:{unused_tcp_port}"}, TransientError, "refused"),
        ({"bootstrap.servers": kafka.bootstrap(), **login, "sasl.password": password}, OperatorError, "SASL"),
        ({"bootstrap.servers": kafka.bootstrap(), "security.protocol": "SSL", "ssl.ca.location": "/none"},
         OperatorError, "ssl.ca.location"),
    ]  # fmt: skip
    with trio.fail_after(120):
        for conf, kind, words in cases:
            topic = CheckpointTopic("any", conf, instance="me")
            with pytest.raises(kind, match=words) as raised:
                await topic.peek()
            assert password not in raised.value.line()
            await topic.aclose()


@pytest.mark.slow
@pytest.mark.parametrize("login", ["scram", "mtls", "oauth"])
async def test_every_way_to_log_in_prepares_and_reads_the_topic(
    kafka3: KafkaCluster, certificates: Certificates, login: str, topic_prefix: str
) -> None:
    """Guards that the checkpoint topic is reached with exactly what reaches the data."""
    conf = {
        "scram": lambda: scram_conf(kafka3, certificates),
        "mtls": lambda: mtls_conf(kafka3, certificates),
        "oauth": lambda: oauth_conf(kafka3, certificates, TokenSource()),
    }[login]()
    topic = CheckpointTopic(f"_deltaforge.{topic_prefix}.sink", conf, instance="me")
    with trio.fail_after(120):
        assert await topic.ensure(None) == ()
        await topic.write_first(record("born", 1))
        assert await topic.read(wait_s=0) == Stored(born=record("born", 1))
        assert (await topic.topic_marks([topic.name]))[0].high_watermarks == (1,)
        await topic.aclose()


@pytest.mark.fault("K15")
@pytest.mark.slow
async def test_a_wrong_password_is_the_operators_and_is_not_repeated_in_the_error(
    kafka3: KafkaCluster, certificates: Certificates
) -> None:
    """Guards against waiting for ever, and against secrets in errors."""
    conf = scram_conf(kafka3, certificates) | {"sasl.password": "canary-wrong-9Rt"}
    topic = CheckpointTopic("any", conf, instance="me")
    with trio.fail_after(60), pytest.raises(OperatorError, match="_AUTHENTICATION") as refused:
        await topic.peek()
    assert "canary" not in refused.value.line()
    await topic.aclose()


@pytest.fixture
def unused_tcp_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
