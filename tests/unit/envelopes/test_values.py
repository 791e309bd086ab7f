"""Each column type: text from PostgreSQL in, Debezium's JSON out. Most vectors come from Debezium's own tests."""

from __future__ import annotations

from base64 import b64encode

import pytest

from deltaforge.envelopes.base import make_encoder, spec_for
from deltaforge.envelopes.jsontext import wire
from deltaforge.envelopes.options import ValueOptions
from deltaforge.envelopes.values import rendering
from deltaforge.model import Lsn, PgType
from tests.support import pgoutput_bytes as wire_bytes
from tests.support.tables import column, numeric, part_of, pg_type, table

DEFAULTS = ValueOptions()
PLACEHOLDER = DEFAULTS.placeholder
LONG = b64encode((10**5000 + 5).to_bytes(2077)).decode()
"""More digits than Python reads an int from."""

VECTORS = [
    ("bool", -1, "t", "true"),
    ("int8", -1, "-9223372036854775808", "-9223372036854775808"),
    ("oid", -1, "4000000000", "4000000000"),
    ("float4", -1, "3.3", "3.3"),
    ("float4", -1, "3", "3.0"),
    ("float4", -1, "1e-45", "1.4E-45"),
    ("float8", -1, "NaN", '"NaN"'),
    ("float8", -1, "-Infinity", '"-Infinity"'),
    ("float8", -1, "4", "4.0"),
    ("float8", -1, "1e+10", "1.0E10"),
    ("float8", -1, "1e-05", "1.0E-5"),
    ("float8", -1, "0.001", "0.001"),
    ("float8", -1, "0.00099", "9.9E-4"),
    ("float8", -1, "9999999", "9999999.0"),
    ("float8", -1, "12345678", "1.2345678E7"),
    ("float8", -1, "2e+23", "2.0E23"),
    ("float8", -1, "5e-324", "4.9E-324"),
    ("float8", -1, "1.9999999999999998e+23", "2.0E23"),
    ("float8", -1, "-8.409999999999999e+21", "-8.41E21"),
    ("float8", -1, "1.7976931348623157e+308", "1.7976931348623157E308"),
    ("float4", -1, "8.999999e+09", "9.0E9"),
    ("float4", -1, "3.4028235e+38", "3.4028235E38"),
    ("float8", -1, "-0", "-0.0"),
    ("numeric", numeric(10, 2), "1.10", '"bg=="'),
    ("numeric", numeric(10, 2), "3.30", '"AUo="'),
    ("numeric", numeric(10, 4), "22.2200", '"A2P4"'),
    ("numeric", numeric(5, 0), "10", '"Cg=="'),
    ("numeric", numeric(5, 0), "127", '"fw=="'),
    ("numeric", numeric(5, 0), "128", '"AIA="'),
    ("numeric", numeric(5, 0), "-128", '"gA=="'),
    ("numeric", numeric(5, 0), "-129", '"/38="'),
    ("numeric", numeric(10, 2), "-0.01", '"/w=="'),
    ("numeric", -1, "10.1111", '{"scale":4,"value":"AYr3"}'),
    ("numeric", -1, "10", '{"scale":0,"value":"Cg=="}'),
    ("numeric", -1, "100.00", '{"scale":0,"value":"ZA=="}'),
    ("numeric", -1, f"1{'0' * 4999}.50", f'{{"scale":1,"value":"{LONG}"}}'),
    ("text", -1, 'a"b\\c\n\x01\x1f\x7f/é漢😀', '"a\\"b\\\\c\\n\\u0001\\u001F\x7f/é漢\\uD83D\\uDE00"'),
    ("text", -1, "\\u001f", '"\\\\u001f"'),
    ("bpchar", 12, "cone    ", '"cone    "'),
    ("json", -1, '{"bar": "baz"}', '"{\\"bar\\": \\"baz\\"}"'),
    ("name", -1, "whatever", "null"),
    ("bytea", -1, "\\x010203", '"AQID"'),
    ("bytea", -1, "\\x", '""'),
    ("uuid", -1, "6f1c1f0e-1111-4222-8333-444455556666", '"6f1c1f0e-1111-4222-8333-444455556666"'),
    ("bit", 1, "1", "true"),
    ("bit", 2, "11", '"Aw=="'),
    ("bit", 2, "00", '""'),
    ("varbit", -1, "111011010001000110000001000000001", '"AQIj2gE="'),
    ("varbit", -1, "1" + "0" * 63, '"AAAAAAAAAIA="'),
    ("varbit", -1, "", '""'),
    ("date", -1, "2016-11-04", "17109"),
    ("date", -1, "1936-10-25", "-12121"),
    ("date", -1, "4713-01-01 BC", "-2440550"),
    ("date", -1, "5874897-12-31", "2145042905"),
    ("date", -1, "infinity", "2146033979"),
    ("date", -1, "-infinity", "-2147472691"),
    ("time", 3, "13:51:30.123", "49890123"),
    ("time", -1, "13:51:30", "49890000000"),
    ("time", -1, "24:00:00", "86400000000"),
    ("timetz", -1, "13:51:30.123789+02", '"11:51:30.123789Z"'),
    ("timetz", -1, "04:05:06+05:30", '"22:35:06Z"'),
    ("timetz", -1, "24:00:00+00", '"24:00:00Z"'),
    ("timestamp", 3, "2016-11-04 13:51:30.123", "1478267490123"),
    ("timestamp", -1, "2016-11-04 13:51:30.123456", "1478267490123456"),
    ("timestamp", -1, "1936-10-25 22:10:12.608", "-1047174587392000"),
    ("timestamp", -1, "4713-12-31 23:59:59.999999 BC", "-210831897600000001"),
    ("timestamp", -1, "294247-01-01 23:59:59.999999", "9223371331199999999"),
    ("timestamp", -1, "infinity", "9223372036854775807"),
    ("timestamp", -1, "-infinity", "-9223372036854775808"),
    ("timestamp", 3, "infinity", "9223372036825200000"),
    ("timestamp", 0, "-infinity", "-9223372036832400000"),
    ("timestamptz", -1, "2016-11-04 11:51:30.123456+00", '"2016-11-04T11:51:30.123456Z"'),
    ("timestamptz", -1, "2020-04-01 11:51:02+00", '"2020-04-01T11:51:02.000000Z"'),
    ("timestamptz", -1, "2020-04-01 11:51:02.5+00", '"2020-04-01T11:51:02.500000Z"'),
    ("timestamptz", 3, "2020-04-01 11:51:02.5+00", '"2020-04-01T11:51:02.500Z"'),
    ("timestamptz", 0, "2016-11-04 11:51:30+00", '"2016-11-04T11:51:30Z"'),
    ("timestamptz", -1, "21016-11-04 06:51:30.123456+00", '"+21016-11-04T06:51:30.123456Z"'),
    ("timestamptz", -1, "4714-12-31 23:59:59.999999+00 BC", '"-4713-12-31T23:59:59.999999Z"'),
    ("timestamptz", -1, "0044-03-15 00:00:00+00 BC", '"-0043-03-15T00:00:00.000000Z"'),
    ("timestamptz", -1, "0001-03-15 00:00:00+00 BC", '"0000-03-15T00:00:00.000000Z"'),
    ("timestamptz", -1, "infinity", '"infinity"'),
    ("timestamptz", -1, "-infinity", '"-infinity"'),
    ("interval", -1, "1 year 2 mons 3 days 04:05:06.78", "37091106780000"),
    ("interval", -1, "-1 days -00:00:01.5", "-86401500000"),
    ("interval", -1, "00:00:00", "0"),
    ("interval", -1, "1 year", "31557600000000"),
    ("interval", -1, "00:00:01.235", "1234999"),
    ("interval", -1, "-00:00:01.235", "-1234999"),
    ("interval", -1, "1 day 00:00:01.235", "86401235000"),
    ("int4[]", -1, "{1,NULL,-3}", "[1,null,-3]"),
    ("int4[]", -1, "[0:1]={1,2}", "[1,2]"),
    ("int4[]", -1, "{{1,2},{3,4}}", "[null,null]"),
    ("int4[]", -1, "[0:0][1:1][2:2]={{{7}}}", "[null]"),
    ("date[]", -1, "{{1970-01-01},{infinity}}", "[null,null]"),
    ("text[]", -1, '{{a,"b},c"},{NULL,é}}', '["{a,\\"b},c\\"}","{NULL,é}"]'),
    ("text[]", -1, '{x,"y z","NULL","a\\"b\\\\","",é}', '["x","y z","NULL","a\\"b\\\\","","é"]'),
    ("text[]", -1, "{}", "[]"),
    ("numeric[]", numeric(10, 2), "{1.20,3.40,5.60}", '["eA==","AVQ=","AjA="]'),
    ("numeric[]", -1, "{1.1,2.22}", '[{"scale":1,"value":"Cw=="},{"scale":2,"value":"AN4="}]'),
    ("timestamptz[]", -1, '{"2020-04-01 11:51:02+00"}', '["2020-04-01T11:51:02.000000Z"]'),
    ("bytea[]", -1, '{"\\\\x010203"}', '["AQID"]'),
    ("date[]", -1, "{2020-01-01,infinity,-infinity}", "[18262,-622191234,-625821272]"),
    ("time[]", -1, "{12:00:00,24:00:00}", "[43200000000,0]"),
    ("time[]", -1, "{23:59:59.999999}", "[86399999000]"),
    ("oidvector", -1, "1 2", "[]"),
    ("oidvector", -1, "", "null"),
    ("isbn[]", -1, "{0-393-04002-X,NULL}", "null"),
    ("isbn[]", -1, "{{0-393-04002-X}}", "null"),
    ("timetz[]", -1, "{{01:02:00+00}}", "null"),
    ("tsvector[]", -1, """{{"'a':1",NULL}}""", """["{\\"'a':1\\",NULL}"]"""),
    ("timestamptz[]", 3, "{infinity,-infinity}", '["infinity","+292269055-12-02T23:00:00.000Z"]'),
    ("tsvector[]", -1, """{"'a':1"}""", """["'a':1"]"""),
    ("tsvector[]", -1, """{"'a':1",NULL}""", "null"),
    ("tsvector[]", -1, """{"'NULL':1"}""", """["'NULL':1"]"""),
    ("numeric[]", -1, "{NaN,1.5}", "null"),
    ("bit[]", 1, "{1,0}", "null"),
    ("polygon[]", -1, "{}", "[]"),
    ("polygon[]", -1, '{"((1,1),(2,2))"}', "null"),
]


@pytest.mark.parametrize(("kind", "modifier", "text", "expected"), VECTORS, ids=lambda value: str(value)[:40])
def test_a_value_becomes_debeziums_json(kind: str, modifier: int, text: str, expected: str) -> None:
    """Guards against consumers that read another value than the table has."""
    found = rendering(pg_type(kind), modifier, DEFAULTS)
    assert found is not None
    assert found.convert(wire(text)) == wire(expected)


@pytest.mark.parametrize(("kind", "modifier", "text", "expected"), VECTORS, ids=lambda value: str(value)[:40])
@pytest.mark.usefixtures("codec")
def test_a_value_in_a_row_is_the_same_json(kind: str, modifier: int, text: str, expected: str) -> None:
    """Guards against a form of the codec that writes the value otherwise than its converter."""
    one = table(column("c", kind, modifier))
    encoder = make_encoder(spec_for(topic="t", topic_prefix="t", database="t"))
    (value,) = encoder.encode(part_of([wire_bytes.insert(one.oid, [text])], [one]), 0, Lsn(0), 1).values
    assert (value or b"").startswith(f'{{"before":null,"after":{{"c":{expected}}},"source":'.encode())


@pytest.mark.parametrize(
    ("kind", "modifier", "text"),
    [
        ("numeric", -1, "NaN"),
        ("numeric", -1, "Infinity"),
        ("numeric", numeric(4, 2), "NaN"),
        ("interval", -1, "infinity"),
        ("timestamptz", -1, "2020-04-01 11:51:02+02"),
        ("timestamptz", -1, "2020-04-01 11:51:02"),
        ("bytea", -1, "\\001"),
        ("int4[]", -1, "1,2"),
    ],
)
def test_a_value_without_a_form_is_refused(kind: str, modifier: int, text: str) -> None:
    """Guards against numbers and times that are silently wrong."""
    found = rendering(pg_type(kind), modifier, DEFAULTS)
    assert found is not None
    with pytest.raises((ValueError, ArithmeticError)):
        found.convert(text)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("text", '"__debezium_unavailable_value"'),
        ("jsonb", '"__debezium_unavailable_value"'),
        ("bytea", '"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="'),
        ("text[]", '["__debezium_unavailable_value"]'),
        ("bytea[]", '["X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="]'),
        ("int4[]", f"[{','.join(str(c) for c in PLACEHOLDER.encode())}]"),
        ("uuid[]", '["b68a35a7-17ad-35b3-af2a-ae46edb4545a"]'),
        ("numeric", "null"),
    ],
)
def test_unchanged_toast_has_a_placeholder_of_the_columns_type(kind: str, expected: str) -> None:
    """Guards against a placeholder that a typed consumer cannot read."""
    found = rendering(pg_type(kind), -1, DEFAULTS)
    assert found is not None
    assert found.unavailable == expected


def test_a_domain_is_written_as_its_base_type() -> None:
    """Guards against columns that vanish because their type has a name of its own."""
    money2 = PgType(16999, "money2", "d", "public", base=pg_type("numeric"), base_modifier=numeric(10, 2))
    found = rendering(money2, -1, DEFAULTS)
    assert found is not None
    assert found.convert("3.30") == '"AUo="'


@pytest.mark.parametrize("kind", ["tsquery", "interval[]", "xml[]", "name[]"])
def test_a_type_that_debezium_leaves_out_has_no_rendering(kind: str) -> None:
    """Guards against fields that Debezium's schema does not have."""
    assert rendering(pg_type(kind), -1, DEFAULTS) is None


@pytest.mark.parametrize("kind", ["e", "c", "m"])
def test_only_enums_among_user_types_are_written(kind: str) -> None:
    """Guards against composites and multiranges printed as text."""
    found = rendering(PgType(17000, "mood", kind, "public"), -1, DEFAULTS)
    assert (found is not None) == (kind == "e")
