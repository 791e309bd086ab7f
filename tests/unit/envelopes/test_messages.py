"""Logical messages: the record they become, their filters, and what is no message. Recordings: tests/integration."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deltaforge.envelopes.base import Encoded, Encoder, make_encoder, spec_for
from deltaforge.envelopes.options import ValueOptions
from deltaforge.errors import ProtocolViolation
from deltaforge.model import LogicalMessage, Lsn
from tests.support import pgoutput_bytes as wire
from tests.support.tables import column, part_of, table

pytestmark = pytest.mark.usefixtures("codec")
NOW_NS = 1_795_417_206_060_302_614
TABLE = table(column("id", "int8", identity=True, not_null=True), name="orders")
ROW = wire.insert(16400, ["7"], 40)


def encoder_for(**settings: Any) -> Encoder:
    settings = {"message_topic": "gold.message"} | settings
    return make_encoder(spec_for(topic="all", topic_prefix="gold", database="golddb", **settings))


def outside(prefix: str, content: bytes, lsn: int, previous_end: int = 0) -> LogicalMessage:
    payload = wire.message(prefix, content, lsn, transactional=False)
    return LogicalMessage(Lsn(lsn), payload, Lsn(previous_end), len(payload))


def encode(*messages: bytes, **settings: Any) -> Encoded:
    return encoder_for(**settings).encode(part_of(messages, [TABLE]), 0, Lsn(30), NOW_NS)


def test_a_message_in_a_transaction_has_every_byte_of_debezium() -> None:
    """Guards against fields in another order, and clocks or row fields that such a record does not have."""
    encoded = encode(wire.message("audit", b"hello", 46111568))
    assert encoded.topics == ["gold.message"]
    assert encoded.keys == [b'{"prefix":"audit"}']
    assert encoded.values == [
        b'{"op":"m","ts_ms":1795417206060,"source":{"version":"3.7.0.Final","connector":"postgresql","name":"gold",'
        b'"ts_ms":1795417205432,"snapshot":"false","db":"golddb","sequence":"[\\"30\\",\\"46111568\\"]",'
        b'"ts_us":1795417205432551,"ts_ns":1795417205432551000,"schema":"","table":"","txId":738,"lsn":46111568,'
        b'"xmin":null,"origin":null,"origin_lsn":null},"transaction":null,'
        b'"message":{"prefix":"audit","content":"aGVsbG8="}}'
    ]
    assert encoded.headers == [None]
    assert encoded.events == 1
    assert encoded.nbytes == len(encoded.keys[0] or b"") + len(encoded.values[0] or b"")


def test_a_message_outside_of_transactions_has_no_transaction_and_ends_one() -> None:
    """Guards against an xid that nobody has, and a sequence that goes back to the COMMIT before the message."""
    encoder = encoder_for(transaction_topic="gold.transaction")
    encoder.encode(part_of([ROW], [TABLE]), 0, Lsn(30), NOW_NS)
    value = json.loads(encoder.encode_message(outside("p", b"x", 90, 60), NOW_NS).values[0] or b"")
    assert value["source"]["txId"] is None
    assert value["transaction"] is None
    assert value["source"]["sequence"] == '["90","90"]'
    assert value["source"]["ts_us"] == 1_795_417_205_432_551
    (_, row, _) = encoder.encode(part_of([ROW], [TABLE]), 0, Lsn(60), NOW_NS).values
    assert json.loads(row or b"")["source"]["sequence"] == '["90","40"]'


def test_a_message_before_any_transaction_has_the_time_it_is_processed_at() -> None:
    """Guards against an event from 1970."""
    value = json.loads(encoder_for().encode_message(outside("p", b"x", 90), NOW_NS).values[0] or b"")
    assert value["source"]["ts_us"] == NOW_NS // 1000


@pytest.mark.parametrize(
    ("mode", "content"), [("bytes", "+/8="), ("base64", "+/8="), ("base64-url-safe", "-_8="), ("hex", "fbff")]
)
def test_the_content_follows_the_mode_of_binary_columns(mode: Any, content: str) -> None:
    """Guards against content that a consumer set to another mode cannot read."""
    (value,) = encode(wire.message("p", b"\xfb\xff"), values=ValueOptions(binary=mode)).values
    assert json.loads(value or b"")["message"]["content"] == content


def test_prefixes_are_quoted_and_content_may_be_empty() -> None:
    """Guards against JSON that a prefix breaks."""
    prefix = 'ключ "q"\n\U0001f600'
    encoded = encode(wire.message(prefix, b""))
    (key,), (value,) = encoded.keys, encoded.values
    assert json.loads(key or b"") == {"prefix": prefix}
    assert json.loads(value or b"")["message"] == {"prefix": prefix, "content": ""}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["audit", "AUDIT2", "noise"]),
        ({"messages_included": "audit"}, ["audit"]),
        ({"messages_included": "audit.*"}, ["audit", "AUDIT2"]),
        ({"messages_included": "noise, audit"}, ["audit", "noise"]),
        ({"messages_excluded": "no.*,x"}, ["audit", "AUDIT2"]),
        ({"messages_excluded": "udit"}, ["audit", "AUDIT2", "noise"]),
        ({"message_topic": ""}, []),
    ],
)
def test_filters_match_whole_prefixes_whatever_the_case(settings: dict[str, str], expected: list[str]) -> None:
    """Guards against messages that pass because part of their prefix matches, inside and outside of transactions."""
    names = ["audit", "AUDIT2", "noise"]
    encoded = encode(*(wire.message(name, b"") for name in names), **settings)
    assert [json.loads(key or b"")["prefix"] for key in encoded.keys] == expected
    assert encoded.events == len(expected)
    encoder = encoder_for(**settings)
    alone = [encoder.encode_message(outside(name, b"", 50), NOW_NS) for name in names]
    assert [json.loads(key or b"")["prefix"] for out in alone for key in out.keys] == expected
    assert sum(out.events for out in alone) == len(expected)


def test_rows_around_a_message_keep_their_order_and_positions() -> None:
    """Guards against a message that is not counted as an event, which shifts what a restart skips."""
    messages = [ROW, wire.message("p", b"x", 41), wire.insert(16400, ["8"], 42)]
    encoded = encode(*messages, position_headers=True)
    assert encoded.topics == ["all", "gold.message", "all"]
    assert [dict(headers or ())["deltaforge.index"] for headers in encoded.headers] == [b"0", b"1", b"2"]
    (headers,) = encoder_for(position_headers=True).encode_message(outside("p", b"", 0x50), NOW_NS).headers
    assert headers == [("deltaforge.commit_lsn", b"0/50"), ("deltaforge.index", b"-1")]


@pytest.mark.parametrize("cut", range(26, 43))
def test_a_message_that_is_cut_short_is_told(cut: int) -> None:
    """Guards against half a message that passes for a whole one."""
    whole = wire.message("p", b"xy")
    assert len(whole) == 43
    with pytest.raises(ProtocolViolation):
        encode(whole[:cut])
