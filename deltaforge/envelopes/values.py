"""PostgreSQL type -> JSON text, Debezium's default options (decimals precise, times adaptive, bytes as base64).

`rendering` finds how a column's text becomes JSON; None means that Debezium's schema has no such column.
All text is wire text (jsontext.py, rule 1). A converter raises ValueError when the type rules forbid the value.
"""

from __future__ import annotations

from binascii import b2a_base64, unhexlify
from functools import partial
from hashlib import md5
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import msgspec

from deltaforge.envelopes import arrays, numbers, times
from deltaforge.envelopes.jsontext import quote, wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.envelopes.options import ValueOptions
    from deltaforge.model import PgType

Inline = Literal["raw", "quoted", "text", "memo", "call"]


class Rendering(msgspec.Struct, frozen=True):
    """How values of one column type become JSON."""

    convert: Callable[[str], str]
    """JSON of one value that is not NULL."""
    fallback: str
    """JSON for NULL where a NOT NULL column has no value (the `before` of a delete)."""
    inline: Inline = "call"
    """What generated code may write instead of calling `convert`: the text as it is, between quotes, through
    `quick_quote`, through a dict of recent results, or nothing better than the call."""
    unavailable: str = "null"
    """JSON for a TOAST value that PostgreSQL did not send; null where Debezium has no placeholder for the type."""
    computed: str | None = None
    """JSON for NULL in a column whose default is a function call; None = as if it had no default."""
    printed: Callable[[str], str] = str
    """Brings the text of a literal default into the form PostgreSQL prints values in."""


_BOOL, _BYTEA, _INT8, _INT2, _INT4, _OID, _FLOAT4, _FLOAT8 = 16, 17, 20, 21, 23, 26, 700, 701
_BPCHAR, _DATE, _TIME, _TIMESTAMP, _TIMESTAMPTZ, _INTERVAL, _TIMETZ = 1042, 1082, 1083, 1114, 1184, 1186, 1266
_TEXT, _VARCHAR, _NAME, _CHAR, _XML, _JSON, _JSONB, _NUMERIC, _UUID = 25, 1043, 19, 18, 142, 114, 3802, 1700, 2950
_BIT, _VARBIT, _MONEY = 1560, 1562, 790

_STRINGS = {_TEXT, _VARCHAR, _BPCHAR, _CHAR, _XML, _JSON, _JSONB, 3614}
_PLAIN_STRINGS = {869, 650, 829, 774, 3904, 3926, 3906, 3908, 3910, 3912}
"""inet, cidr, macaddr, macaddr8 and the ranges over numbers and times."""
_EXTENSION_STRINGS = {"citext", "ltree", "isbn"}
_NO_ARRAY = {_MONEY, _NAME, _INTERVAL, _VARBIT, _XML}
_STRING_ARRAYS = {_TEXT, _VARCHAR, _BPCHAR, _JSON, _JSONB}
_INT_ARRAYS = {_INT4, _INT8, _DATE}


def rendering(kind: PgType, modifier: int, options: ValueOptions) -> Rendering | None:
    """How a column of this type and type modifier becomes JSON.

    None when the column is left out of the records: composite and unknown types.
    """
    if kind.base is not None:
        return rendering(kind.base, kind.base_modifier, options)
    if kind.element is not None and kind.oid != _NAME:
        return _array(kind.element, modifier, options)
    if kind.oid == _NAME:
        return _NEVER
    if kind.oid in _STRINGS or kind.oid in _PLAIN_STRINGS or kind.kind == "e" or kind.name in _EXTENSION_STRINGS:
        return Rendering(quote, '""', "text", quote(wire(options.placeholder)), '""')
    if kind.oid == _BYTEA:
        return Rendering(bytea, '""', "call", _base64(options.placeholder.encode()))
    if kind.oid == _NUMERIC:
        return _numeric(modifier)
    if kind.oid in (_BIT, _VARBIT):
        return _bits(modifier)
    return _TIMES[kind.oid](modifier) if kind.oid in _TIMES else _FIXED.get(kind.oid)


def _numeric(modifier: int) -> Rendering:
    if modifier == -1:
        return Rendering(numbers.variable_decimal, '{"scale":0,"value":"AA=="}', "memo")
    scale = (modifier - 4) & 0x7FF
    printed = partial(numbers.rescaled, scale=scale if scale < 0x400 else 0)
    return Rendering(numbers.decimal, '"AA=="', "memo", computed='"AA=="', printed=printed)


def _bits(modifier: int) -> Rendering:
    if modifier == 1:
        return Rendering({"0": "false", "1": "true"}.__getitem__, "false")
    return Rendering(bits, '""')


def _array(element: PgType, modifier: int, options: ValueOptions) -> Rendering | None:
    if element.base is not None or element.oid in _NO_ARRAY:
        return None
    inner = rendering(element, modifier, options)
    if inner is None:
        return None
    unavailable = "null"
    if element.oid in _STRING_ARRAYS or element.oid == _BYTEA:
        unavailable = f"[{inner.unavailable}]"
    elif element.oid in _INT_ARRAYS:
        unavailable = f"[{','.join(map(str, options.placeholder.encode()))}]"
    elif element.oid == _UUID:
        unavailable = f'["{_name_uuid(options.placeholder.encode())}"]'
    return Rendering(partial(arrays.array, element=inner.convert), "[]", unavailable=unavailable)


def _name_uuid(name: bytes) -> UUID:
    """Java's UUID.nameUUIDFromBytes: version 3 without a namespace."""
    return UUID(bytes=md5(name, usedforsecurity=False).digest(), version=3)


def _base64(data: bytes) -> str:
    return f'"{b2a_base64(data, newline=False).decode("latin-1")}"'


def bytea(text: str) -> str:
    """Base64 of a `bytea` in hex output (`\\x00ff`)."""
    if not text.startswith("\\x"):
        raise ValueError("a bytea is not in hex")
    return _base64(unhexlify(text[2:]))


def bits(text: str) -> str:
    """Base64 of a bit string as little-endian bytes, without the leading zero bytes of the number."""
    number = int(text or "0", 2)
    return _base64(number.to_bytes((number.bit_length() + 7) // 8, "little"))


def _quoted(text: str) -> str:
    return f'"{text}"'


def _precise(modifier: int) -> bool:
    """Does the column keep more than milliseconds?"""
    return modifier == -1 or modifier > 3


def _time(modifier: int) -> Rendering:
    return Rendering(times.time_us if _precise(modifier) else times.time_ms, "0", "memo", computed="0")


def _timestamp(modifier: int) -> Rendering:
    return Rendering(times.timestamp_us if _precise(modifier) else times.timestamp_ms, "0", computed="0")


def _timestamptz(modifier: int) -> Rendering:
    precision = 6 if modifier == -1 else modifier
    convert = times.zoned_six if precision == 6 else partial(times.zoned, precision=precision)
    return Rendering(convert, '"1970-01-01T00:00:00Z"', computed=convert("1970-01-01 00:00:00+00"))


_TIMES = {_TIME: _time, _TIMESTAMP: _timestamp, _TIMESTAMPTZ: _timestamptz}

_NEVER = Rendering(lambda _: "null", '""')
"""`name`: the recorded Debezium writes null whatever the value is."""

_INTEGER = Rendering(str, "0", "raw", computed="0")

_FIXED = {
    _INT2: _INTEGER,
    _INT4: _INTEGER,
    _INT8: _INTEGER,
    _OID: _INTEGER,
    _BOOL: Rendering({"t": "true", "f": "false"}.__getitem__, "false", computed="false"),
    _FLOAT4: Rendering(numbers.real, "0.0", "memo", computed="0.0"),
    _FLOAT8: Rendering(numbers.double, "0.0", "memo", computed="0.0"),
    _UUID: Rendering(_quoted, '""', "quoted"),
    _DATE: Rendering(times.date, "0", "memo", computed="0"),
    _TIMETZ: Rendering(times.zoned_time, '"00:00:00Z"'),
    _INTERVAL: Rendering(times.interval, "0", computed="0"),
}
