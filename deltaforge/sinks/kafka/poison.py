"""Which record Kafka will not take, and which row it came from, without saying what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from deltaforge.model import Lsn
from deltaforge.sinks.kafka.faults import Reaction, reaction

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message


class _Source(msgspec.Struct, frozen=True):
    schema: str
    table: str
    lsn: int | None = None


class _Envelope(msgspec.Struct, frozen=True):
    source: _Source | str | None = None
    """A text in a CloudEvent, which has the block one level below."""
    payload: _Envelope | None = None
    """Where the envelope is when its schema comes with it."""
    data: _Envelope | None = None
    """Where it is in a CloudEvent."""


_decoder = msgspec.json.Decoder(_Envelope)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def describe_row(value: bytes | None) -> str:
    """Table, LSN and size of a record's row, as far as its source block tells."""
    if value is None:
        return "a tombstone"
    source = _source(value)
    if source is None:
        return f"a record of {len(value)} bytes"
    row = f"the record of {source.schema}.{source.table}" if source.table else "a logical message"
    at = f" at {Lsn(source.lsn)}" if source.lsn is not None else ""
    return f"{row}{at} ({len(value)} bytes)"


def _source(value: bytes) -> _Source | None:
    try:
        found = _decoder.decode(value)
    except _UNREADABLE:
        return None
    while inner := found.payload or found.data:
        found = inner
    return found.source if isinstance(found.source, _Source) else None


def suspicion(error: KafkaError, message: Message) -> int:
    """How likely it is that this record is at fault: one that is refused fails its innocent neighbours in the request.

    librdkafka gives all of them the same error, and tells nobody which one the broker named.
    """
    if reaction(error) is not Reaction.POISON:
        return -1
    if error.name() in ("INVALID_RECORD", "INVALID_TIMESTAMP"):
        return int(message.key() is None)
    return len(message.value() or b"")
