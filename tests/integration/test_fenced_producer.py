"""What a producer makes of being fenced: a doubt, told to whoever asks next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from deltaforge.envelopes.base import Encoded
from deltaforge.sinks.kafka.producer import Doubt, KafkaProducer
from tests.support.kafka_topics import create_topic

if TYPE_CHECKING:
    from deltaforge.embedded.kafka import KafkaCluster


@pytest.mark.fault("K18")
@pytest.mark.parametrize("step", ["produce", "flush", "commit", "wait"])
async def test_a_fenced_producer_ends_in_a_doubt_and_in_no_crash(
    kafka: KafkaCluster, topic_prefix: str, step: str
) -> None:
    """Guards against a fatal error that leaves through the poll loop: a crash that counts, and that says less."""
    topic = create_topic(kafka.bootstrap(), f"{topic_prefix}.fenced")
    properties: dict[str, object] = {"bootstrap.servers": kafka.bootstrap(), "transactional.id": topic_prefix}
    first, second = (KafkaProducer(properties, brokers="", oauth=None) for _ in range(2))
    row = Encoded([topic], [b"key"], [b"value"], [None], 8, 1)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            # GIVEN a producer with a transaction open
            await first.open()
            nursery.start_soon(first.serve)
            await first.init()
            first.begin()
            if step != "produce":
                await first.produce(row, [0])
                await first.flush(trio.current_time() + 30)
            # WHEN another one of the same id begins
            await second.open()
            nursery.start_soon(second.serve)
            await second.init()
            # THEN the next thing that the first one does says so
            with pytest.raises(Doubt, match="fenced"):
                await _do(first, step, row)
            with pytest.raises(Doubt):
                first.check()
            await first.close()
            await second.close()


async def _do(producer: KafkaProducer, step: str, row: Encoded) -> None:
    deadline = trio.current_time() + 30
    if step == "commit":
        await producer.commit(deadline)
        return
    await producer.produce(row, [0])
    if step == "wait":
        while True:  # only the poll loop can tell
            producer.check()
            await trio.sleep(0.01)
    await producer.flush(deadline)
