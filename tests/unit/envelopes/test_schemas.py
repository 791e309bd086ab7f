"""Kafka Connect's schemas: of each column type under each option, and around each kind of record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

from deltaforge.envelopes import options as names
from deltaforge.envelopes import recordschemas
from deltaforge.envelopes.base import Encoded, make_encoder, spec_for
from deltaforge.envelopes.options import ValueOptions
from deltaforge.envelopes.schemas import column_schema
from deltaforge.envelopes.values import rendering
from deltaforge.model import Column, Lsn, PgType, Relation
from tests.support import pgoutput_bytes as wire
from tests.support.tables import column, numeric, part_of, pg_type, table

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.usefixtures("codec")
DATA = Path(__file__).parent.parent.parent / "data" / "debezium"
MOOD = PgType(90001, "mood", "e", "public", labels=("sad", "o,k", "größer"))
PRICE = PgType(90002, "price", "d", "public", base=pg_type("numeric"), base_modifier=numeric(10, 2))
MOODS = PgType(90003, "_mood", "b", "public", element=MOOD)
HSTORE = PgType(90004, "hstore", "b", "public")
MONEY, POINT, BOX, CIRCLE = PgType(790, "money"), PgType(600, "point"), PgType(603, "box"), PgType(718, "circle")
VECTOR = PgType(90005, "vector", "b", "public")
SPARSE = PgType(90006, "sparsevec", "b", "public")

DECIMAL = '"name":"org.apache.kafka.connect.data.Decimal","version":1'
POINT_STRUCT = (
    '{"type":"struct","fields":[{"type":"double","optional":false,"field":"x"},{"type":"double","optional":false,'
    '"field":"y"},{"type":"bytes","optional":true,"field":"wkb"},{"type":"int32","optional":true,"field":"srid"}],'
    '"optional":false,"name":"io.debezium.data.geometry.Point","version":1,"doc":"Geometry (POINT)"'
)


def meaning(kind: str, name: str) -> str:
    return f'{{"type":"{kind}","optional":false,"name":"{name}","version":1}}'


VECTORS: list[tuple[PgType, int, dict[str, Any], str]] = [
    (pg_type("int2"), -1, {}, '{"type":"int16","optional":false}'),
    (pg_type("oid"), -1, {}, '{"type":"int64","optional":false}'),
    (pg_type("float4"), -1, {}, '{"type":"float","optional":false}'),
    (pg_type("name"), -1, {}, '{"type":"string","optional":false}'),
    (pg_type("xml"), -1, {}, meaning("string", "io.debezium.data.Xml")),
    (pg_type("numeric"), numeric(12, 2), {},
     f'{{"type":"bytes","optional":false,{DECIMAL},"parameters":{{"scale":"2","connect.decimal.precision":"12"}}}}'),
    (PRICE, -1, {"decimal": "double"}, '{"type":"double","optional":false}'),
    (PRICE, -1, {"decimal": "string"}, '{"type":"string","optional":false}'),
    (MONEY, -1, {"money_digits": 4}, f'{{"type":"bytes","optional":false,{DECIMAL},"parameters":{{"scale":"4"}}}}'),
    (pg_type("bit"), 1, {}, '{"type":"boolean","optional":false}'),
    (pg_type("varbit"), -1, {}, '{"type":"bytes","optional":false,"name":"io.debezium.data.Bits","version":1,'
                                '"parameters":{"length":"2147483647"}}'),
    (pg_type("bytea"), -1, {"binary": "hex"}, '{"type":"string","optional":false}'),
    (pg_type("tsquery"), -1, {"unknown": True}, '{"type":"bytes","optional":false}'),
    (MOOD, -1, {}, '{"type":"string","optional":false,"name":"io.debezium.data.Enum","version":1,'
                   '"parameters":{"allowed":"sad,o,k,größer"}}'),
    (pg_type("date"), -1, {}, meaning("int32", "io.debezium.time.Date")),
    (pg_type("date"), -1, {"time": "connect"}, meaning("int32", "org.apache.kafka.connect.data.Date")),
    (pg_type("date"), -1, {"time": "isostring"}, meaning("string", "io.debezium.time.IsoDate")),
    (pg_type("date"), -1, {"time": "nanoseconds"}, meaning("int32", "io.debezium.time.Date")),
    (pg_type("time"), 3, {}, meaning("int32", "io.debezium.time.Time")),
    (pg_type("time"), -1, {}, meaning("int64", "io.debezium.time.MicroTime")),
    (pg_type("time"), 3, {"time": "adaptive_time_microseconds"}, meaning("int64", "io.debezium.time.MicroTime")),
    (pg_type("time"), 3, {"time": "connect"}, meaning("int32", "org.apache.kafka.connect.data.Time")),
    (pg_type("timestamp"), 3, {"time": "adaptive_time_microseconds"}, meaning("int64", "io.debezium.time.Timestamp")),
    (pg_type("timestamp"), 4, {}, meaning("int64", "io.debezium.time.MicroTimestamp")),
    (pg_type("timestamp"), 0, {"time": "nanoseconds"}, meaning("int64", "io.debezium.time.NanoTimestamp")),
    (pg_type("timestamp"), 0, {"time": "microseconds"}, meaning("int64", "io.debezium.time.MicroTimestamp")),
    (pg_type("timestamptz"), 3, {"time": "connect"}, meaning("string", "io.debezium.time.ZonedTimestamp")),
    (pg_type("interval"), -1, {}, meaning("int64", "io.debezium.time.MicroDuration")),
    (pg_type("interval"), -1, {"interval": "string"}, meaning("string", "io.debezium.time.Interval")),
    (HSTORE, -1, {}, meaning("string", "io.debezium.data.Json")),
    (HSTORE, -1, {"hstore": "map"}, '{"type":"map","keys":{"type":"string","optional":false},'
                                    '"values":{"type":"string","optional":true},"optional":false}'),
    (POINT, -1, {}, POINT_STRUCT + "}"),
    (CIRCLE, -1, {}, '{"type":"struct","fields":[' + POINT_STRUCT + ',"field":"center"},{"type":"double",'
                     '"optional":false,"field":"radius"}],"optional":true,"name":"io.debezium.data.geometry.Circle",'
                     '"version":1,"doc":"Geometry (CIRCLE)"}'),
    (VECTOR, -1, {}, '{"type":"array","items":{"type":"double","optional":false},"optional":false,'
                     '"name":"io.debezium.data.DoubleVector","version":1}'),
    (pg_type("time[]"), 3, {}, '{"type":"array","items":{"type":"int32","optional":true,'
                               '"name":"io.debezium.time.Time","version":1},"optional":false}'),
    (MOODS, -1, {}, '{"type":"array","items":{"type":"string","optional":false,"name":"io.debezium.data.Enum",'
                    '"version":1,"parameters":{"allowed":"sad,o,k,größer"}},"optional":false}'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "modifier", "settings", "expected"), VECTORS, ids=lambda part: getattr(part, "name", "")
)
def test_a_type_has_debeziums_schema(kind: PgType, modifier: int, settings: dict[str, Any], expected: str) -> None:
    """Guards against a consumer that reads microseconds as milliseconds, or bytes as text."""
    assert column_schema(kind, modifier, ValueOptions(**settings)).json() == expected.encode().decode("latin-1")


SAMPLES = [
    (pg_type("int2"), -1, "1"), (pg_type("bool"), -1, "t"), (pg_type("float4"), -1, "1.5"),
    (pg_type("float8"), -1, "NaN"), (pg_type("text"), -1, "a"), (pg_type("jsonb"), -1, "{}"),
    (pg_type("uuid"), -1, "6f1c1f0e-1111-4222-8333-444455556666"), (pg_type("bytea"), -1, "\\x01"),
    (pg_type("numeric"), numeric(8, 2), "1.25"), (pg_type("numeric"), -1, "1.25"), (PRICE, -1, "1.25"),
    (MONEY, -1, "$1.25"), (pg_type("bit"), 1, "1"), (pg_type("bit"), 3, "101"), (pg_type("varbit"), -1, "101"),
    (MOOD, -1, "sad"), (MOODS, -1, "{sad}"), (HSTORE, -1, '"a"=>"1", "b"=>NULL'),
    (pg_type("date"), -1, "2020-01-02"), (pg_type("time"), -1, "01:02:03.5"), (pg_type("time"), 3, "01:02:03.5"),
    (pg_type("timetz"), -1, "01:02:03+00"), (pg_type("timestamp"), -1, "2020-01-02 03:04:05.678901"),
    (pg_type("timestamp"), 3, "2020-01-02 03:04:05.678"), (pg_type("timestamptz"), -1, "2020-01-02 03:04:05+00"),
    (pg_type("interval"), -1, "1 day 00:00:01"), (pg_type("int4[]"), -1, "{1,NULL}"),
    (pg_type("numeric[]"), numeric(6, 1), "{1.5,NULL}"), (pg_type("numeric[]"), -1, "{1.5}"),
    (pg_type("date[]"), -1, "{2020-01-02}"), (pg_type("bytea[]"), -1, '{"\\\\x01"}'),
    (POINT, -1, "(1,2)"), (BOX, -1, "(1,1),(0,0)"), (CIRCLE, -1, "<(1,2),3>"), (VECTOR, -1, "[1,2]"),
    (SPARSE, -1, "{1:1.5,3:2}/5"), (PgType(628, "line"), -1, "{1,2,3}"), (PgType(602, "path"), -1, "((0,0),(1,1))"),
    (PgType(90007, "geometry", "b", "public"), -1, "0101000000000000000000F03F000000000000F03F"),
    (PgType(90008, "halfvec", "b", "public"), -1, "[1,2]"), (pg_type("tsquery"), -1, "'a'"),
]  # fmt: skip

CHOICES: list[dict[str, Any]] = [
    *({"decimal": mode} for mode in get_args(names.DecimalMode)),
    *({"time": mode} for mode in get_args(names.TimeMode)),
    *({"interval": mode} for mode in get_args(names.IntervalMode)),
    *({"hstore": mode} for mode in get_args(names.HstoreMode)),
    *({"binary": mode, "unknown": True} for mode in get_args(names.BinaryMode)),
]

PYTHON: dict[str, type | tuple[type, ...]] = {
    "int8": int, "int16": int, "int32": int, "int64": int, "float": (float, str), "double": (float, str),
    "boolean": bool, "string": str, "bytes": str,
}  # fmt: skip


def fits(schema: dict[str, Any], value: Any) -> bool:
    """Is this a value of the schema?"""
    if value is None:
        return bool(schema["optional"])
    match schema["type"]:
        case "array":
            return isinstance(value, list) and all(fits(schema["items"], item) for item in value)
        case "map":
            pairs = value.items() if isinstance(value, dict) else value
            return all(fits(schema["keys"], key) and fits(schema["values"], item) for key, item in pairs)
        case "struct":
            fields = schema["fields"]
            return list(value) == [field["field"] for field in fields] and all(
                fits(field, value[field["field"]]) for field in fields
            )
        case kind:
            return isinstance(value, PYTHON[kind])


@pytest.mark.parametrize(("kind", "modifier", "text"), SAMPLES, ids=lambda part: getattr(part, "name", ""))
def test_what_is_written_fits_its_schema_under_every_option(kind: PgType, modifier: int, text: str) -> None:
    """Guards against a value and its schema that follow different options."""
    for settings in CHOICES:
        options = ValueOptions(**settings)
        found = rendering(kind, modifier, options)
        if found is not None:
            schema = json.loads(column_schema(kind, modifier, options).json())
            assert fits(schema, json.loads(found.convert(text))), settings
            assert fits(schema | {"optional": True}, json.loads(found.unavailable)), settings


ORDERS = table(
    column("id", "int8", identity=True, not_null=True),
    column("état", "text", not_null=True, default="'new'::text"),
    column("note", "text"),
    name="orders",
)
KEY = '{"schema":{"type":"struct","fields":[{"type":"int64","optional":false,"field":"id"}],"optional":false,"name":"'


def encode(messages: Sequence[bytes], relation: Relation = ORDERS, **settings: Any) -> Encoded:
    defaults: dict[str, Any] = {
        "topic": "gold.${source.schema}.${source.table}",
        "key_schemas": True,
        "value_schemas": True,
    }
    spec = spec_for(topic_prefix="gold", database="golddb", **(defaults | settings))
    return make_encoder(spec).encode(part_of(messages, [relation]), 0, Lsn(0), 1)


EVENTS = [
    wire.insert(16400, ["7", "paid", None]),
    wire.insert(16400, ["7", "paid", "x"]),
    wire.insert(16400, ["7", "paid", "x" * 300]),
    wire.insert(16400, ["7", "paid", "x" * 70_000]),
    wire.insert(16400, ["7", "\x01", "😀"]),
    wire.update(16400, ["8", "paid", None], old=["7", None, None]),
    wire.delete(16400, ["7", None, None]),
    wire.truncate([16400]),
]


def test_every_payload_is_what_it_is_without_schemas() -> None:
    """Guards against one way of writing rows that forgets the schema, or the brace behind it."""
    settings: dict[str, Any] = {"skipped_operations": ()}
    bare = encode(EVENTS, key_schemas=False, value_schemas=False, **settings)
    full = encode(EVENTS, **settings)
    assert len(full.values) == len(EVENTS) + 3
    for found, payload in zip([*full.keys, *full.values], [*bare.keys, *bare.values], strict=True):
        if payload is None:
            assert found is None
        else:
            assert found is not None
            assert found.startswith(b'{"schema":{"type":"struct","fields":[')
            assert found.endswith(b',"payload":' + payload + b"}")
            schema = json.loads(found)["schema"]
            assert fits(schema, json.loads(payload))
    assert full.headers == bare.headers
    assert full.headers[5] == [("__debezium.newkey", b'{"id":8}')]


def test_keys_and_values_have_their_schemas_one_without_the_other() -> None:
    """Guards against a schema in keys that only values were to have: the same row would go to another partition."""
    keys = encode(EVENTS[:1], value_schemas=False)
    assert keys.keys == [(KEY + 'gold.public.orders.Key"},"payload":{"id":7}}').encode()]
    assert (keys.values[0] or b"").startswith(b'{"before":null,"after":{')
    values = encode(EVENTS[:1], key_schemas=False)
    assert values.keys == [b'{"id":7}']
    assert (values.values[0] or b"").startswith(b'{"schema":')


def test_a_tables_schema_has_its_columns_defaults_and_names() -> None:
    """Guards against columns that are required though they may be NULL, and names in another character set."""
    (value,) = encode(EVENTS[:1]).values
    schema = json.loads(value or b"")["schema"]
    assert [field["field"] for field in schema["fields"]] == [
        "before", "after", "source", "transaction", "op", "ts_ms", "ts_us", "ts_ns",
    ]  # fmt: skip
    assert (schema["name"], schema["version"]) == ("gold.public.orders.Envelope", 2)
    after = schema["fields"][1]
    assert after["name"] == "gold.public.orders.Value"
    assert after["fields"] == [
        {"type": "int64", "optional": False, "field": "id"},
        {"type": "string", "optional": False, "default": "new", "field": "état"},
        {"type": "string", "optional": True, "field": "note"},
    ]


def test_a_shared_topic_names_the_schemas_and_its_keys_have_the_identifier() -> None:
    """Guards against a field in the key that its schema does not know."""
    (key,) = encode(EVENTS[:1], topic="gold.all").keys
    found = json.loads(key or b"")
    assert found["schema"]["name"] == "gold.all.Key"
    assert found["schema"]["fields"][1] == {
        "type": "string", "optional": False, "field": "__dbz__physicalTableIdentifier",
    }  # fmt: skip
    assert fits(found["schema"], found["payload"])


def test_a_table_without_a_key_has_null_keys() -> None:
    """Guards against a schema for a key that is not there."""
    assert encode(EVENTS[:3], table(*ORDERS.columns, name="orders", key=[])).keys == [None] * 3


def test_a_column_with_a_computed_default_has_the_zero_of_its_type() -> None:
    """Guards against a schema default that differs from what stands for NULL."""
    now = Column("at", pg_type("timestamptz"), -1, False, True, "now()")
    (value,) = encode([wire.insert(16400, ["7", "2020-01-02 03:04:05+00"])], table(ORDERS.columns[0], now)).values
    assert b'"version":1,"default":"1970-01-01T00:00:00.000000Z","field":"at"}' in (value or b"")


SIDE = {
    "gold.message": (recordschemas.MESSAGE_KEY, recordschemas.message_value(ValueOptions())),
    "gold.transaction": (recordschemas.TRANSACTION_KEY, recordschemas.TRANSACTION_VALUE),
    "pulse.gold": (recordschemas.HEARTBEAT_KEY, recordschemas.HEARTBEAT_VALUE),
}


@pytest.mark.parametrize("recording", ["orders_schemas", "messages_tx_schemas", "heartbeats_named"])
def test_records_beside_the_tables_have_debeziums_schemas(recording: str) -> None:
    """Guards against a message or heartbeat that a schema-aware consumer cannot read."""
    rows = [json.loads(line) for line in (DATA / f"{recording}.jsonl").read_text().splitlines()]
    found = [row for row in rows if row["topic"] in SIDE]
    assert found
    for row in found:
        key, value = SIDE[row["topic"]]
        assert row["key"].startswith(recordschemas.opening(key))
        assert row["value"].startswith(recordschemas.opening(value))


def test_a_messages_content_follows_the_binary_mode() -> None:
    """Guards against text under a schema of bytes."""
    fields = json.loads(recordschemas.message_value(ValueOptions(binary="base64")))["fields"]
    assert fields[4]["fields"][1] == {"type": "string", "optional": True, "field": "content"}
