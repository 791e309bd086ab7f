"""What the pipeline hands to a Kafka sink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from actors import Cell, Mailbox, WeightBudget
    from deltaforge.config.schema import Batching, KafkaSinkConfig
    from deltaforge.envelopes.base import Encoder
    from deltaforge.envelopes.heartbeat import Heartbeat
    from deltaforge.metrics import SinkMetrics
    from deltaforge.model import Batch, Checkpoint, Lease, Lsn, Receipt, SlotState
    from deltaforge.sinks.base import Rewind
    from deltaforge.sinks.kafka.opening import CheckpointKeeper, Identity


@dataclass(frozen=True, kw_only=True)
class KafkaWiring:
    """Handles and settings of one Kafka sink. Handles belong to the pipeline and survive restarts.

    Attributes:
      connection: librdkafka's, for clients that do not produce.
      data_properties: librdkafka's, for records (the same as `ledger_properties` when exactly_once).
      ledger_properties: librdkafka's, with the transactional id: whoever holds the slot holds this id.
      transaction_timeout_s: after this age Kafka aborts an open transaction by itself.
      spared: whether the commit policy could do without this sink just now.
      slot: asks the control session for the slot's state, now.
      encode_record: a checkpoint as key and value of its topic.
      expected_topics: the data topics that the configured tables lead to today.
      occasional_topics: others that may be written to one day; with `create_topics` they are made as well.
      heartbeat: what a commit brings along now and then; None = no heartbeats.
    """

    config: KafkaSinkConfig
    batching: Batching
    inbox: Mailbox[Lease | Batch]
    gate: Cell[int]
    receipts: Cell[Receipt | None]
    epoch: Cell[int]
    rewind: Rewind
    budget: WeightBudget
    spared: Callable[[], bool]
    encoder: Encoder
    metrics: SinkMetrics
    report: Callable[[str, str], None]
    checkpoint: CheckpointKeeper
    identity: Identity
    slot: Callable[[], Awaitable[SlotState]]
    encode_record: Callable[[Checkpoint], tuple[bytes, bytes]]
    expected_topics: Callable[[], Awaitable[Sequence[str]]]
    occasional_topics: Sequence[str]
    connection: Mapping[str, object]
    data_properties: Mapping[str, object]
    ledger_properties: Mapping[str, object]
    oauth: Callable[[str], tuple[str, float]] | None
    transaction_timeout_s: float
    accept_gap: Lsn
    now_ns: Callable[[], int]
    heartbeat: Heartbeat | None = None
