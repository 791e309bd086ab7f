"""The encoder: which records an event becomes, with which keys, headers, topics and constants."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from deltaforge.envelopes.base import Encoded, Encoder, make_encoder, spec_for
from deltaforge.envelopes.options import ValueOptions
from deltaforge.errors import OperatorError, ProtocolViolation
from deltaforge.model import LogicalMessage, Lsn, Relation
from tests.support import pgoutput_bytes as wire
from tests.support.pgoutput_bytes import UNSENT
from tests.support.tables import column, numeric, part_of, table

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.usefixtures("codec")
NOW_NS = 1_795_417_206_060_302_614
ORDERS = table(
    column("id", "int8", identity=True, not_null=True),
    column("status", "text", not_null=True, default="'new'::text"),
    column("total", "numeric", numeric(12, 2), not_null=True),
    column("note", "text"),
    name="orders",
)
ROW = ["7", "paid", "12.50", None]


def encoder_for(topic: str = "gold.${source.schema}.${source.table}", **settings: Any) -> Encoder:
    return make_encoder(spec_for(topic=topic, topic_prefix="gold", database="golddb", **settings))


def encode(
    messages: Sequence[bytes], *relations: Relation, skip: int = 0, previous_end: int = 0, **settings: Any
) -> Encoded:
    part = part_of(messages, relations or (ORDERS,))
    return encoder_for(**settings).encode(part, skip, Lsn(previous_end), NOW_NS)


def bodies(encoded: Encoded) -> list[tuple[str, Any, Any] | None]:
    """(op, before, after) of each record, None for a tombstone."""
    events = [None if value is None else json.loads(value) for value in encoded.values]
    return [None if event is None else (event["op"], event["before"], event["after"]) for event in events]


def test_an_insert_has_every_byte_of_the_envelope() -> None:
    """Guards against fields in another order, and a null that is written as text."""
    encoded = encode([wire.insert(16400, ROW, 30843560)], previous_end=30843500)
    assert encoded.topics == ["gold.public.orders"]
    assert encoded.keys == [b'{"id":7}']
    assert encoded.headers == [None]
    assert encoded.values == [
        b'{"before":null,"after":{"id":7,"status":"paid","total":"BOI=","note":null},"source":{"version":"3.7.0.Final",'
        b'"connector":"postgresql","name":"gold","ts_ms":1795417205432,"snapshot":"false","db":"golddb",'
        b'"sequence":"[\\"30843500\\",\\"30843560\\"]","ts_us":1795417205432551,"ts_ns":1795417205432551000,'
        b'"schema":"public","table":"orders","txId":738,"lsn":30843560,"xmin":null,"origin":null,"origin_lsn":null},'
        b'"transaction":null,"op":"c","ts_ms":1795417206060,"ts_us":1795417206060302,"ts_ns":1795417206060302614}'
    ]
    assert encoded.events == 1
    assert encoded.nbytes == len(b'{"id":7}') + len(encoded.values[0] or b"")


def test_an_unknown_previous_commit_is_null_in_the_sequence() -> None:
    """Guards against a position of zero that looks like one."""
    (value,) = encode([wire.insert(16400, ROW, 42)]).values
    assert b'"sequence":"[null,\\"42\\"]"' in (value or b"")


def test_a_plain_update_has_no_before() -> None:
    """Guards against an invented old row under REPLICA IDENTITY DEFAULT."""
    encoded = encode([wire.update(16400, ROW)])
    assert bodies(encoded) == [("u", None, {"id": 7, "status": "paid", "total": "BOI=", "note": None})]


def test_a_delete_has_all_columns_and_a_tombstone_follows() -> None:
    """Guards against compacted topics that keep deleted rows, and NOT NULL fields without a value."""
    encoded = encode([wire.delete(16400, ["7", None, None, None])])
    assert bodies(encoded) == [("d", {"id": 7, "status": "new", "total": "AA==", "note": None}, None), None]
    assert encoded.keys == [b'{"id":7}', b'{"id":7}']
    assert encoded.events == 1
    assert bodies(encode([wire.delete(16400, ["7", None, None, None])], tombstones=False))[1:] == []


@pytest.mark.fault("G15")
def test_a_key_change_is_a_delete_a_tombstone_and_an_insert_that_name_each_other() -> None:
    """Guards against a row that stays under its old key."""
    encoded = encode([wire.update(16400, ["8", "paid", "1.00", "x"], old=["7", None, None, None])])
    after = {"id": 8, "status": "paid", "total": "ZA==", "note": "x"}
    before = {"id": 7, "status": "new", "total": "AA==", "note": None}
    assert bodies(encoded) == [("d", before, None), None, ("c", None, after)]
    assert encoded.keys == [b'{"id":7}', b'{"id":7}', b'{"id":8}']
    new, old = ("__debezium.newkey", b'{"id":8}'), ("__debezium.oldkey", b'{"id":7}')
    assert encoded.headers == [[new], [new], [old]]
    assert encoded.events == 1


@pytest.mark.parametrize(("skipped", "written"), [("u", "d c"), ("d", "c"), ("c", "d"), ("cd", "")])
def test_a_key_change_is_skipped_as_the_delete_and_create_it_is(skipped: str, written: str) -> None:
    """Guards against a row that keeps its old key because updates are not wanted."""
    moved = wire.update(16400, ["8", "paid", "1.00", "x"], old=["7", None, None, None])
    encoded = encode([wire.update(16400, ROW), moved], skipped_operations=[*skipped, "u"], tombstones=False)
    assert [body and body[0] for body in bodies(encoded)] == written.split()
    assert encoded.events == bool(written)


@pytest.mark.parametrize(
    ("kind", "modifier", "text", "header", "settings"),
    [
        ("numeric", numeric(6, 2), "1.50", "1.50", {}),
        ("numeric", numeric(20, 10), "0.0000000001", "1E-10", {}),
        ("numeric", numeric(6, 2), "1.50", '"1.50"', {"decimal": "string"}),
        ("money", -1, "$1,234.50", "1234.50", {}),
        ("text", -1, 'a"b\\\n', '"a\\"b\\\\\n"', {}),
        ("date", -1, "2020-01-01", "18262", {}),
        ("date", -1, "2020-01-01", "2020-01-01", {"time": "connect"}),
        ("time", -1, "12:34:56.5", "12:34:56.500Z", {"time": "connect"}),
        ("timestamp", -1, "2020-01-01 12:34:56.5", "2020-01-01T12:34:56.500Z", {"time": "connect"}),
    ],
)
def test_key_headers_have_a_form_of_their_own(
    kind: str, modifier: int, text: str, header: str, settings: dict[str, Any]
) -> None:
    """Guards against headers in the form of the JSON converter, which Connect does not use for them."""
    one = table(column("k", kind, modifier, identity=True), column("v", "int4"))
    moved = wire.update(one.oid, [None, "1"], old=[text, None])
    encoded = encode([moved], one, values=ValueOptions(**settings))
    assert encoded.headers[-1] == [("__debezium.oldkey", f'{{"k":{header}}}'.encode())]


def test_key_headers_do_not_carry_the_table_identifier() -> None:
    """Guards against headers that differ from what Debezium's router leaves in them."""
    encoded = encode([wire.update(16400, ["8", *ROW[1:]], old=["7", None, None, None])], topic="all")
    assert encoded.keys[2] == b'{"id":8,"__dbz__physicalTableIdentifier":"gold.public.orders"}'
    assert encoded.headers[2] == [("__debezium.oldkey", b'{"id":7}')]


@pytest.mark.fault("G11")
def test_a_full_identity_gives_the_whole_old_row_and_no_key_change() -> None:
    """Guards against a delete for every update of a table with REPLICA IDENTITY FULL."""
    full = table(*ORDERS.columns, name="orders", identity="f")
    encoded = encode([wire.update(16400, ROW, old=["7", "new", "1.00", "old"], old_kind="O")], full)
    (event,) = bodies(encoded)
    assert event is not None
    assert event[0] == "u"
    assert event[1] == {"id": 7, "status": "new", "total": "ZA==", "note": "old"}


@pytest.mark.fault("G11")
def test_an_identity_index_without_the_key_makes_a_key_change_as_in_debezium() -> None:
    """Guards against other records than Debezium's where the old tuple does not hold the primary key."""
    by_status = table(
        column("id", "int8", not_null=True), column("status", "text", identity=True, not_null=True),
        column("note", "text"), identity="i",
    )  # fmt: skip
    encoded = encode([wire.update(16400, ["7", "b", None], old=[None, "a", None])], by_status)
    assert encoded.keys == [b'{"id":0}', b'{"id":0}', b'{"id":7}']
    assert bodies(encoded) == [
        ("d", {"id": 0, "status": "a", "note": None}, None),
        None,
        ("c", None, {"id": 7, "status": "b", "note": None}),
    ]


@pytest.mark.fault("G14")
def test_unchanged_toast_is_taken_from_the_old_row_or_marked() -> None:
    """Guards against a null where the table has a long text."""
    marked = encode([wire.update(16400, ["7", "paid", "1.00", UNSENT])])
    assert json.loads(marked.values[0] or b"")["after"]["note"] == "__debezium_unavailable_value"
    full = table(*ORDERS.columns, identity="f")
    old = ["7", "new", "1.00", "long"]
    known = encode([wire.update(16400, ["7", "paid", "1.00", UNSENT], old=old, old_kind="O")], full)
    assert json.loads(known.values[0] or b"")["after"]["note"] == "long"


@pytest.mark.fault("G14")
def test_a_toasted_key_is_taken_from_the_old_tuple() -> None:
    """Guards against a placeholder as the key."""
    by_text = table(column("k", "text", identity=True), column("n", "int4"))
    encoded = encode([wire.update(16400, [UNSENT, "2"], old=["long", None])], by_text)
    assert encoded.keys == [b'{"k":"long"}']


@pytest.mark.fault("D4")
def test_a_table_without_a_key_has_null_keys_even_in_a_shared_topic() -> None:
    """Guards against a key that is nothing but the table's name."""
    nokey = table(column("a", "int4"), column("b", "text"), key=())
    assert encode([wire.insert(16400, ["1", None])], nokey, topic="all").keys == [None]


def test_a_composite_key_is_in_key_order() -> None:
    """Guards against keys in column order, which hash to another partition."""
    pairs = table(column("a", "int4"), column("b", "text"), key=(1, 0))
    assert encode([wire.insert(16400, ["1", 'x"'])], pairs).keys == [b'{"b":"x\\"","a":1}']


@pytest.mark.fault("G15")
def test_truncates_are_written_only_when_asked_for() -> None:
    """Guards against consumers that never asked for truncates."""
    other = table(column("id", "int4"), name="other", oid=16401)
    message = wire.truncate([16400, 16401])
    assert encode([message], ORDERS, other).values == []
    written = encode([message], ORDERS, other, skipped_operations=["none"])
    assert written.topics == ["gold.public.orders", "gold.public.other"]
    assert written.keys == [None, None]
    assert bodies(written) == [("t", None, None)] * 2
    assert written.events == 1


def test_skipped_operations_use_up_their_index() -> None:
    """Guards against a position that shifts when an operation is skipped."""
    messages = [wire.insert(16400, ROW), wire.update(16400, ROW), wire.delete(16400, ROW), wire.message("p", b"x")]
    encoded = encode(
        [*messages, wire.insert(16400, ROW)], skipped_operations=["c"], position_headers=True, tombstones=False
    )
    assert [body and body[0] for body in bodies(encoded)] == ["u", "d"]
    assert [dict(headers or ())["deltaforge.index"] for headers in encoded.headers] == [b"1", b"2"]
    assert encoded.events == 2


def test_skipped_events_still_teach_their_relations() -> None:
    """Guards against an unknown table after a restart in the middle of a transaction."""
    other = table(column("id", "int4"), name="other", oid=16401)
    part = part_of(
        [wire.insert(16400, ROW, 1), wire.insert(16401, ["1"], 2), wire.insert(16401, ["2"], 3)], [ORDERS, other]
    )
    encoder = encoder_for()
    assert encoder.encode(part, 2, Lsn(0), NOW_NS).keys == [b'{"id":2}']
    assert encoder.encode(part_of([wire.insert(16400, ROW)]), 0, Lsn(0), NOW_NS).topics == ["gold.public.orders"]


def test_learning_is_enough_to_encode_the_next_part() -> None:
    """Guards against Relations lost with a wholly durable part."""
    encoder = encoder_for()
    encoder.learn(part_of([wire.insert(16400, ROW)], [ORDERS]))
    assert encoder.encode(part_of([wire.insert(16400, ROW)]), 0, Lsn(0), NOW_NS).events == 1
    encoder.reset()
    with pytest.raises(ProtocolViolation):
        encoder.encode(part_of([wire.insert(16400, ROW)]), 0, Lsn(0), NOW_NS)


@pytest.mark.fault("G10")
def test_a_table_that_changes_is_written_as_the_newest_relation_says() -> None:
    """Guards against yesterday's columns."""
    wider = table(*ORDERS.columns, column("extra", "int4"), name="orders")
    encoder = encoder_for()
    encoder.encode(part_of([wire.insert(16400, ROW)], [ORDERS]), 0, Lsn(0), NOW_NS)
    encoded = encoder.encode(part_of([wire.insert(16400, [*ROW, "5"])], [wider]), 0, Lsn(0), NOW_NS)
    assert json.loads(encoded.values[0] or b"")["after"]["extra"] == 5
    with pytest.raises(ProtocolViolation):
        encoder.encode(part_of([wire.insert(16400, ROW)]), 0, Lsn(0), NOW_NS)


def test_position_headers_name_commit_and_index() -> None:
    """Guards against duplicates that a consumer cannot recognise."""
    messages = [wire.insert(16400, ROW), wire.update(16400, ["8", *ROW[1:]], old=["7", None, None, None])]
    encoded = encode(messages, position_headers=True)
    lsn = ("deltaforge.commit_lsn", b"16/B374D848")
    assert encoded.headers[0] == [lsn, ("deltaforge.index", b"0")]
    assert encoded.headers[3] == [("__debezium.oldkey", b'{"id":7}'), lsn, ("deltaforge.index", b"1")]


def test_the_origin_counts_for_every_part_of_its_transaction() -> None:
    """Guards against rows of one transaction with different origins."""
    encoder = encoder_for()
    first = part_of([wire.origin("north", 77), wire.insert(16400, ROW)], [ORDERS])
    (value,) = encoder.encode(first, 0, Lsn(0), NOW_NS).values
    assert b'"origin":"north","origin_lsn":77}' in (value or b"")
    (value,) = encoder.encode(part_of([wire.insert(16400, ROW)], first_index=1), 0, Lsn(0), NOW_NS).values
    assert b'"origin":"north"' in (value or b"")
    (value,) = encoder.encode(part_of([wire.insert(16400, ROW)]), 0, Lsn(0), NOW_NS).values
    assert b'"origin":null' in (value or b"")


@pytest.mark.fault("D2", "X5")
@pytest.mark.parametrize("kind", ["insert", "update", "delete"])
def test_a_value_without_a_form_is_an_operators_error_that_keeps_the_value_to_itself(kind: str) -> None:
    """Guards against row values in logs, and against a crash loop instead of a blocked pipeline."""
    row = ["7", "s3cret", "NaN", "s3cret"]
    bad = {
        "insert": wire.insert(16400, row, 0x10B374D848),
        "update": wire.update(16400, row, 0x10B374D848, old=ROW, old_kind="O"),
        "delete": wire.delete(16400, row, 0x10B374D848, old_kind="O"),
    }[kind]
    with pytest.raises(OperatorError) as caught:
        encode([wire.insert(16400, ROW), bad])
    assert 'column "total" (numeric) of public.orders' in str(caught.value)
    assert "10/B374D848" in str(caught.value)
    assert "NaN" not in str(caught.value)
    assert "s3cret" not in caught.value.line()
    assert caught.value.__context__ is None


@pytest.mark.fault("D3")
def test_a_column_without_a_form_is_left_out_and_reported() -> None:
    """Guards against silent omissions."""
    odd = table(column("id", "int4"), column("q", "tsquery"), column("note", "text"))
    encoder = encoder_for()
    encoded = encoder.encode(part_of([wire.insert(16400, ["1", "'fat'", "x"])], [odd]), 0, Lsn(0), NOW_NS)
    assert bodies(encoded) == [("c", None, {"id": 1, "note": "x"})]
    assert encoder.omitted == ("public.t.q",)


@pytest.mark.fault("D3")
@pytest.mark.parametrize(
    ("template", "expected", "identifier"),
    [
        ("cdc.${source.schema}.${source.table}", "cdc.public.Odd_N_me__", False),
        ("${tenant_id}-${source.db}.${source.table}", "a_c-golddb.Odd_N_me__", True),
        ("all", "all", True),
    ],
)
def test_what_a_topic_template_puts_in_is_sanitized(template: str, expected: str, identifier: bool) -> None:
    """Guards against topic names that Kafka refuses."""
    odd = table(column("id", "int4"), name="Odd Nяme😀")
    encoded = encode([wire.insert(16400, ["1"])], odd, topic=template, tenant="a/c")
    assert encoded.topics == [expected]
    assert (b"physicalTableIdentifier" in (encoded.keys[0] or b"")) is identifier


@pytest.mark.parametrize(
    ("kind", "modifier", "default", "expected"),
    [
        ("int4", -1, "5", 5),
        ("int4", -1, "'-5'::integer", -5),
        ("int4", -1, "(-5)", -5),
        ("int8", -1, "'10000000000'::bigint", 10000000000),
        ("int4", -1, "nextval('s'::regclass)", 0),
        ("int4", -1, "(1 + 1)", None),
        ("text", -1, "'it''s'::text", "it's"),
        ("text", -1, "upper('x'::text)", ""),
        ("varchar", 14, "'v'::character varying", "v"),
        ("text", -1, "NULL::text", None),
        ("bool", -1, "false", False),
        ("numeric", numeric(6, 2), "1.5", "AJY="),
        ("numeric", -1, "2.50", None),
        ("float4", -1, "1.25", 1.25),
        ("date", -1, "'2020-01-02'::date", 18263),
        ("jsonb", -1, "'{\"k\": 1}'::jsonb", '{"k": 1}'),
        ("timestamptz", -1, "now()", "1970-01-01T00:00:00.000000Z"),
        ("timestamptz", -1, "CURRENT_TIMESTAMP", "1970-01-01T00:00:00.000000Z"),
        ("text[]", -1, "'{}'::text[]", None),
        ("text", -1, "('a'::text || 'b'::text)", "a"),
        ("text", -1, "(CURRENT_DATE)::text", "(CURRENT_DATE)::text"),
        ("text", -1, "CURRENT_USER", "CURRENT_USER"),
        ("numeric", numeric(6, 2), "3.149", None),
        ("numeric", numeric(6, 2), "3.100", "ATY="),
        ("int4", -1, "5.6", None),
        ("int8", -1, "(5)::bigint", None),
        ("int4", -1, "((random() * (10)::double precision))::integer", None),
        ("bool", -1, "(1 = 1)", False),
        ("bool", -1, "('a'::text = 'true'::text)", False),
        ("date", -1, "('2020-01-02'::date + 5)", 18263),
        ("date", -1, "'infinity'::date", 169560311),
        ("time", -1, "'24:00:00'::time without time zone", 86399999999),
        ("timestamp", -1, "'infinity'::timestamp without time zone", -9223372036853775810),
        ("timestamp", 3, "'infinity'::timestamp without time zone", None),
        ("timestamptz", -1, "'infinity'::timestamp with time zone", None),
        ("timestamptz", 3, "'2020-01-01 00:00:00.123456+00'::timestamp with time zone", "2020-01-01T00:00:00.123Z"),
        ("timestamptz", 0, "'2020-01-01 00:00:00.6+00'::timestamp with time zone", "2020-01-01T00:00:00.6Z"),
    ],
)
def test_null_in_a_nullable_column_is_written_as_its_default(
    kind: str, modifier: int, default: str, expected: object
) -> None:
    """Guards against nulls where Debezium's converter writes the schema default."""
    defaulted = table(column("id", "int4"), column("c", kind, modifier, default=default))
    (event,) = bodies(encode([wire.insert(16400, ["1", None])], defaulted))
    assert event is not None
    assert event[2]["c"] == expected


@pytest.mark.parametrize(
    "broken",
    [
        wire.insert(99, ["1"]),
        wire.insert(16400, ["1"]),
        wire.insert(16400, ROW)[:-3] + b"t\0\0\1\0",
        wire.insert(16400, ROW) + b"t\0\0\0\0",
        wire.update(16400, ROW, old=["7", None, None, None]) + b"n",
        wire.delete(16400, ["7", None, None, None]) + b"\0",
        wire.origin("north", 77)[:-1],
        wire.origin("north", 77) + b"x",
        wire.delete(16400, ["1"]),
        wire.truncate([99]),
        wire.xlog(b"Q"),
        wire.begin(1),
    ],
    ids=[
        "unknown relation",
        "too few columns",
        "cut short",
        "bytes left over",
        "after an old tuple",
        "after a delete",
        "Origin cut short",
        "after an Origin",
        "delete too short",
        "unknown truncate",
        "kind",
        "begin",
    ],
)
def test_what_cannot_stand_in_a_transaction_is_a_protocol_violation(broken: bytes) -> None:
    """Guards against going on with a stream that is not understood."""
    with pytest.raises(ProtocolViolation):
        encode([wire.insert(16400, ROW), broken], skipped_operations=["none"])


def test_a_relation_that_does_not_match_its_message_is_a_protocol_violation() -> None:
    """Guards against rows written with another table's columns."""
    part = part_of([], [ORDERS])
    part.messages[0] = wire.relation(table(column("id", "int4"), oid=5))
    with pytest.raises(ProtocolViolation):
        encoder_for().encode(part, 0, Lsn(0), NOW_NS)


def test_logical_messages_give_no_records() -> None:
    """Guards against a half-built record."""
    message = LogicalMessage(Lsn(1), wire.message("p", b"x", transactional=False), Lsn(0), 40)
    assert encoder_for().encode_message(message, NOW_NS) == Encoded([], [], [], [], 0, 0)
