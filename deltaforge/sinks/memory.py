"""The memory sink: records in a list. For tests, and for trying out a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from deltaforge.sinks.base import SmallSink

if TYPE_CHECKING:
    from deltaforge.envelopes.base import Encoded
    from deltaforge.sinks.base import SinkWiring


class MemoryRecord(NamedTuple):
    """One record, as Kafka would get it."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class MemorySink(SmallSink):
    """Keep records in `records`. What a failed batch had written is taken back, so each is there once."""

    def __init__(self, wiring: SinkWiring) -> None:
        super().__init__(wiring)
        self.records: list[MemoryRecord] = []
        self._open: list[MemoryRecord] = []

    async def open(self) -> None:
        """Forget what a predecessor had not finished."""
        self._open = []

    def write(self, encoded: Encoded) -> None:
        """Keep the records aside."""
        rows = zip(encoded.topics, encoded.keys, encoded.values, encoded.headers, strict=True)
        self._open.extend(MemoryRecord(topic, key, value, tuple(headers or ())) for topic, key, value, headers in rows)

    async def make_durable(self) -> None:
        """Put what was kept aside into `records`."""
        self.records += self._open
        self._open = []

    def close(self) -> None:
        """Nothing to let go."""
