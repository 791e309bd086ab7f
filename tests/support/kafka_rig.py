"""The real Kafka sink on a real broker, with a slot that says what the test wants."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING

from deltaforge.checkpoint.record import encode
from deltaforge.checkpoint.topic import CheckpointTopic
from deltaforge.config.schema import Batching, KafkaSinkConfig
from deltaforge.config.templates import TopicTemplate
from deltaforge.metrics import SinkMetrics
from deltaforge.model import Checkpoint, Lsn, Progress, SlotState, Stored, TopicMark
from deltaforge.sinks.kafka.actor import KafkaSinkActor
from deltaforge.sinks.kafka.client_conf import build_client_conf
from deltaforge.sinks.kafka.opening import Identity
from deltaforge.sinks.kafka.wiring import KafkaWiring
from tests.support.kafka_topics import create_topic, read_topic
from tests.support.sink_rig import Handles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deltaforge.envelopes.heartbeat import Heartbeat


class BornTopic:
    """A checkpoint topic whose first start has been done before the first read."""

    def __init__(self, topic: CheckpointTopic) -> None:
        self._topic = topic
        self._born = False
        self.name = topic.name

    async def read(self, *, wait_s: float, held_up: Callable[[str], None]) -> Stored:
        """The newest records."""
        if not self._born:
            self._born = True
            await self._topic.ensure(None)
            first = Progress(flush_lsn=Lsn(1))
            await self._topic.write_first(Checkpoint("born", "sys", 1, "db", "slot", "pub", "v1", "rig", 0, first))
        return await self._topic.read(wait_s=wait_s, held_up=held_up)

    async def pinned(self, marks: Sequence[TopicMark]) -> frozenset[tuple[str, int, int]]:
        """Where committed readers stand still."""
        return await self._topic.pinned(marks)

    async def topic_marks(self, topics: Sequence[str]) -> tuple[TopicMark, ...]:
        """Ids and ends of data topics."""
        return await self._topic.topic_marks(topics)


class KafkaRig:
    """One Kafka sink under test, exactly once or at least once."""

    keeps_progress = True
    whole_transactions = True

    def __init__(self, bootstrap: str, *, exactly_once: bool, heartbeat: Heartbeat | None = None) -> None:
        self.handles = Handles()
        self._bootstrap = bootstrap
        self._heartbeat = heartbeat
        self.may_repeat = not exactly_once
        # The encoder of the rig writes to the topic "t"; every test has a broker-wide name of its own.
        self.topic = create_topic(bootstrap, f"rig-{uuid.uuid4().hex[:10]}", partitions=1)
        self.handles.encoder.topic = self.topic
        self.properties: dict[str, object] = {}
        """librdkafka's settings of the next producer that writes rows."""
        config = KafkaSinkConfig("k", bootstrap, TopicTemplate.parse(self.topic), exactly_once=exactly_once)
        self._sink = KafkaSinkActor(self._wiring(config))

    def _wiring(self, config: KafkaSinkConfig) -> KafkaWiring:
        small = self.handles.wiring()
        client = build_client_conf(config, transactional_id=f"deltaforge.{self.topic}")
        data = self.properties
        data |= client.reveal()
        topic = CheckpointTopic(f"_deltaforge.{self.topic}", client.reveal_connection(), instance="rig")
        return KafkaWiring(
            config=config,
            batching=Batching(),
            inbox=small.inbox,
            gate=small.gate,
            receipts=small.receipts,
            epoch=small.epoch,
            rewind=small.rewind,
            budget=small.budget,
            spared=small.spared,
            encoder=small.encoder,
            metrics=SinkMetrics("rig", "kafka", ""),
            report=small.report,
            checkpoint=BornTopic(topic),
            identity=Identity("pub", "v1", "rig"),
            slot=self._slot,
            encode_record=encode,
            expected_topics=self._topics,
            occasional_topics=(),
            connection=client.reveal_connection(),
            data_properties=data,
            ledger_properties=data if config.exactly_once else client.reveal_checkpoint_producer(),
            oauth=None,
            transaction_timeout_s=client.transaction_timeout_ms / 1000,
            accept_gap=Lsn(0),
            now_ns=time.time_ns,
            heartbeat=self._heartbeat,
        )

    async def _slot(self) -> SlotState:
        confirmed = Lsn(self.handles.confirmed)
        return SlotState(True, 99, confirmed, Lsn(1), "reserved", Lsn(1 << 40), "sys", "db", 0)

    async def _topics(self) -> tuple[str, ...]:
        return (self.topic,)

    def sink(self) -> KafkaSinkActor:
        """The same actor for every start, as the pipeline has it."""
        return self._sink

    def delivered(self) -> list[str]:
        """What a read_committed consumer sees, in order."""
        return [json.loads(record.value or b"")["id"] for record in read_topic(self._bootstrap, self.topic)]
