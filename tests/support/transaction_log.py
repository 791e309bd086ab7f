"""The log of Kafka's transaction coordinator: what it decided of each transaction, when, and about which partitions.

A transaction is committed from the moment this log has the decision on; the markers in its partitions follow. Only this
log tells when that was, and which partitions one transaction is in.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from tests.support.topics import consumer, partitions, take

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.topics import Record

TOPIC = "__transaction_state"
READ_S = 60.0
STATES = (
    "Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence",
)  # fmt: skip
ENDED = ("Empty", "CompleteCommit", "CompleteAbort", "Dead")
"""States in which nothing is left to do."""
_HEAD = struct.Struct(">hqhib")


class Decision(NamedTuple):
    """The end of one transaction."""

    time_ms: int
    """When the coordinator wrote it down, as milliseconds since 1970 by its clock."""
    producer_id: int
    epoch: int
    committed: bool
    places: frozenset[tuple[str, int]]


class TransactionLog:
    """What the log says of each transactional id."""

    def __init__(self) -> None:
        self.decisions: dict[str, list[Decision]] = {}
        """In order."""
        self.states: dict[str, str] = {}
        """As last written."""

    def take(self, record: Record) -> None:
        """The next record of the id's partition. Raises ValueError when its form is not known."""
        (form,) = struct.unpack_from(">h", record.key or b"\xff\xff")
        if form != 0 or record.key is None or record.value is None:
            return
        name = record.key[4:].decode()
        version, producer, epoch, _, status = _HEAD.unpack_from(record.value)
        if version != 1:
            raise ValueError(f"a record of {TOPIC} has version {version}")
        state = self.states[name] = STATES[status]
        if state.startswith("Prepare"):
            places = frozenset(_places(record.value))
            decision = Decision(record.time_ms, producer, epoch, state == "PrepareCommit", places)
            self.decisions.setdefault(name, []).append(decision)


def read_transaction_log(bootstrap: str) -> TransactionLog:
    """The whole log as it is now. Raises TimeoutError."""
    log, reader = TransactionLog(), consumer(bootstrap)
    try:
        open_ = set(partitions(reader, TOPIC))
        reader.assign([TopicPartition(TOPIC, number, OFFSET_BEGINNING) for number in open_])
        deadline = time.monotonic() + READ_S
        while open_:
            if time.monotonic() > deadline:
                raise TimeoutError(f"partitions {sorted(open_)} of {TOPIC} not read to their end")
            for record in take(reader, lambda _, number: open_.discard(number)):
                log.take(record)
    finally:
        reader.close()
    return log


def _places(value: bytes) -> Iterable[tuple[str, int]]:
    """The partitions in a record's value: a compact array of topics, each with a compact array of numbers."""
    count, at = _varint(value, _HEAD.size)
    for _ in range(count - 1):
        length, at = _varint(value, at)
        topic, at = value[at : at + length - 1].decode(), at + length - 1
        numbers, at = _varint(value, at)
        for _ in range(numbers - 1):
            yield topic, int.from_bytes(value[at : at + 4], "big")
            at += 4
        _, at = _varint(value, at)


def _varint(value: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = value[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
