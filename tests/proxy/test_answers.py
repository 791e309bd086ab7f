"""Answers in a broker's name, as a real librdkafka reads them. What it asks for is passed on, or never seen."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from tests.proxy.answers import Unknown, error_answer, stand_in
from tests.proxy.frames import Api, Request, correlation_id
from tests.support.kafka_topics import create_topic, read_topic

if TYPE_CHECKING:
    from tests.proxy.cluster import ProxiedKafka

WAIT_S = 30.0


def _request(api: int, version: int, body: bytes) -> Request:
    head = struct.pack("!hhih", api, version, 7, 1) + b"c"
    return Request(api, version, 7, 1, struct.pack("!i", len(head) + len(body)) + head + body)


def test_an_answer_names_everything_that_was_asked_for() -> None:
    """Guards against an answer that librdkafka takes for one about another partition."""
    asked = struct.pack("!h1sqh", 1, b"t", 5, 0) + struct.pack("!ih3siiii", 1, 3, b"abc", 3, 0, 4, 9)
    answer = error_answer(_request(Api.AddPartitionsToTxn, 0, asked), 47)
    parts = b"".join(struct.pack("!ih", number, 47) for number in (0, 4, 9))
    assert answer[4:] == struct.pack("!iiih3si", 7, 0, 1, 3, b"abc", 3) + parts
    assert struct.unpack("!i", answer[:4])[0] == len(answer) - 4


@pytest.mark.parametrize(("api", "version"), [(Api.EndTxn, 5), (Api.Produce, 13), (Api.Metadata, 1), (999, 0)])
def test_what_librdkafka_does_not_send_is_refused(api: int, version: int) -> None:
    """Guards against a made-up answer to a version that nobody has looked at."""
    with pytest.raises(Unknown):
        error_answer(_request(api, version, b""), 47)


def test_a_stand_in_is_answered_in_the_place_of_the_other() -> None:
    """Guards against an answer that its client cannot tell."""
    frame = stand_in(_request(Api.EndTxn, 1, b""))
    assert struct.unpack("!ihhih", frame) == (len(frame) - 4, Api.ApiVersions, 0, 7, -1)
    assert correlation_id(frame[4:]) == 7


@pytest.fixture
def topic(proxied_kafka: ProxiedKafka, topic_prefix: str) -> str:
    return create_topic(proxied_kafka.direct, f"{topic_prefix}.answers")


def _transact(producer: Producer, topic: str) -> None:
    """One transaction with one record."""
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    producer.produce(topic, b"value", b"key", partition=0)
    producer.commit_transaction(WAIT_S)


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize(
    ("api", "name"),
    [
        (Api.FindCoordinator, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"),
        (Api.InitProducerId, "INVALID_TRANSACTION_TIMEOUT"),
        (Api.AddPartitionsToTxn, "TOPIC_AUTHORIZATION_FAILED"),
        (Api.Produce, "INVALID_RECORD"),
        (Api.EndTxn, "INVALID_TXN_STATE"),
    ],
)
def test_librdkafka_believes_the_answer(
    proxied_kafka: ProxiedKafka, topic: str, api: Api, name: str, done: bool
) -> None:
    """Guards against frames that librdkafka cannot read: it would tell of the frame, and a test of nothing."""
    producer = Producer({"bootstrap.servers": proxied_kafka.bootstrap, "transactional.id": topic, "log_level": 0})
    # A producer of another test may still ask for its coordinator.
    ours = topic.encode()
    rule = proxied_kafka.answer_with(api, getattr(KafkaError, name), where=lambda asked: ours in asked.frame, done=done)
    with pytest.raises(KafkaException) as raised:
        _transact(producer, topic)
    assert rule.hits == 1
    error = raised.value.args[0]
    # Of a record that was refused the commit only says that it has to be aborted, and why.
    assert error.name() == name or error.txn_requires_abort(), error
    if api is Api.EndTxn:
        assert len(read_topic(proxied_kafka.direct, topic)) == int(done)
    del producer
