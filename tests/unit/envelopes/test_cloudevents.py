"""CloudEvents: the attributes of every operation, and around them what Debezium's encoder writes, byte for byte."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from cloudevents.core.bindings import kafka as binding
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaforge.config.schema import Envelope, Metadata
from deltaforge.encoding import encoder_spec
from deltaforge.envelopes.base import Encoded, Encoder, make_encoder, spec_for
from deltaforge.envelopes.debezium import DebeziumEncoder
from deltaforge.errors import DeltaforgeError
from deltaforge.model import LogicalMessage, Lsn, TransactionPart, TransactionRun, WalChunk
from deltaforge.sinks.lines import lines
from deltaforge.source.frames import survey_slowly
from deltaforge.transactions.assembler import Assembler
from tests.support import pgdraws
from tests.support import pgoutput_bytes as wire
from tests.support.cloud_events import event_of
from tests.support.tables import column, part_of, table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from deltaforge.model import Item, Relation

TYPE = ("content-type", b"application/cloudevents+json; charset=UTF-8")
TABLE = table(column("id", "int8", identity=True, not_null=True), column("note", "text"))
OTHER = table(column("id", "int8", identity=True, not_null=True), name="other", oid=16401)
SETTINGS: dict[str, Any] = {
    "topic": "shop.${source.schema}.${source.table}", "topic_prefix": "shop", "database": "db",
    "skipped_operations": ("none",), "cloudevents_type_prefix": "com.example.cdc",
}  # fmt: skip
INSERT = wire.insert(TABLE.oid, ["1", "ö"], 5)


def encoded(*messages: bytes, relations: tuple[Relation, ...] = (TABLE, OTHER), **more: Any) -> Encoded:
    part = part_of(messages, relations)
    return make_encoder(spec_for(**{**SETTINGS, **more})).encode(part, 0, Lsn(77), 1)


def events(found: Encoded) -> list[dict[str, Any]]:
    """The events among the records; each obeys the specification."""
    return [event_of(value) for value in found.values if value is not None]


def test_an_insert_is_one_event_with_every_attribute() -> None:
    """Guards against an attribute that is missing, misspelled or of another form."""
    found = encoded(INSERT)
    (event,) = events(found)
    data = event.pop("data")
    assert event == {
        "specversion": "1.0",
        "id": "16/B374D848:0",
        "source": "deltaforge/shop/public.t",
        "type": "com.example.cdc.created",
        "time": "2026-11-23T07:00:05.432551Z",
        "datacontenttype": "application/json",
        "subject": "public.t",
    }
    assert list(data) == ["before", "after", "source", "op"]
    assert (data["before"], data["after"], data["op"]) == (None, {"id": 1, "note": "ö"}, "c")
    assert data["source"]["lsn"] == 5
    assert (found.topics, found.keys, found.headers) == (["shop.public.t"], [b'{"id":1}'], [[TYPE]])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (wire.insert(TABLE.oid, ["1", None]), [("created", "c", "0")]),
        (wire.update(TABLE.oid, ["1", "a"]), [("updated", "u", "0")]),
        (wire.update(TABLE.oid, ["1", "a"], old=["1", "b"], old_kind="O"), [("updated", "u", "0")]),
        (wire.update(TABLE.oid, ["2", "a"], old=["1", None]), [("deleted", "d", "0"), ("created", "c", "0.1")]),
        (wire.delete(TABLE.oid, ["1", None]), [("deleted", "d", "0")]),
        (wire.truncate([TABLE.oid]), [("truncated", "t", "0")]),
        (wire.truncate([TABLE.oid, OTHER.oid]), [("truncated", "t", "0"), ("truncated", "t", "0.1")]),
    ],
)
def test_every_operation_says_what_happened(message: bytes, expected: list[tuple[str, str, str]]) -> None:
    """Guards against a reader that chooses by `type` and gets something else, and two events with one id."""
    found = [(event["type"], event["data"]["op"], event["id"]) for event in events(encoded(message))]
    assert found == [(f"com.example.cdc.{kind}", op, f"16/B374D848:{number}") for kind, op, number in expected]


def test_tombstones_stay_and_are_no_events() -> None:
    """Guards compacted topics, and readers that would take an empty value for JSON because its header says so."""
    change = wire.update(TABLE.oid, ["2", "a"], old=["1", None])
    found = encoded(change, position_headers=True, context_headers=(("__debezium.context.taskId", b"0"),))
    assert [value is None for value in found.values] == [False, True, False]
    assert found.keys == [b'{"id":1}', b'{"id":1}', b'{"id":2}']
    new, old = ("__debezium.newkey", b'{"id":2}'), ("__debezium.oldkey", b'{"id":1}')
    rest = [
        ("__debezium.context.taskId", b"0"), ("deltaforge.commit_lsn", b"16/B374D848"), ("deltaforge.index", b"0"),
    ]  # fmt: skip
    assert found.headers == [[TYPE, new, *rest], [new, *rest], [TYPE, old, *rest]]
    assert None not in encoded(change, tombstones=False).values


@pytest.mark.parametrize(
    ("schema", "name", "source", "subject"),
    [
        ("public", "Odd Name", "public.Odd%20Name", "public.Odd Name"),
        ("größe", "a/b?c#d%e", "gr%C3%B6%C3%9Fe.a%2Fb%3Fc%23d%25e", "größe.a/b?c#d%e"),
        ("s", 'tab\t"quoted"\x85\ufffe', "s.tab%09%22quoted%22%C2%85%EF%BF%BE", 's.tab_"quoted"__'),
        ("s", "😀\U0001ffff", "s.%F0%9F%98%80%F0%9F%BF%BF", "s.😀_"),
    ],
)
def test_odd_names_make_legal_attributes(schema: str, name: str, source: str, subject: str) -> None:
    """Guards against a source that is no URI reference, and a subject with characters that no attribute has."""
    relation = msgspec.structs.replace(TABLE, schema=schema, table=name)
    for message in (INSERT, wire.delete(TABLE.oid, ["1", None])):
        event = events(encoded(message, relations=(relation,), topic_prefix="shöp a"))[0]
        assert event["source"] == f"deltaforge/sh%C3%B6p%20a/{source}"
        assert event["subject"] == subject
        assert event["data"]["source"]["table"] == name


@pytest.mark.parametrize("commit_us", [2**63 - 1, 2**63 + 10**14, -(2**63), 253_402_300_800_000_000])
def test_a_clock_that_has_no_form_is_left_out(commit_us: int) -> None:
    """Guards against a pipeline that stops, or a time that no reader takes, where a server's clock makes no sense."""
    part = msgspec.structs.replace(part_of([INSERT], [TABLE]), commit_time_us=commit_us)
    (event,) = events(make_encoder(spec_for(**SETTINGS)).encode(part, 0, Lsn(77), 1))
    assert "time" not in event
    assert event["data"]["source"]["ts_us"] == commit_us


@pytest.mark.parametrize("commit_us", [-62_135_596_800_000_000, 0, 253_402_300_799_999_999])
def test_a_time_has_four_digits_for_the_year(commit_us: int) -> None:
    """Guards against forms that RFC 3339 does not have."""
    part = msgspec.structs.replace(part_of([INSERT], [TABLE]), commit_time_us=commit_us)
    (event,) = events(make_encoder(spec_for(**SETTINGS)).encode(part, 0, Lsn(77), 1))
    read = datetime.fromisoformat(event["time"]) - datetime(1970, 1, 1, tzinfo=UTC)
    assert read == timedelta(microseconds=commit_us)


@pytest.mark.parametrize("skip", range(5))
def test_a_change_that_is_sent_again_is_the_same_event(skip: int) -> None:
    """Guards readers that know repeated events by their ids: after a crash a transaction goes on in its middle."""
    messages = [
        INSERT, wire.insert(TABLE.oid, ["2", "x" * 300]), wire.update(TABLE.oid, ["3", None], old=["1", None]),
        wire.insert(TABLE.oid, ["4", None]), wire.delete(TABLE.oid, ["2", None]),
    ]  # fmt: skip
    whole = encoded(*messages)
    encoder = make_encoder(spec_for(**SETTINGS))
    rest = encoder.encode(part_of(messages, [TABLE, OTHER]), skip, Lsn(77), 999)
    assert rest.values == whole.values[-len(rest.values) :]
    # Nor does it matter where a large transaction was cut.
    encoder.reset()
    encoder.encode(part_of(messages[:skip], [TABLE, OTHER]), 0, Lsn(77), 1)
    cut = encoder.encode(part_of(messages[skip:], first_index=skip), 0, Lsn(77), 2)
    assert cut.values == rest.values


def test_an_independent_reader_finds_the_event() -> None:
    """Guards against a value or a header that only we take for an event."""
    found = encoded(INSERT, wire.delete(TABLE.oid, ["1", None]), tombstones=False)
    for value, headers, happened in zip(found.values, found.headers, ("created", "deleted"), strict=True):
        message = binding.KafkaMessage(headers=dict(headers or ()), key=None, value=value or b"")
        event = binding.from_kafka(message, JSONFormat())
        assert event.get_type() == f"com.example.cdc.{happened}"
        assert event.get_specversion() == "1.0"
        assert event.get_time() == datetime(2026, 11, 23, 7, 0, 5, 432551, UTC)
        assert event.get_data() == json.loads(value or b"")["data"]


@pytest.mark.parametrize(("topic", "header"), [("all", [TYPE]), (None, None)])
def test_only_kafka_has_the_header(topic: str | None, header: list[tuple[str, bytes]] | None) -> None:
    """Guards lines in files, where the header would be the longest part that says nothing."""
    envelope = Envelope(type="cloudevents", type_prefix="com.example.cdc")
    spec = encoder_spec(envelope, Metadata(name="shop"), topic=topic, database="db")
    found = make_encoder(spec).encode(part_of([INSERT], [TABLE]), 0, Lsn(77), 1)
    assert found.headers == [header]
    line = json.loads(lines(found))
    assert line["value"] == json.loads(found.values[0] or b"")
    assert ("headers" in line) is (header is not None)


def test_messages_and_transactions_give_no_records() -> None:
    """Guards topics of events against records that are none, even if a spec asks for them."""
    asked: dict[str, Any] = {"message_topic": "m", "transaction_topic": "t", "value_schemas": True}
    found = encoded(wire.message("audit", b"x"), INSERT, **asked)
    assert [event["id"] for event in events(found)] == ["16/B374D848:1"]
    alone = LogicalMessage(Lsn(9), wire.message("a", b"", transactional=False), Lsn(0), 0)
    assert make_encoder(spec_for(**SETTINGS)).encode_message(alone, 1).values == []


# -- beside Debezium


def data_of(value: bytes | None) -> bytes:
    """What `data` has to be where Debezium's encoder writes this value."""
    head, found, tail = (value or b"").rpartition(b',"transaction":null,"op":"')
    assert found
    return head + b',"op":"' + tail[:1] + b'"}'


def outcome(encoder: Encoder, item: Item) -> Encoded | str:
    try:
        if isinstance(item, TransactionRun):
            return encoder.encode_run(item, Lsn(77), 1)
        return encoder.encode(cast("TransactionPart", item), 0, Lsn(77), 1)
    except DeltaforgeError as error:
        return str(error)


def items(stream: pgdraws.Stream) -> Iterator[Item]:
    relations = tuple(stream.catalog.relation(stream.payloads[i]) for i in survey_slowly(stream.payloads).relations)
    chunk = WalChunk(1, 0, len(stream.payloads), stream.payloads, relations, sum(map(len, stream.payloads)))
    for item in Assembler().feed(chunk).items:
        if isinstance(item, TransactionRun | TransactionPart):
            yield item


def is_json(value: bytes) -> bool:
    try:
        json.loads(value.decode())
    except ValueError:
        return False
    return True


def compare(plain: Encoded, cloud: Encoded) -> None:
    """Record by record."""
    assert (cloud.topics, cloud.keys, cloud.events) == (plain.topics, plain.keys, plain.events)
    assert cloud.nbytes == sum(len(part or b"") for part in (*cloud.keys, *cloud.values))
    for value, headers, debezium, others in zip(cloud.values, cloud.headers, plain.values, plain.headers, strict=True):
        if debezium is None:
            assert (value, headers) == (None, others)
            continue
        assert headers == [TYPE, *(others or ())]
        assert value is not None
        assert value.endswith(b',"data":' + data_of(debezium) + b"}")
        # Where the stream holds values that PostgreSQL never sends, Debezium's record is no JSON either.
        if is_json(debezium):
            assert event_of(value)["data"]["op"] == json.loads(debezium)["op"]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300)
ROW = st.tuples(st.integers(0, 3).map(str), st.none() | TEXT).map(list)
CHANGES = st.lists(
    st.one_of(
        ROW.map(lambda row: wire.insert(TABLE.oid, row)),
        ROW.map(lambda row: wire.update(TABLE.oid, row)),
        st.tuples(ROW, ROW).map(lambda both: wire.update(TABLE.oid, both[1], old=both[0], old_kind="O")),
        ROW.map(lambda row: wire.delete(TABLE.oid, [row[0], None])),
        ROW.map(lambda row: wire.delete(TABLE.oid, row, old_kind="O")),
        st.just(wire.truncate([TABLE.oid, OTHER.oid])),
    ),
    max_size=12,
)
OPTIONS = st.fixed_dictionaries(
    {
        "tombstones": st.booleans(), "position_headers": st.booleans(),
        "topic": st.sampled_from(["all", "shop.${source.schema}.${source.table}"]),
        "skipped_operations": st.sampled_from(["", "t", "d", "cu"]),
    }
)  # fmt: skip


@given(CHANGES, OPTIONS)
def test_every_record_of_a_change_is_an_event_with_debeziums_values(changes: list[bytes], options: Any) -> None:
    """Guards against a row that makes an event unreadable, and against two events that have one id."""
    found = encoded(*changes, **options)
    plain = encoded(*changes, **options, cloudevents_type_prefix="")
    compare(plain, found)
    made = events(found)
    assert len({(event["source"], event["id"]) for event in made}) == len(made)
    for event, value in zip(made, filter(None, plain.values), strict=True):
        assert event["data"].items() <= json.loads(value).items()


@given(st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_around_any_change_stands_an_event_with_debeziums_bytes_in_it(r: Random) -> None:
    """Guards against a value, a key, a header or a count that depends on the envelope."""
    spec = msgspec.structs.replace(pgdraws.encoder_settings(r), value_schemas=False, message_topic="")
    plain, cloud = DebeziumEncoder(spec), make_encoder(msgspec.structs.replace(spec, cloudevents_type_prefix="x"))
    for item in items(pgdraws.stream(r, 3)):
        expected, found = outcome(plain, item), outcome(cloud, item)
        if isinstance(expected, str) or isinstance(found, str):
            assert found == expected
            return
        compare(expected, found)
