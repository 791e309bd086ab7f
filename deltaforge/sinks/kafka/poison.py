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


class _Payload(msgspec.Struct, frozen=True):
    source: _Source


class _Envelope(msgspec.Struct, frozen=True):
    source: _Source | None = None
    payload: _Payload | None = None
    """Where the envelope is when its schema comes with it."""


_decoder = msgspec.json.Decoder(_Envelope)


def describe_row(value: bytes | None) -> str:
    """Table, LSN and size of a record's row, as far as its source block tells."""
    if value is None:
        return "a tombstone"
    source = _source(value)
    if source is None:
        return f"a record of {len(value)} bytes"
    at = f" at {Lsn(source.lsn)}" if source.lsn is not None else ""
    return f"the record of {source.schema}.{source.table}{at} ({len(value)} bytes)"


def _source(value: bytes) -> _Source | None:
    try:
        found = _decoder.decode(value)
    except msgspec.DecodeError:
        return None
    return found.payload.source if found.payload is not None else found.source


def suspicion(error: KafkaError, message: Message) -> int:
    """How likely it is that this record is at fault: one that is refused fails its innocent neighbours in the request.

    librdkafka gives all of them the same error, and tells nobody which one the broker named.
    """
    if reaction(error) is not Reaction.POISON:
        return -1
    if error.name() in ("INVALID_RECORD", "INVALID_TIMESTAMP"):
        return int(message.key() is None)
    return len(message.value() or b"")
