"""A second opinion on what is committed: Java's own console consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.ledger.tapes import Tape
from tests.support.kafka_tools import tool_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
STALLED_MS = 30_000
_NULL = "<no value>"
_PRINT = {
    "print.partition": "true",
    "print.offset": "true",
    "print.key": "true",
    "key.separator": "\t",
    "null.literal": _NULL,
}


def read_with_java(bootstrap: str, counts: Mapping[str, int]) -> Tape:
    """So many committed records of each topic from its beginning, or fewer when no more come for 30 s.

    Keys and values have to be text without tabs and line ends, as JSON is. With a record too many somewhere, one that
    belongs there is missing in the end.
    """
    tape = Tape("Java consumer")
    for topic, count in counts.items():
        if count:
            _read(tape, bootstrap, topic, count)
    return tape


def _read(tape: Tape, bootstrap: str, topic: str, count: int) -> None:
    arguments = ["--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning"]
    arguments += ["--isolation-level", "read_committed", "--max-messages", str(count), "--timeout-ms", str(STALLED_MS)]
    for name, value in _PRINT.items():
        arguments += ["--property", f"{name}={value}"]
    null = _NULL.encode()
    with tool_lines(CONSOLE_CONSUMER, *arguments) as lines:
        for line in lines:
            partition, offset, key, text = line.split(b"\t")
            place = topic, int(partition.removeprefix(b"Partition:"))
            kept = [None if each == null else each for each in (key, text)]
            tape.note(place, int(offset.removeprefix(b"Offset:")), *kept)
