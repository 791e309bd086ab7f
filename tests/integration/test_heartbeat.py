"""Heartbeats on a real broker, beside a stream in which nothing happens."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING

import pytest
import trio

from deltaforge.envelopes.base import spec_for
from deltaforge.envelopes.heartbeat import heartbeat_of
from tests.support.kafka_rig import KafkaRig
from tests.support.kafka_topics import Record, create_topic, read_topic
from tests.support.sink_rig import keep_running

if TYPE_CHECKING:
    from deltaforge.embedded.kafka import KafkaCluster


@pytest.mark.parametrize("exactly_once", [True, False])
async def test_an_idle_sink_writes_heartbeats_that_a_committed_reader_sees(
    kafka: KafkaCluster, exactly_once: bool
) -> None:
    """Guards against heartbeats that wait for a change, or that stand in a transaction nobody commits."""
    bootstrap = kafka.bootstrap()
    topic = create_topic(bootstrap, f"beats-{uuid.uuid4().hex[:10]}", partitions=3)
    spec = spec_for(topic="t", topic_prefix="gold", database="db", heartbeat_topic=topic, heartbeat_ms=50)
    rig = KafkaRig(bootstrap, exactly_once=exactly_once, heartbeat=heartbeat_of(spec))
    began, restarts = time.time_ns() // 1_000_000, list[str]()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(keep_running, rig.sink, restarts)
            await rig.handles.begin(1)
            beats: list[Record] = []
            while len(beats) < 2:
                beats = await trio.to_thread.run_sync(read_topic, bootstrap, topic)
            nursery.cancel_scope.cancel()
    assert restarts == []
    for beat in beats:
        assert beat.partition == 0
        assert beat.key == b'{"serverName":"gold"}'
        value = json.loads(beat.value or b"")
        assert list(value) == ["ts_ms"]
        assert value["ts_ms"] >= began
