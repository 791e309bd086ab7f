"""Questions to a real cluster over connections that die without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from confluent_kafka import KafkaError

from deltaforge.errors import TransientError
from deltaforge.sinks.kafka.cluster import Cluster
from tests.support.kafka_topics import create_topic

if TYPE_CHECKING:
    from tests.proxy.cluster import ProxiedKafka


async def test_a_connection_that_never_answers_does_not_keep_the_next_question_waiting(
    proxied_kafka: ProxiedKafka, topic_prefix: str
) -> None:
    """Guards against a pipeline that is up, whose client for questions is not, and that begins anew for ever."""
    topic = await trio.to_thread.run_sync(create_topic, proxied_kafka.direct, f"{topic_prefix}.events", 1)
    cluster = Cluster({"bootstrap.servers": proxied_kafka.bootstrap})
    try:
        assert await cluster.describe(topic) is not None
        # GIVEN a connection whose other end is gone
        await trio.to_thread.run_sync(lambda: proxied_kafka.proxy().black_hole(keep=False))
        # AND the word of the client that no broker can be reached, upon which nobody waits for long
        cluster._complain(KafkaError(KafkaError._ALL_BROKERS_DOWN))
        with pytest.raises(TransientError):
            await cluster.describe(topic)
        # WHEN new connections are served again
        await trio.to_thread.run_sync(proxied_kafka.heal)
        cluster._complain(KafkaError(KafkaError._ALL_BROKERS_DOWN))
        # THEN the next question is answered, though the old connection never will be
        assert await cluster.describe(topic) is not None
    finally:
        await cluster.aclose()
