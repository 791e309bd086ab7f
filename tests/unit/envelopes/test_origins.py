"""What an Origin, and what the transactions before, do to records beside the rows, as recorded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from deltaforge.envelopes.base import make_encoder, spec_for
from deltaforge.model import LogicalMessage, Lsn
from tests.support import pgoutput_bytes as wire
from tests.support.tables import column, part_of, table

if TYPE_CHECKING:
    from deltaforge.envelopes.base import Encoded

pytestmark = pytest.mark.usefixtures("codec")
ORIGIN = wire.origin("elsewhere", 77)


def _values(encoded: Encoded) -> list[dict[str, Any]]:
    return [json.loads(value) for value in encoded.values if value]


def test_a_message_behind_a_transaction_has_its_origin() -> None:
    """Guards against messages whose origin differs from a live connector's, which forgets it at the next BEGIN."""
    encoder = make_encoder(spec_for(topic="t", topic_prefix="t", database="t", message_topic="t.message"))
    one = table(column("k", "int4"))
    text = wire.message("p", b"x", 900, transactional=False)
    message = LogicalMessage(Lsn(900), text, Lsn(800), len(text))
    row = wire.insert(one.oid, ["1"])
    part = part_of([ORIGIN, row], [one])
    encoder.encode(part, 0, Lsn(0), 1)
    (behind,) = _values(encoder.encode_message(message, 1))
    assert (behind["source"]["origin"], behind["source"]["origin_lsn"]) == ("elsewhere", 77)
    encoder.encode(part_of([row]), 0, Lsn(0), 1)
    (later,) = _values(encoder.encode_message(message, 1))
    assert (later["source"]["origin"], later["source"]["origin_lsn"]) == (None, None)


def test_a_begin_with_an_origin_has_no_position() -> None:
    """Guards against ids of BEGIN that differ from a live connector's."""
    encoder = make_encoder(spec_for(topic="t", topic_prefix="t", database="t", transaction_topic="x"))
    one = table(column("k", "int4"))
    row = wire.insert(one.oid, ["1"], 500)
    part = part_of([row], [one])
    (begin, *_) = _values(encoder.encode(part, 0, Lsn(0), 1))
    assert begin["id"] == "738:500"
    part.messages.insert(0, ORIGIN)
    (begin, *_) = _values(encoder.encode(part, 0, Lsn(0), 1))
    assert begin["id"] == "738:0"


def test_collections_keep_the_order_of_the_largest_transaction_so_far() -> None:
    """Guards against a list in END whose order forgets that Debezium's map never becomes smaller."""
    encoder = make_encoder(spec_for(topic="t", topic_prefix="t", database="t", transaction_topic="x"))
    tables = [table(column("k", "int4"), name=f"z{number}", oid=16400 + number) for number in range(1, 41)]
    rows = [wire.insert(one.oid, ["1"]) for one in tables]

    def order(count: int) -> list[str]:
        end = _values(encoder.encode(part_of(rows[:count], tables[:count]), 0, Lsn(0), 1))[-1]
        return [entry["data_collection"].removeprefix("public.z") for entry in end["data_collections"]]

    small = order(12)
    order(40)
    assert sorted(order(12)) == sorted(small)
    assert order(12) != small
