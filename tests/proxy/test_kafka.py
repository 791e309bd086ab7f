"""The proxy before real brokers: clients stay on it, and rules do to a transaction what they say."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from tests.proxy.faults import TO_CLIENT
from tests.proxy.frames import Api, end_txn_error
from tests.support.kafka_topics import create_topic, read_topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proxy.cluster import ProxiedKafka

WAIT_S = 60.0


class InThread:
    """Something that blocks, done beside the test."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._do, args=[act])
        self._thread.start()

    def _do(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Exception as error:
            self._error = error

    @property
    def running(self) -> bool:
        """Whether it still blocks."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Wait for it. Raises what it raised."""
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error


def producer(kafka: ProxiedKafka, name: str, **settings: Any) -> Producer:
    """An initialised transactional producer behind the proxy."""
    made = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": name, "log_level": 0, **settings})
    made.init_transactions(WAIT_S)
    return made


def fill(made: Producer, topic: str, value: bytes) -> None:
    """A transaction with one record, delivered."""
    made.begin_transaction()
    made.produce(topic, value, b"key")
    assert made.flush(WAIT_S) == 0


def values(kafka: ProxiedKafka, topic: str) -> list[bytes | None]:
    """What a committed reader sees, past the proxy."""
    return [record.value for record in read_topic(kafka.direct, topic)]


def test_a_client_that_was_given_the_proxy_stays_on_it(proxied_kafka: ProxiedKafka, topic_prefix: str) -> None:
    """Guards against faults that a client never meets, because the broker told it another address."""
    admin = AdminClient({"bootstrap.servers": proxied_kafka.bootstrap})
    nodes = admin.describe_cluster().result(WAIT_S).nodes
    assert [f"{node.host}:{node.port}" for node in nodes] == [proxied_kafka.bootstrap]
    topic = create_topic(proxied_kafka.direct, f"{topic_prefix}.stays")
    made = producer(proxied_kafka, topic_prefix)
    before = proxied_kafka.requests(Api.Produce)
    fill(made, topic, b"row")
    made.commit_transaction(WAIT_S)
    assert proxied_kafka.requests(Api.Produce) > before
    for api in (Api.Metadata, Api.FindCoordinator, Api.InitProducerId, Api.AddPartitionsToTxn, Api.EndTxn):
        assert proxied_kafka.requests(api) > 0
    assert values(proxied_kafka, topic) == [b"row"]


def test_a_held_answer_keeps_a_commit_waiting_until_it_is_released(
    proxied_kafka: ProxiedKafka, topic_prefix: str
) -> None:
    """Guards against a commit whose outcome nobody can know being over too early."""
    topic = create_topic(proxied_kafka.direct, f"{topic_prefix}.held")
    made = producer(proxied_kafka, topic_prefix)
    fill(made, topic, b"row")
    rule = proxied_kafka.hold_response(Api.EndTxn)
    commit = InThread(lambda: made.commit_transaction(WAIT_S))
    rule.wait_hit()
    # THEN the broker has committed, and the producer does not know
    assert end_txn_error(rule.answers[0]) == 0
    assert values(proxied_kafka, topic) == [b"row"]
    assert commit.running
    rule.release()
    commit.join()
    assert rule.matches == 1


def test_a_held_commit_is_none_until_it_is_released(proxied_kafka: ProxiedKafka, topic_prefix: str) -> None:
    """Guards against a request that is held after it was passed on."""
    topic = create_topic(proxied_kafka.direct, f"{topic_prefix}.held")
    made = producer(proxied_kafka, topic_prefix)
    fill(made, topic, b"row")
    rule = proxied_kafka.hold_request(Api.EndTxn)
    commit = InThread(lambda: made.commit_transaction(WAIT_S))
    rule.wait_hit()
    assert values(proxied_kafka, topic) == []
    assert commit.running
    rule.release()
    commit.join()
    assert values(proxied_kafka, topic) == [b"row"]


def test_a_dropped_answer_is_asked_for_again(proxied_kafka: ProxiedKafka, topic_prefix: str) -> None:
    """Guards against a lost answer that is found all the same."""
    topic = create_topic(proxied_kafka.direct, f"{topic_prefix}.dropped")
    made = producer(proxied_kafka, topic_prefix, **{"socket.timeout.ms": 500})
    fill(made, topic, b"row")
    seen, rule = proxied_kafka.watch(Api.EndTxn), proxied_kafka.drop_response(Api.EndTxn)
    commit = InThread(lambda: _commit_at_last(made))
    rule.wait_hit()
    commit.join()
    assert seen.matches == 2
    assert values(proxied_kafka, topic) == [b"row"]


def _commit_at_last(made: Producer) -> None:
    """librdkafka leaves a request that timed out to its caller."""
    while True:
        try:
            made.commit_transaction(WAIT_S)
        except KafkaException as error:
            if not error.args[0].retriable():
                raise
        else:
            return


def test_a_copy_of_a_commit_is_answered_by_the_broker_and_not_seen_by_the_producer(
    proxied_kafka: ProxiedKafka, topic_prefix: str
) -> None:
    """Guards against a copy that is no copy: the broker answers it as it would a late one."""
    topic = create_topic(proxied_kafka.direct, f"{topic_prefix}.copied")
    made = producer(proxied_kafka, topic_prefix)
    fill(made, topic, b"one")
    rule = proxied_kafka.duplicate_request(Api.EndTxn)
    made.commit_transaction(WAIT_S)
    # WHEN it comes between two transactions it is taken for the first one's
    rule.release()
    rule.wait_answered()
    # The broker may still be writing the markers (CONCURRENT_TRANSACTIONS, 51).
    assert end_txn_error(rule.answers[0]) in (0, 51)
    fill(made, topic, b"two")
    made.commit_transaction(WAIT_S)
    assert values(proxied_kafka, topic) == [b"one", b"two"]


def test_a_cut_client_reconnects_through_the_proxy(proxied_kafka: ProxiedKafka, topic_prefix: str) -> None:
    """Guards against a client that finds a way round after its connections were cut."""
    topic = create_topic(proxied_kafka.direct, f"{topic_prefix}.cut")
    made = producer(proxied_kafka, topic_prefix)
    fill(made, topic, b"one")
    made.commit_transaction(WAIT_S)
    before = proxied_kafka.proxy().statistics()
    proxied_kafka.proxy().reset()
    fill(made, topic, b"two")
    made.commit_transaction(WAIT_S)
    after = proxied_kafka.proxy().statistics()
    assert after.accepted > before.accepted
    assert after.to_server.forwarded > before.to_server.forwarded
    assert values(proxied_kafka, topic) == [b"one", b"two"]


def test_a_black_hole_hides_the_broker_and_lifting_it_lets_work_go_on(
    proxied_kafka: ProxiedKafka, topic_prefix: str
) -> None:
    """Guards against a half-open connection that loses what was sent while it was silent."""
    topic = create_topic(proxied_kafka.direct, f"{topic_prefix}.hole")
    made = producer(proxied_kafka, topic_prefix)
    made.begin_transaction()
    proxied_kafka.proxy().black_hole([TO_CLIENT])
    made.produce(topic, b"row", b"key")
    assert made.flush(0.5) == 1
    proxied_kafka.heal()
    assert made.flush(WAIT_S) == 0
    made.commit_transaction(WAIT_S)
    assert values(proxied_kafka, topic) == [b"row"]


@pytest.mark.slow
def test_three_nodes_are_each_behind_a_proxy_and_one_rule_finds_the_coordinator(
    proxied_kafka3: ProxiedKafka, topic_prefix: str
) -> None:
    """Guards against a rule that waits at the wrong node."""
    topic = create_topic(proxied_kafka3.direct, f"{topic_prefix}.three", 6)
    admin = AdminClient({"bootstrap.servers": proxied_kafka3.bootstrap})
    nodes = admin.describe_cluster().result(WAIT_S).nodes
    assert sorted(f"{node.host}:{node.port}" for node in nodes) == sorted(proxied_kafka3.bootstrap.split(","))
    for number in range(4):
        made = producer(proxied_kafka3, f"{topic_prefix}-{number}")
        made.begin_transaction()
        for partition in range(6):
            made.produce(topic, b"row", partition=partition)
        rule = proxied_kafka3.hold_response(Api.EndTxn)
        commit = InThread(partial(made.commit_transaction, WAIT_S))
        rule.wait_hit()
        assert commit.running
        rule.release()
        commit.join()
    assert len(values(proxied_kafka3, topic)) == 24
    # AND rows went to every node through its own proxy
    assert all(proxy.seen[Api.Produce] > 0 for proxy in proxied_kafka3.proxies)
