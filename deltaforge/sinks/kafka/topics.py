"""Create missing data topics, when the configuration says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaforge.sinks.kafka.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deltaforge.config.schema import CreateTopics


async def create_missing(topics: Sequence[str], wanted: CreateTopics, connection: Mapping[str, object]) -> None:
    """Create those of `topics` that do not exist and wait until they have leaders; an existing one is left as it is.

    Cancellation: a topic whose creation was asked for may come into being all the same.

    Raises:
      TransientError, OperatorError: the brokers are away, or refuse.
    """
    settings = {name: str(value) for name, value in wanted.config.items()}
    cluster = Cluster(connection)
    try:
        for topic in dict.fromkeys(topics):
            if await cluster.describe(topic) is None:
                await cluster.create(topic, wanted.partitions, wanted.replication_factor, settings)
    finally:
        await cluster.aclose()
