"""Heartbeats: a record now and then, so that a reader of Kafka can tell silence from a stopped pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaforge.envelopes.base import Encoded
from deltaforge.envelopes.jsontext import quoted_name
from deltaforge.envelopes.recordschemas import HEARTBEAT_KEY, HEARTBEAT_VALUE, with_schema

if TYPE_CHECKING:
    from deltaforge.envelopes.base import EncoderSpec


class Heartbeat:
    """The heartbeats of one EncoderSpec."""

    def __init__(self, spec: EncoderSpec) -> None:
        self.topic = spec.heartbeat_topic
        self.interval_s = spec.heartbeat_ms / 1000
        self._value_schema = HEARTBEAT_VALUE if spec.value_schemas else ""
        key = f'{{"serverName":{quoted_name(spec.topic_prefix)}}}'
        self._key = with_schema(HEARTBEAT_KEY if spec.key_schemas else "", key).encode("latin-1")

    def record(self, now_ns: int) -> Encoded:
        """One heartbeat; it belongs into partition 0."""
        value = with_schema(self._value_schema, f'{{"ts_ms":{now_ns // 1_000_000}}}').encode()
        return Encoded([self.topic], [self._key], [value], [None], len(self._key) + len(value), 0)


def heartbeat_of(spec: EncoderSpec) -> Heartbeat | None:
    """The heartbeats that `spec` asks for, if any."""
    return Heartbeat(spec) if spec.heartbeat_topic and spec.heartbeat_ms else None
