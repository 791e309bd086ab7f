"""librdkafka's errors: whose fault each is, and how a producer goes on after it. A pure table.

Errors are told apart by librdkafka's names (`KafkaError.name()`): stable, and the words users search for.

Rule 1: a name the table does not know asks for a rebuild of the client and counts as transient: librdkafka's advice
        is to treat the unknown as fatal for the client, and a new client is cheap.
Rule 2: librdkafka's flag `txn_requires_abort` is not a permission to send the same rows again: after REQUEST_TIMED_OUT
        and UNKNOWN the outcome of the transaction is unknown. So there is no "abort and resend" here.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Protocol

from deltaforge.errors import DeltaforgeError, OperatorError, TransientError


class KafkaErrorLike(Protocol):
    """The part of `confluent_kafka.KafkaError` this module looks at."""

    def name(self) -> str:
        """librdkafka's name, e.g. `_TRANSPORT`."""
        ...

    def str(self) -> str:
        """librdkafka's text."""
        ...

    def fatal(self) -> bool:
        """Whether the client can do nothing any more."""
        ...


class Reaction(Enum):
    """What the owner of a client does next."""

    RESUME = "call the same function again on the same client"
    REBUILD = "throw the client away and rewind"
    FENCED = "throw the client away; rewind if the slot is still ours, else stand by"
    OPERATOR = "a person has to change something: stay blocked, try again slowly"
    POISON = "this record can never be written as it is"


_RESUME = frozenset({"_TIMED_OUT", "_IN_PROGRESS", "_RETRY"})

_FENCED = frozenset({"_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH"})

_TIMES = "set message.timestamp.type=LogAppendTime on the topic, or widen its timestamp limits"
_POISON = {
    # Both the broker's and the client's own limit.
    "MSG_SIZE_TOO_LARGE": "raise max.message.bytes of the topic, and message.max.bytes in client_conf",
    "RECORD_LIST_TOO_LARGE": "raise max.message.bytes and segment.bytes of the topic",
    "INVALID_TIMESTAMP": _TIMES,
    "INVALID_RECORD": "the broker's log says why: a compacted topic needs a key, so give the table a primary key; "
    f"limits of time are told by this name too, where several records break them: {_TIMES}",
}

_CREDENTIALS = "correct the credentials or certificates in client_conf; deltaforge goes on by itself"
_ACL = "grant the missing right on the broker; deltaforge goes on by itself"
_BROKER = "change the broker's setting or the sink's client_conf"
FILE = "put the file there, readable for this process, or correct client_conf; deltaforge goes on by itself"
AWAY = "are the brokers up, and reachable at the addresses in `brokers`? deltaforge goes on by itself"

_OPERATOR = {
    "_AUTHENTICATION": _CREDENTIALS,
    "SASL_AUTHENTICATION_FAILED": _CREDENTIALS,
    "UNSUPPORTED_SASL_MECHANISM": "use a sasl.mechanism that the broker offers",
    "ILLEGAL_SASL_STATE": "the port may expect no SASL: compare security.protocol with the broker's listener",
    "SECURITY_DISABLED": _BROKER,
    "_SSL": "compare security.protocol and the ssl.* settings with the broker's listener and its certificate",
    "TOPIC_AUTHORIZATION_FAILED": _ACL + " (topic: Describe, DescribeConfigs, Read, Write, Create)",
    "CLUSTER_AUTHORIZATION_FAILED": _ACL + " (cluster: Create for the checkpoint topic, IdempotentWrite)",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": _ACL + " (transactional id: Describe, Write)",
    "GROUP_AUTHORIZATION_FAILED": _ACL,
    "POLICY_VIOLATION": "a create-topic policy of the cluster refuses it: create the topic by hand",
    "INVALID_REPLICATION_FACTOR": "the cluster has too few brokers for this replication factor",
    "INVALID_TRANSACTION_TIMEOUT": "lower transaction.timeout.ms, or raise the broker's transaction.max.timeout.ms",
    "UNSUPPORTED_VERSION": "the broker is too old; Kafka 2.5 or newer is needed",
    "UNSUPPORTED_FOR_MESSAGE_FORMAT": "raise the topic's message format",
    "TOPIC_EXCEPTION": "topic names are up to 249 of the characters a-z A-Z 0-9 . _ -",
    "_INVALID_ARG": "correct client_conf",
    "_UNSUPPORTED_FEATURE": "this build of librdkafka lacks what client_conf asks for",
}

_ALERT = re.compile(r"SSL alert number (4[0-689]|116)\b")
"""OpenSSL's words where the broker ends a connection for our certificate, or for want of one (RFC 8446, 6.2: 40 to 46,
48, 49, 116). librdkafka calls it `_TRANSPORT` where the handshake had ended on our side, as it has in TLS 1.3."""

_AWAY = frozenset({"_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_TIMED_OUT"})

_UNKNOWN_TOPIC = frozenset({"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "UNKNOWN_TOPIC_ID"})


def reaction(error: KafkaErrorLike) -> Reaction:
    """What to do after `error` on a transactional producer."""
    name = error.name()
    if name in _FENCED:
        return Reaction.FENCED
    if name in _POISON:
        return Reaction.POISON
    if name in _OPERATOR or name in _UNKNOWN_TOPIC:
        return Reaction.OPERATOR
    if name in _RESUME and not error.fatal():
        return Reaction.RESUME
    return Reaction.REBUILD


def classify(error: KafkaErrorLike, *, doing: str, topic: str = "", brokers: str = "") -> DeltaforgeError:
    """The typed error for `error`, met while `doing` ("read the checkpoint topic").

    `topic` and `brokers` complete the command that a missing topic's error names.
    """
    name = error.name()
    if name in _UNKNOWN_TOPIC and topic:
        return missing_topic(topic, brokers)
    text = f"cannot {doing}: {error.str()} ({name})"
    hint = _OPERATOR.get(name) or _POISON.get(name) or (_CREDENTIALS if _ALERT.search(text) else None)
    if hint is not None:
        return OperatorError(text, hint=hint)
    if name in _UNKNOWN_TOPIC:
        return OperatorError(text, hint="create the topic; deltaforge goes on by itself")
    return TransientError(text, hint=AWAY if name in _AWAY else "")


class MissingTopic(OperatorError):
    """A data topic does not exist; deltaforge never creates one silently."""


def missing_topic(topic: str, brokers: str = "") -> MissingTopic:
    """A data topic that does not exist, with the command that creates it."""
    server = brokers or "BROKER:9092"
    messages = topic.endswith(".message")
    return MissingTopic(
        f'topic "{topic}" does not exist, and deltaforge creates data topics only when told to',
        hint=f"run: kafka-topics.sh --bootstrap-server {server} --create --topic {topic} (the broker's defaults apply "
        "unless --partitions and --replication-factor are added); or set create_topics in the sink"
        + ("; or leave logical messages out with message.prefix.exclude.list: .*" if messages else ""),
    )
