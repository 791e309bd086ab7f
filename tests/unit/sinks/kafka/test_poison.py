"""Which record is blamed when Kafka refuses some, and what is told of it: never what is in it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from confluent_kafka import KafkaError

from deltaforge.sinks.kafka.poison import describe_row, suspicion

if TYPE_CHECKING:
    from confluent_kafka import Message

SOURCE = {"schema": "public", "table": "orders", "lsn": 0x1_0000_0010, "db": "shop"}


def message(value: bytes | None, key: bytes | None = b"k") -> Message:
    return cast("Message", SimpleNamespace(key=lambda: key, value=lambda: value))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"before": None, "after": {"id": 4711}, "source": SOURCE}, "the record of public.orders at 1/10 (SIZE bytes)"),
        ({"schema": {"type": "struct"}, "payload": {"after": {"id": 4711}, "source": SOURCE}},
         "the record of public.orders at 1/10 (SIZE bytes)"),
        ({"id": "4711", "source": "/debezium/shop", "data": {"after": {"id": 4711}, "source": SOURCE}},
         "the record of public.orders at 1/10 (SIZE bytes)"),
        ({"source": "/debezium/shop", "data": {"schema": {}, "payload": {"after": {"id": 4711}, "source": SOURCE}}},
         "the record of public.orders at 1/10 (SIZE bytes)"),
        ({"op": "m", "source": {**SOURCE, "schema": "", "table": ""}, "message": {"content": "4711"}},
         "a logical message at 1/10 (SIZE bytes)"),
        ({"source": {**SOURCE, "lsn": None}}, "the record of public.orders (SIZE bytes)"),
        ({"state": "running", "lsn": "4711"}, "a record of SIZE bytes"),
        ({"source": "4711"}, "a record of SIZE bytes"),
        ([4711], "a record of SIZE bytes"),
    ],
)  # fmt: skip
def test_a_row_is_named_by_its_source_block_and_by_nothing_else(value: Any, said: str) -> None:
    """Guards against an error that leaves the operator searching, and against one that shows the row."""
    raw = json.dumps(value).encode()
    assert describe_row(raw) == said.replace("SIZE", str(len(raw)))


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"4711", b"\xff\x00 4711", b'{"source": {"table": 4711', b'{"source": "\xff"}',
        b'{"after":' * 100_000,
    ],
    ids=range(6),
)  # fmt: skip
def test_what_is_no_envelope_is_told_by_its_size(raw: bytes) -> None:
    """Guards against an error while an error is told."""
    assert describe_row(raw) == f"a record of {len(raw)} bytes"


def test_a_tombstone_has_no_row() -> None:
    """Guards against None where a text is put together."""
    assert describe_row(None) == "a tombstone"


@pytest.mark.parametrize("name", ["MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"])
def test_the_largest_is_blamed_for_its_size(name: str) -> None:
    """Guards against naming an innocent row of the same request."""
    error = KafkaError(getattr(KafkaError, name))
    assert suspicion(error, message(b"x" * 10)) > suspicion(error, message(b"x")) > suspicion(error, message(None))


@pytest.mark.parametrize("name", ["INVALID_RECORD", "INVALID_TIMESTAMP"])
def test_one_without_a_key_is_blamed_where_size_says_nothing(name: str) -> None:
    """Guards against blaming the largest row for a missing key."""
    error = KafkaError(getattr(KafkaError, name))
    assert suspicion(error, message(b"x", key=None)) > suspicion(error, message(b"x" * 100))


def test_nobody_is_blamed_for_a_broker_that_is_away() -> None:
    """Guards against a row's name in an error that has nothing to do with rows."""
    assert suspicion(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION), message(b"x" * 100)) < 0
