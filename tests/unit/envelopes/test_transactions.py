"""Transaction metadata: numbers and records do not depend on how a transaction is cut or where a restart stands."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaforge.envelopes.base import Encoded, Encoder, make_encoder, spec_for
from deltaforge.model import Lsn, TransactionPart
from deltaforge.position import Passed
from deltaforge.transactions.assembler import split
from tests.support import pgoutput_bytes as wire
from tests.support.tables import column, part_of, table

pytestmark = pytest.mark.usefixtures("codec")
NOW_NS = 1_795_417_206_060_302_614
TX = "gold.transaction"
A = table(column("id", "int8", identity=True, not_null=True), column("v", "text"), name="a", oid=1)
B = table(column("id", "int8", identity=True, not_null=True), column("v", "text"), name="b", oid=2)
HIDDEN = msgspec.structs.replace(table(column("id", "int8"), name="h", oid=3), selected=False)
B_LATER = msgspec.structs.replace(B, columns=(*B.columns, column("new", "int4")))
TABLES = (A, B, HIDDEN)


def events() -> list[bytes]:
    """One of each kind, and a column added on the way."""
    return [
        wire.insert(1, ["1", "x"], 101),
        wire.message("p", b"1", 102),
        wire.update(1, ["2", "x"], 103, old=["1", None]),
        wire.insert(3, ["1"], 104),
        wire.update(2, ["1", "y"], 105),
        wire.message("unwanted", b"2", 106),
        wire.relation(B_LATER),
        wire.delete(2, ["1", None, None], 107),
        wire.message("p", b"3", 108),
        wire.truncate([1, 3, 2], 109),
        wire.insert(2, ["2", "z", "3"], 110),
    ]


def transaction(commit_lsn: int = 0x1000, count: int | None = None) -> TransactionPart:
    part = part_of(events()[:count], TABLES, commit_lsn=commit_lsn)
    late = sum(message[25:26] == b"R" for message in part.messages) - len(TABLES)
    return msgspec.structs.replace(part, relations=(*TABLES, *[B_LATER] * late))


def encoder_for(**settings: Any) -> Encoder:
    given: dict[str, Any] = {
        "transaction_topic": TX, "message_topic": "gold.message", "messages_excluded": "unwanted",
        "skipped_operations": (), "position_headers": True,
    } | settings  # fmt: skip
    return make_encoder(spec_for(topic="g.${source.schema}.${source.table}", topic_prefix="g", database="db", **given))


Records = list[tuple[str, bytes | None, bytes | None, Any]]


def records(encoded: Encoded) -> Records:
    return list(zip(encoded.topics, encoded.keys, encoded.values, encoded.headers, strict=True))


def pieces(part: TransactionPart, cuts: list[int]) -> list[TransactionPart]:
    """`part` cut before these events; a cut after the last event leaves the COMMIT alone."""
    found: list[TransactionPart] = []
    for cut in sorted({cut for cut in cuts if part.first_index < cut <= part.first_index + part.events}):
        if cut == part.first_index + part.events:
            head = msgspec.structs.replace(part, end_lsn=Lsn(0))
            part = msgspec.structs.replace(part, first_index=cut, events=0, messages=[], relations=())
        else:
            head, part = split(part, cut - part.first_index)
        found.append(head)
    return [*found, part]


def passed(part: TransactionPart, durable: int) -> Passed:
    """What a door passes when the first `durable` events are durable, and the COMMIT is not."""
    skip = min(max(durable - part.first_index, 0), part.events)
    return Passed(skip, part.events - skip, part.committed)


def resumed(encoder: Encoder, parts: list[TransactionPart], durable: int) -> Records:
    """As a sink does it after a restart."""
    out: Records = []
    for part in parts:
        verdict = passed(part, durable)
        if verdict.events or verdict.ends:
            out += records(encoder.encode(part, verdict.skip, Lsn(50), NOW_NS))
        else:
            encoder.learn(part)
    return out


@cache
def whole() -> tuple[Records, list[int]]:
    """The records of the transaction in one piece, and how many of them the first n events gave."""
    found = records(encoder_for().encode(transaction(), 0, Lsn(50), NOW_NS))
    indexes = [int(dict(headers)["deltaforge.index"]) for *_, headers in found]
    count = transaction().events
    # BEGIN belongs to event 0, END to none of them.
    return found, [sum(index < n for index in indexes) for n in range(count + 1)]


def bodies(encoded: Encoded) -> list[Any]:
    return [None if value is None else json.loads(value) for value in encoded.values]


def test_every_record_knows_its_place_and_end_knows_them_all() -> None:
    """Guards against counts of tombstones, of filtered messages and tables, or of one record for a changed key."""
    begin, *rows, end = bodies(encoder_for().encode(transaction(), 0, Lsn(50), NOW_NS))
    assert begin == {
        "status": "BEGIN", "id": "738:101", "event_count": None, "data_collections": None, "ts_ms": 1795417205432,
    }  # fmt: skip
    places = [(row["op"], *row["transaction"].values()) for row in rows if row]
    assert places == [
        ("c", "738:101", 1, 1), ("m", "738:102", 2, 1), ("d", "738:103", 3, 2), ("c", "738:103", 4, 3),
        ("u", "738:105", 5, 1), ("d", "738:107", 6, 2), ("m", "738:108", 7, 1), ("t", "738:109", 8, 4),
        ("t", "738:109", 9, 3), ("c", "738:110", 10, 4),
    ]  # fmt: skip
    name = "io.debezium.connector.postgresql.LogicalDecodingMessageMonitor$LogicalDecodingMessageId@3b81f5b"
    counts = {one["data_collection"]: one["event_count"] for one in end.pop("data_collections")}
    assert counts == {"public.a": 4, "public.b": 4, f"{name}e": 1, f"{name}f": 1}
    assert end == {"status": "END", "id": f"738:{0x1000 + 48}", "event_count": 10, "ts_ms": 1795417205432}


def test_records_of_a_transaction_have_its_position_and_no_other_headers() -> None:
    """Guards against markers that a reader of a split transaction cannot put into place."""
    out = encoder_for(context_headers=(("x", b"y"),)).encode(transaction(), 0, Lsn(50), NOW_NS)
    markers = [headers for topic, headers in zip(out.topics, out.headers, strict=True) if topic == TX]
    lsn = ("deltaforge.commit_lsn", b"0/1000")
    assert markers == [[lsn, ("deltaforge.index", b"0")], [lsn, ("deltaforge.index", b"10")]]
    assert out.events == 8


@pytest.mark.parametrize("durable", range(11))
def test_a_restart_writes_exactly_what_was_missing(durable: int) -> None:
    """Guards against a second BEGIN, a second or missing END, and counts that begin anew after a restart."""
    found, given_by = whole()
    assert resumed(encoder_for(), [transaction()], durable) == found[given_by[durable] :]


@given(st.integers(0, 10), st.lists(st.integers(1, 10), max_size=5))
def test_any_cut_and_any_restart_give_the_records_of_the_whole(durable: int, cuts: list[int]) -> None:
    """Guards against state that a part, a skip or a reset loses or keeps."""
    found, given_by = whole()
    encoder = encoder_for()
    # An epoch that ends in mid-transaction leaves nothing behind.
    encoder.encode(pieces(transaction(), [4])[0], 0, Lsn(50), NOW_NS)
    encoder.reset()
    assert resumed(encoder, pieces(transaction(), cuts), durable) == found[given_by[durable] :]
    # The transaction after it starts from nothing.
    assert records(encoder.encode(transaction(), 0, Lsn(50), NOW_NS)) == found


def test_a_transaction_that_gives_no_record_has_a_begin_and_an_end() -> None:
    """Guards against a reader that waits for a transaction of tables which are not selected, or of skipped rows."""
    hidden = part_of([wire.insert(3, ["1"], 104)], [HIDDEN])
    skipped = part_of([wire.truncate([1], 109)], [A])
    for part, settings, lsn in ((hidden, {}, 104), (skipped, {"skipped_operations": "t"}, 109)):
        out = encoder_for(**settings).encode(part, 0, Lsn(0), NOW_NS)
        begin, end = bodies(out)
        assert begin["id"] == f"738:{lsn}"
        assert (end["status"], end["event_count"], end["data_collections"]) == ("END", 0, [])
        assert out.events == 0


def test_a_transaction_without_events_has_a_begin_and_an_end() -> None:
    """Guards against an END alone: before PostgreSQL 15 the server sends empty transactions."""
    begin, end = bodies(encoder_for().encode(part_of([]), 0, Lsn(0), NOW_NS))
    assert (begin["status"], end["status"]) == ("BEGIN", "END")


def test_skipped_operations_have_no_place() -> None:
    """Guards against gaps in the order of those records that are written: of a change of the key, the create."""
    rows = bodies(encoder_for(skipped_operations="du").encode(transaction(), 0, Lsn(50), NOW_NS))
    orders = [row["transaction"]["total_order"] for row in rows[1:-1]]
    assert orders == list(range(1, len(orders) + 1))
    assert rows[-1]["event_count"] == len(orders) == 7


def test_markers_have_schemas_when_keys_and_values_have() -> None:
    """Guards against records that a converter with schemas cannot read."""
    out = encoder_for(key_schemas=True, value_schemas=True).encode(transaction(), 0, Lsn(50), NOW_NS)
    for topic, key, value in zip(out.topics, out.keys, out.values, strict=True):
        found, described = json.loads(value or b"null"), json.loads(key or b"null")
        assert found is None or list(found) == ["schema", "payload"]
        if topic == TX:
            assert described["payload"]["id"] == found["payload"]["id"]
            assert found["schema"]["name"] == "io.debezium.connector.common.TransactionMetadataValue"
