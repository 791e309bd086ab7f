"""Create missing data topics, when the configuration says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from deltaforge.sinks.kafka.faults import classify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deltaforge.config.schema import CreateTopics

_REQUEST_S = 15.0


async def create_missing(topics: Sequence[str], wanted: CreateTopics, connection: Mapping[str, object]) -> None:
    """Create those of `topics` that do not exist; an existing one is left as it is.

    Cancellation: waits for the request in flight, at most fifteen seconds.

    Raises:
      TransientError, OperatorError: the brokers are away, or refuse.
    """
    if topics:
        await trio.to_thread.run_sync(_create, topics, wanted, dict(connection))


def _create(topics: Sequence[str], wanted: CreateTopics, connection: dict[str, Any]) -> None:
    settings = {name: str(value) for name, value in wanted.config.items()}
    admin = AdminClient(connection)
    new = [
        NewTopic(topic, wanted.partitions, wanted.replication_factor, config=settings)
        for topic in dict.fromkeys(topics)
    ]
    for future in admin.create_topics(new, request_timeout=_REQUEST_S).values():
        try:
            future.result(timeout=2 * _REQUEST_S)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise classify(error.args[0], doing="create a data topic") from None
