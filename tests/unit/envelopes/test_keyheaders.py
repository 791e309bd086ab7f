"""Values of keys in the headers of a key change, and keys that have none, as recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from deltaforge.envelopes.base import make_encoder, spec_for
from deltaforge.envelopes.defaults import default_json
from deltaforge.envelopes.jsontext import wire
from deltaforge.envelopes.keyheaders import header_rendering
from deltaforge.envelopes.options import ValueOptions
from deltaforge.envelopes.values import rendering
from deltaforge.model import Lsn, PgType
from tests.support import pgoutput_bytes as wire_bytes
from tests.support.tables import column, numeric, part_of, pg_type, table

if TYPE_CHECKING:
    from deltaforge.model import TransactionPart

PLAIN, CONNECT = ValueOptions(), ValueOptions(time="connect")
CASES = [
    ("numeric", numeric(10, 2), PLAIN, "1.50", "1.50"),
    ("numeric", numeric(30, 20), PLAIN, "0.00000000000000000001", "1E-20"),
    ("numeric[]", numeric(10, 2), PLAIN, "{1.50,NULL}", "[1.50,null]"),
    ("numeric[]", -1, PLAIN, "{1.50}", '[{"scale":1,"value":"Dw=="}]'),
    ("money", -1, ValueOptions(money_digits=4), "$1.50", "1.5000"),
    ("float8", -1, PLAIN, "Infinity", "Infinity"),
    ("float8", -1, PLAIN, "0.1", "0.1"),
    ("float4", -1, PLAIN, "NaN", "NaN"),
    ("float8[]", -1, PLAIN, "{1.5,NaN}", "[1.5,NaN]"),
    ("text", -1, PLAIN, 'a"b\\c\n\x01/é', '"a\\"b\\\\c\n\x01/é"'),
    ("text[]", -1, PLAIN, '{"b\\"c"}', '["b\\"c"]'),
    ("date", -1, PLAIN, "2020-01-01", "18262"),
    ("date", -1, CONNECT, "2020-01-01", "2020-01-01"),
    ("date", -1, CONNECT, "infinity", "5877611-06-21"),
    ("date", -1, CONNECT, "-infinity", "00:00:00.000Z"),
    ("date[]", -1, CONNECT, "{2020-01-01}", "[2020-01-01]"),
    ("time", -1, CONNECT, "01:02:03.4", "01:02:03.400Z"),
    ("time[]", -1, CONNECT, "{01:02:00}", "[01:02:00.000Z]"),
    ("timestamp", -1, CONNECT, "2020-01-01 01:02:03.4", "2020-01-01T01:02:03.400Z"),
    ("timestamp", -1, CONNECT, "1969-12-31 23:59:59.999", "23:59:59.999Z"),
    ("timestamp", -1, CONNECT, "20000-01-01 00:00:01", "20000-01-01T00:00:01.000Z"),
]


@pytest.mark.parametrize(("kind", "modifier", "options", "text", "expected"), CASES)
def test_a_key_in_a_header_is_not_quite_json(
    kind: str, modifier: int, options: ValueOptions, text: str, expected: str
) -> None:
    """Guards against headers that the simple header converter would write otherwise, and values it stops at."""
    written = rendering(pg_type(kind), modifier, options)
    assert written is not None
    assert header_rendering(pg_type(kind), modifier, written, options).convert(wire(text)) == wire(expected)


@dataclass
class Sent:
    """What one part became."""

    key: bytes | None
    value: bytes


def _sent(part: TransactionPart, topic: str = "t") -> Sent:
    out = make_encoder(spec_for(topic=topic, topic_prefix="t", database="t")).encode(part, 0, Lsn(0), 1)
    return Sent(out.keys[0], out.values[0] or b"")


@pytest.mark.usefixtures("codec")
def test_a_key_without_a_column_that_has_a_form_is_an_empty_object() -> None:
    """Guards against a null where a consumer of a live connector finds an object."""
    one = table(column("k", "tsquery"), column("v", "int4"))
    part = part_of([wire_bytes.insert(one.oid, ["'a'", "1"])], [one])
    assert _sent(part, "${source.schema}.${source.table}").key == b"{}"
    assert _sent(part).key == b'{"__dbz__physicalTableIdentifier":"t.public.t"}'


@pytest.mark.usefixtures("codec")
def test_an_unsent_value_without_a_placeholder_is_the_columns_default() -> None:
    """Guards against a null where the converter finds a default to write instead."""
    one = table(column("k", "int4"), column("n", "int2[]"), column("b", "numeric", numeric(6, 2), default="1.50"))
    part = part_of([wire_bytes.update(one.oid, ["1", wire_bytes.UNSENT, wire_bytes.UNSENT])], [one])
    assert b'"after":{"k":1,"n":null,"b":"AJY="}' in _sent(part).value


@pytest.mark.parametrize(
    ("kind", "expression", "expected"),
    [
        (PgType(1560, "bit"), "(5)::bit(4)", '""'),
        (PgType(17_001, "mood", "e"), "'q''uo'::mood", "\"q''uo\""),
        (PgType(25, "text"), "'q''uo'::text", '"q\'uo"'),
    ],
)
def test_a_default_is_read_as_a_live_connector_reads_it(kind: PgType, expression: str, expected: str) -> None:
    """Guards against another value for NULL in a column with a default."""
    written = rendering(kind, 4, PLAIN)
    assert written is not None
    assert default_json(expression, written) == expected


@pytest.mark.usefixtures("codec")
def test_the_table_in_a_shared_topics_keys_is_the_topic_it_would_have_had() -> None:
    """Guards against keys that differ from the router's when the topics' delimiter is not a dot."""
    one = table(column("k", "int4"), name="Odd Name")
    out = make_encoder(spec_for(topic="all", topic_prefix="t", database="t", delimiter="_")).encode(
        part_of([wire_bytes.insert(one.oid, ["1"])], [one]), 0, Lsn(0), 1
    )
    assert out.keys == [b'{"k":1,"__dbz__physicalTableIdentifier":"t_public_Odd_Name"}']


@pytest.mark.parametrize(("text", "expected"), [("{x,y}", '["x","y"]'), ("{x,NULL}", "null"), ("{}", "[]")])
def test_an_array_of_a_domain_of_an_enum_is_one_of_the_enum(text: str, expected: str) -> None:
    """Guards against a column that is left out although a live connector writes it."""
    domain = PgType(17_002, "d", "d", base=PgType(17_001, "mood", "e"))
    written = rendering(PgType(17_003, "_d", element=domain), -1, PLAIN)
    assert written is not None
    assert written.convert(text) == expected
