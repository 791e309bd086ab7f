"""PostgreSQL type -> JSON text, as Debezium's options (options.py) say.

`rendering` finds how a column's text becomes JSON; None means that Debezium's schema has no such column.
All text is wire text (jsontext.py, rule 1). A converter raises ValueError, ArithmeticError, KeyError or IndexError when
the type rules forbid the value.

Rule 1: built-in types are known by their oid, an extension's by their name, whatever schema it was created in.
Rule 2: a domain is written as its base type; Debezium does not read its default.
Rule 3: an array is a list of what its element type is written as, of one dimension (arrays.py). Arrays of domains,
        but for those of enums, and of some types that have a form of their own have none.
"""

from __future__ import annotations

from functools import partial
from hashlib import md5
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from deltaforge.envelopes import arrays, geometry, modes, numbers, times, vectors
from deltaforge.envelopes.binary import (
    bits_rendering,
    bytea,
    bytea_rendering,
    opaque_rendering,
    placeholder,
    placeholder_json,
)
from deltaforge.envelopes.hstore import hstore_rendering
from deltaforge.envelopes.jsontext import quote
from deltaforge.envelopes.money import money_rendering
from deltaforge.envelopes.renderings import Rendering, no_default
from deltaforge.envelopes.schemas import optional_elements

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.envelopes.options import ValueOptions
    from deltaforge.model import PgType

__all__ = ["NEVER", "Rendering", "bytea", "rendering"]

_BOOL, _BYTEA, _INT8, _INT2, _INT4, _OID, _FLOAT4, _FLOAT8 = 16, 17, 20, 21, 23, 26, 700, 701
_BPCHAR, _DATE, _TIME, _TIMESTAMP, _TIMESTAMPTZ, _INTERVAL, _TIMETZ = 1042, 1082, 1083, 1114, 1184, 1186, 1266
_TEXT, _VARCHAR, _NAME, _CHAR, _XML, _JSON, _JSONB, _NUMERIC, _UUID = 25, 1043, 19, 18, 142, 114, 3802, 1700, 2950
_BIT, _VARBIT, _MONEY, _POINT, _REFCURSOR, _TSVECTOR = 1560, 1562, 790, 600, 1790, 3614
_INT2VECTOR, _OIDVECTOR = 22, 30

_WITH_DEFAULT = {_TEXT: '""', _VARCHAR: '""', _BPCHAR: '""', _XML: '""', _JSON: '"{}"', _JSONB: '"{}"'}
"""Strings whose defaults Debezium reads, with what stands for a computed one."""
_STRINGS = {_NAME, _CHAR, _TSVECTOR, 869, 650, 829, 774, 3904, 3926, 3906, 3908, 3910, 3912}
"""The others: name (when options.unknown), "char", tsvector, inet, cidr, macaddr, macaddr8, ranges."""
_NAMED_STRINGS = {"citext", "ltree", "isbn"}
_NO_ARRAY = {_MONEY, _NAME, _INTERVAL, _VARBIT, _XML, _POINT, _REFCURSOR}
_STRING_ARRAYS = {_TEXT, _VARCHAR, _BPCHAR, _JSON, _JSONB}
_INT_ARRAYS = {_INT4, _INT8, _DATE}
_OTHER_DATES = {"connect", "isostring", "structured"}
"""Modes in which a date is not a plain number to Debezium."""


def rendering(kind: PgType, modifier: int, options: ValueOptions) -> Rendering | None:
    """How a column of this type and type modifier becomes JSON.

    None when the column is left out of the records: composite and unknown types, unless options.unknown.
    """
    if kind.base is not None:
        found = rendering(kind.base, kind.base_modifier, options)
        unsent = _unsent_domain(kind.base, found, options) if found else ""
        return found and msgspec.structs.replace(found, computed=None, printed=no_default, unavailable=unsent)
    if kind.element is not None and kind.oid != _NAME:
        return _array(kind.element, modifier, options)
    if kind.oid == _NAME and not options.unknown:
        return NEVER
    if kind.oid in _BY_OPTION:
        return _BY_OPTION[kind.oid](modifier, options)
    found = _FIXED.get(kind.oid) or geometry.BY_OID.get(kind.oid) or _string(kind, options) or _extension(kind, options)
    return found or (opaque_rendering(options) if options.unknown else None)


def _string(kind: PgType, options: ValueOptions) -> Rendering | None:
    """Types written as PostgreSQL prints them."""
    unsent = placeholder_json(options)
    if kind.oid in _WITH_DEFAULT:
        return Rendering(quote, '""', "text", unsent, _WITH_DEFAULT[kind.oid])
    if kind.kind == "e":
        return Rendering(quote, '""', "text", unsent)
    if kind.oid in _STRINGS or (kind.name in _NAMED_STRINGS and kind.kind == "b"):
        return Rendering(quote, '""', "text", unsent, printed=no_default)
    return None


def _extension(kind: PgType, options: ValueOptions) -> Rendering | None:
    """Types of extensions with a form of their own."""
    if kind.kind != "b":
        return None
    if kind.name == "hstore":
        return hstore_rendering(options)
    return geometry.BY_NAME.get(kind.name) or vectors.BY_NAME.get(kind.name)


def _array(element: PgType, modifier: int, options: ValueOptions) -> Rendering | None:
    if element.oid in _NO_ARRAY:
        return None
    if element.oid == _BIT:
        return _NO_BITS
    if element.base is not None and element.base.kind == "e":
        inner = _string(element.base, options)
    elif element.base is not None:
        inner = opaque_rendering(options) if options.unknown else None
    else:
        inner = rendering(element, modifier, options)
    if inner is None:
        return None
    return Rendering(
        array_convert(element, modifier, inner.convert, options), "[]",
        unavailable=_unsent_array(element, inner, options), printed=no_default,
    )  # fmt: skip


def array_convert(
    element: PgType, modifier: int, convert: Callable[[str], str], options: ValueOptions
) -> Callable[[str], str]:
    """The converter of an array whose elements `convert` writes."""
    if element.oid in geometry.BY_OID or element.oid in (_INT2VECTOR, _OIDVECTOR):
        return arrays.empty
    if element.oid == _NUMERIC:
        return partial(arrays.finite, element=convert)
    inner = quote if _is_text(element, modifier, options) else arrays.no_inner
    if element.name == "ltree" or not optional_elements(element):
        return partial(arrays.required, element=convert, inner=inner)
    if element.oid == _TIMETZ:
        return partial(arrays.flat, element=convert)
    if element.oid == _TIME:
        # A java.sql.Time to the driver, which ends with milliseconds.
        whole = convert
        convert = lambda text: whole(times.milliseconds(text))  # noqa: E731
    if ends := modes.array_ends(element.oid, modifier, options):
        convert = partial(arrays.far, element=convert, ends=ends)
    return partial(arrays.array, element=convert, inner=inner)


def _is_text(kind: PgType, modifier: int, options: ValueOptions) -> bool:
    found = rendering(kind, modifier, options)
    return found is not None and found.convert in (quote, _quoted) and kind.name not in ("citext", "isbn")


def _unsent_domain(base: PgType, found: Rendering, options: ValueOptions) -> str:
    """Debezium knows a placeholder of strings and bytes for a domain, not of lists and maps."""
    if base.name == "hstore" and options.hstore == "json":
        return placeholder_json(options)
    return "null" if base.element is not None or base.name == "hstore" else found.unavailable


def _unsent_array(element: PgType, inner: Rendering, options: ValueOptions) -> str:
    if element.oid in _STRING_ARRAYS or (element.oid == _BYTEA and options.binary == "bytes"):
        return f"[{inner.unavailable}]"
    if element.oid in _INT_ARRAYS and not (element.oid == _DATE and options.time in _OTHER_DATES):
        # Java's bytes are signed.
        return f"[{','.join(str(byte - (byte >> 7 << 8)) for byte in placeholder(options))}]"
    if element.oid == _UUID:
        return f'["{_name_uuid(placeholder(options))}"]'
    return "null"


def _name_uuid(name: bytes) -> UUID:
    """Java's UUID.nameUUIDFromBytes: version 3 without a namespace."""
    return UUID(bytes=md5(name, usedforsecurity=False).digest(), version=3)


def _quoted(text: str) -> str:
    return f'"{text}"'


_BY_OPTION: dict[int, Callable[[int, ValueOptions], Rendering]] = {
    _NUMERIC: modes.numeric,
    _MONEY: lambda _, options: money_rendering(options),
    _BIT: lambda modifier, _: bits_rendering(modifier),
    _VARBIT: lambda modifier, _: bits_rendering(modifier),
    _BYTEA: lambda _, options: bytea_rendering(options),
    _DATE: lambda _, options: modes.date(options),
    _TIME: modes.time,
    _TIMESTAMP: modes.timestamp,
    _TIMESTAMPTZ: modes.timestamptz,
    _TIMETZ: modes.timetz,
    _INTERVAL: modes.interval,
}
"""Types whose form depends on the type modifier or on an option."""

_NO_BITS = Rendering(lambda _: "null", "null", printed=no_default)
"""`bit[]`: Debezium's schema is that of one bit string, which no array fits."""

NEVER = Rendering(lambda _: "null", '""', printed=no_default)
"""`name`: the recorded Debezium writes what stands for NULL in the column, whatever the value is."""

_INTEGER = Rendering(str, "0", "raw", computed="0", printed=lambda text: str(int(text)))

_EMPTY = Rendering(lambda text: "[]" if text else "null", "[]", printed=no_default)
"""`oidvector` and `int2vector`: arrays to Debezium, which finds no element in their text."""

_FIXED = {
    _INT2VECTOR: _EMPTY,
    _OIDVECTOR: _EMPTY,
    _INT2: _INTEGER,
    _INT4: _INTEGER,
    _INT8: _INTEGER,
    _OID: Rendering(str, "0", "raw", printed=no_default),
    _BOOL: Rendering(
        {"t": "true", "f": "false"}.__getitem__,
        "false",
        computed="false",
        printed=lambda text: text if text == "t" else "f",
    ),
    _FLOAT4: Rendering(numbers.real, "0.0", "memo", computed="0.0"),
    _FLOAT8: Rendering(numbers.double, "0.0", "memo", computed="0.0"),
    _UUID: Rendering(_quoted, '""', "quoted", computed='"00000000-0000-0000-0000-000000000000"'),
}
"""Types with one form."""
