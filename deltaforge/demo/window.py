"""What a consumer of the demo's topic sees, printed. The rows are the demo's own; deltaforge prints no others."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # no __all__

if TYPE_CHECKING:
    from collections.abc import Callable

SHOWN = 12
_SUMMARY_S = 5.0
_WIDTH = 150


def create_topic(bootstrap: str, topic: str, partitions: int) -> None:
    """Create the topic, as kafka-topics.sh would. Raises KafkaException."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})  # a temporary would be gone before the answer
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(30)


class Window:
    """What a read_committed consumer sees: the first few records in full, then their number."""

    def __init__(self, bootstrap: str, topic: str, say: Callable[[str], None]) -> None:
        self.records = 0
        self._say = say
        self._summary_at = 0.0
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "deltaforge-demo",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
            }
        )
        # Assigned, not subscribed: joining a group would only take time.
        partitions = self._consumer.list_topics(topic, timeout=30).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])

    def look(self, seconds: float) -> None:
        """Take what arrives within so many seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            message = self._consumer.poll(left)
            if message is None:
                break
            if (error := message.error()) is not None:
                raise KafkaException(error)
            self.records += 1
            if self.records <= SHOWN:
                self._say(_line(message.key(), message.value()))
        if self.records > SHOWN and end > self._summary_at:
            self._summary_at = end + _SUMMARY_S
            self._say(f"{self.records} records so far")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()


def _line(key: bytes | str | None, value: bytes | str | None) -> str:
    names: dict[str, Any] = json.loads(key or b"{}")
    shown = ", ".join(f"{name}={part}" for name, part in names.items() if not name.startswith("__dbz__"))
    if value is None:
        return f"  - tombstone   {shown}"
    event = json.loads(value)
    row = json.dumps(event["after"] or event["before"], ensure_ascii=False, separators=(",", ":"))
    line = f"  {event['op']} {event['source']['table']:11} {shown}  {row}"
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."
