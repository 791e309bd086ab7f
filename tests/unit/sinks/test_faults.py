"""librdkafka's errors sorted by whose fault they are and by what follows."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from confluent_kafka import KafkaError

from deltaforge.errors import OperatorError, TransientError
from deltaforge.sinks.kafka import faults
from deltaforge.sinks.kafka.faults import Reaction, classify, reaction


class Fake(NamedTuple):
    """An error by its name alone."""

    called: str
    is_fatal: bool = False
    words: str = "librdkafka's words"

    def name(self) -> str:
        return self.called

    def str(self) -> str:
        return self.words

    def fatal(self) -> bool:
        return self.is_fatal


TABLE = [
    ("_TIMED_OUT", False, Reaction.RESUME),
    ("_TIMED_OUT", True, Reaction.REBUILD),
    ("REQUEST_TIMED_OUT", False, Reaction.REBUILD),
    ("UNKNOWN", False, Reaction.REBUILD),
    ("UNKNOWN_PRODUCER_ID", False, Reaction.REBUILD),
    ("INVALID_PRODUCER_ID_MAPPING", False, Reaction.REBUILD),
    ("TRANSACTION_ABORTABLE", False, Reaction.REBUILD),
    ("INVALID_TXN_STATE", True, Reaction.REBUILD),
    ("_STATE", False, Reaction.REBUILD),
    ("A_NAME_OF_A_LATER_VERSION", False, Reaction.REBUILD),
    ("_FENCED", True, Reaction.FENCED),
    ("PRODUCER_FENCED", True, Reaction.FENCED),
    ("INVALID_PRODUCER_EPOCH", True, Reaction.FENCED),
    ("TRANSACTIONAL_ID_AUTHORIZATION_FAILED", True, Reaction.OPERATOR),
    ("CLUSTER_AUTHORIZATION_FAILED", True, Reaction.OPERATOR),
    ("TOPIC_AUTHORIZATION_FAILED", False, Reaction.OPERATOR),
    ("_AUTHENTICATION", False, Reaction.OPERATOR),
    ("_SSL", False, Reaction.OPERATOR),
    ("UNKNOWN_TOPIC_OR_PART", False, Reaction.OPERATOR),
    ("MSG_SIZE_TOO_LARGE", False, Reaction.POISON),
    ("INVALID_TIMESTAMP", False, Reaction.POISON),
]


@pytest.mark.fault("K18")
@pytest.mark.parametrize(("name", "fatal", "expected"), TABLE)
def test_each_error_has_its_reaction(name: str, fatal: bool, expected: Reaction) -> None:
    """Guards the unknown outcome above all: nothing that librdkafka calls abortable is ever sent again as it was."""
    assert reaction(Fake(name, fatal)) is expected


def test_every_name_in_the_table_is_one_of_librdkafkas() -> None:
    """Guards against a typing error that would make a name dead."""
    known = set(dir(KafkaError))
    names = faults._RESUME | faults._FENCED | set(faults._POISON) | set(faults._OPERATOR) | faults._UNKNOWN_TOPIC
    spelt = {KafkaError(getattr(KafkaError, name)).name() for name in names & known}
    assert names - known <= {"UNKNOWN_TOPIC_ID", "PRODUCER_FENCED", "_IN_PROGRESS", "_RETRY"}
    assert spelt == names & known


@pytest.mark.parametrize("name", [name for name, _, expected in TABLE if expected is Reaction.OPERATOR])
def test_what_a_person_has_to_mend_says_how(name: str) -> None:
    """Guards the operator's time."""
    error = classify(Fake(name), doing="write", topic="orders", brokers="b:9092")
    assert isinstance(error, OperatorError)
    assert error.hint


def _ended_by(alert: str) -> Fake:
    return Fake("_TRANSPORT", words=f"ssl://b:9093/1: Receive failed: error:0A000000:SSL routines::{alert}")


@pytest.mark.fault("K15")
@pytest.mark.parametrize(
    "alert",
    [
        "ssl/tls alert certificate expired: SSL alert number 45",
        "ssl/tls alert certificate unknown: SSL alert number 46 (after 1ms in state APIVERSION_QUERY)",
        "tlsv1 alert unknown ca: SSL alert number 48",
        "tlsv1 alert access denied: SSL alert number 49",
        "tlsv13 alert certificate required: SSL alert number 116",
    ],
)
def test_a_certificate_that_the_broker_refuses_is_a_matter_for_a_person(alert: str) -> None:
    """Guards against a wait for brokers that are there: librdkafka calls it by the name of a lost connection."""
    error = classify(_ended_by(alert), doing="talk to Kafka")
    assert isinstance(error, OperatorError)
    assert "certificates" in error.hint


@pytest.mark.parametrize("alert", ["ssl/tls alert bad record mac: SSL alert number 20", "close notify"])
def test_other_ends_of_a_connection_are_waited_out(alert: str) -> None:
    """Guards against a person called for a damaged byte."""
    assert isinstance(classify(_ended_by(alert), doing="talk to Kafka"), TransientError)


def test_a_missing_topic_names_the_command() -> None:
    """Guards the seed's promise: topics are not made silently, so the text must say how to make one."""
    error = classify(Fake("UNKNOWN_TOPIC_OR_PART"), doing="write", topic="cdc.orders", brokers="b:9092")
    assert "kafka-topics.sh --bootstrap-server b:9092 --create --topic cdc.orders" in error.hint


@pytest.mark.fault("K18")
def test_everything_else_is_waited_out() -> None:
    """Guards an outage: a broker that is away is nobody's crash."""
    for name in ("_TRANSPORT", "_ALL_BROKERS_DOWN", "NOT_COORDINATOR", "A_NAME_OF_A_LATER_VERSION"):
        assert isinstance(classify(Fake(name), doing="write"), TransientError)
