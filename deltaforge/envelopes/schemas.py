"""Kafka Connect's schema of every column type, as its JSON converter writes it into a record.

With `schemas.enable` a key or value is `{"schema":<schema>,"payload":<what it is without>}`. A schema depends on a
table's plan only, so it is a constant in front of each payload.

Rule 1: the order is type, what it consists of, optional, name, version, doc, parameters, default, field.
Rule 2: a column is optional unless it is NOT NULL. The geometric types but `point` and `geography` always are.
Rule 3: elements of the arrays that Debezium maps by name are optional, those of others (enums, say) are not.
Rule 4: what `values.rendering` writes must fit: a type that is not known here has the schema of opaque bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from deltaforge.envelopes.jsontext import quoted_name

if TYPE_CHECKING:
    from deltaforge.envelopes.options import ValueOptions
    from deltaforge.model import PgType


class Schema(msgspec.Struct, frozen=True):
    """A type, before it is known which column or element has it."""

    kind: str
    """`"type":..` and, for structs, arrays and maps, what they consist of."""
    meaning: str = ""
    """`,"name":..,"version":..` and so on; "" for a type that means no more than it says."""
    optional: bool = False
    """Optional whatever the column says."""

    def json(self, *, optional: bool = False, default: str | None = None, field: str | None = None) -> str:
        """The schema as wire text. `default` is JSON, `field` the name of the struct's field that has the schema."""
        flag = "true" if optional or self.optional else "false"
        parts = [f'{{{self.kind},"optional":{flag}{self.meaning}']
        if default is not None:
            parts.append(f',"default":{default}')
        if field is not None:
            parts.append(f',"field":{quoted_name(field)}')
        return "".join([*parts, "}"])


def named(kind: str, name: str, version: int | None = 1, doc: str = "", **parameters: str) -> Schema:
    """The primitive type `kind` with a meaning."""
    return Schema(f'"type":"{kind}"', _meaning(name, version, doc, parameters))


def struct(fields: list[str], name: str, version: int | None = 1, doc: str = "", *, optional: bool = False) -> Schema:
    """A struct of fields that are written already."""
    return Schema(f'"type":"struct","fields":[{",".join(fields)}]', _meaning(name, version, doc, {}), optional)


def array(items: str, name: str = "") -> Schema:
    """An array of elements with the written schema `items`."""
    return Schema(f'"type":"array","items":{items}', _meaning(name, 1, "", {}) if name else "")


def mapping(keys: str, values: str) -> Schema:
    """A map between types whose schemas are written already."""
    return Schema(f'"type":"map","keys":{keys},"values":{values}')


def _meaning(name: str, version: int | None, doc: str, parameters: dict[str, str]) -> str:
    parts = [f',"name":{quoted_name(name)}']
    if version is not None:
        parts.append(f',"version":{version}')
    if doc:
        parts.append(f',"doc":"{doc}"')
    if parameters:
        # Keyword arguments have no dots, parameters have no underscores.
        pairs = (f'"{key.replace("_", ".")}":{quoted_name(value)}' for key, value in parameters.items())
        parts.append(f',"parameters":{{{",".join(pairs)}}}')
    return "".join(parts)


BOOLEAN, BYTES, STRING = Schema('"type":"boolean"'), Schema('"type":"bytes"'), Schema('"type":"string"')
INT8 = Schema('"type":"int8"')
INT16, INT32, INT64 = Schema('"type":"int16"'), Schema('"type":"int32"'), Schema('"type":"int64"')
FLOAT32, FLOAT64 = Schema('"type":"float"'), Schema('"type":"double"')

_DECIMAL = "org.apache.kafka.connect.data.Decimal"
_JSON = named("string", "io.debezium.data.Json")
_UNBOUNDED = 2_147_483_647
"""Length of a `varbit` without one."""

_VARIABLE_DECIMAL = struct(
    [INT32.json(field="scale"), BYTES.json(field="value")],
    "io.debezium.data.VariableScaleDecimal", doc="Variable scaled decimal",
)  # fmt: skip
_POINT = struct(
    [
        FLOAT64.json(field="x"), FLOAT64.json(field="y"),
        BYTES.json(optional=True, field="wkb"), INT32.json(optional=True, field="srid"),
    ],
    "io.debezium.data.geometry.Point", doc="Geometry (POINT)",
)  # fmt: skip
_WKB = [BYTES.json(field="wkb"), INT32.json(optional=True, field="srid")]
_EXTENSIONS = mapping(STRING.json(), STRING.json()).json(optional=True, field="extensions")
_GEOMETRY = struct([*_WKB, _EXTENSIONS], "io.debezium.data.geometry.Geometry", 2, "Geometry", optional=True)
_CIRCLE = struct(
    [_POINT.json(field="center"), FLOAT64.json(field="radius")],
    "io.debezium.data.geometry.Circle", doc="Geometry (CIRCLE)", optional=True,
)  # fmt: skip
_LINE = struct(
    [FLOAT64.json(field=name) for name in "abc"],
    "io.debezium.data.geometry.Line", doc="Geometry (LINE)", optional=True,
)  # fmt: skip
_SPARSE_VECTOR = struct(
    [INT16.json(field="dimensions"), mapping(INT16.json(), FLOAT64.json()).json(field="vector")],
    "io.debezium.data.SparseDoubleVector", doc="Sparse double vector",
)  # fmt: skip


def _parts(name: str, parts: str) -> Schema:
    """A struct of `time.precision.mode=structured`."""
    kinds = {"seconds": INT64, "zoneId": STRING, "specialValue": STRING}
    kinds |= dict.fromkeys(("month", "day", "hour", "minute", "second"), INT8)
    fields = [kinds.get(part, INT32).json(optional=True, field=part) for part in parts.split()]
    return struct(fields, f"io.debezium.time.Structured{name}")


_CLOCK = "hour minute second nanos"
_STRUCTURED = {
    1082: _parts("Date", "year month day specialValue"),
    1083: _parts("Time", f"{_CLOCK} precision"),
    1266: _parts("ZonedTime", f"{_CLOCK} offsetSeconds precision"),
    1114: _parts("Timestamp", f"year month day {_CLOCK} specialValue precision"),
    1184: _parts("ZonedTimestamp", f"year month day {_CLOCK} offsetSeconds zoneId specialValue precision"),
    1186: _parts("Duration", "years months days hours minutes seconds nanos precision"),
}

_BYTEA, _NAME, _XML, _BIT, _VARBIT, _MONEY, _NUMERIC = 17, 19, 142, 1560, 1562, 790, 1700
_DATE, _TIME, _TIMESTAMP, _TIMESTAMPTZ, _INTERVAL, _TIMETZ = 1082, 1083, 1114, 1184, 1186, 1266

_BY_OID = {
    22: array(INT16.json()), 30: array(INT64.json()),
    16: BOOLEAN, 20: INT64, 21: INT16, 23: INT32, 26: INT64, 700: FLOAT32, 701: FLOAT64,
    18: STRING, _NAME: STRING, 25: STRING, 1042: STRING, 1043: STRING,
    869: STRING, 650: STRING, 829: STRING, 774: STRING,
    3904: STRING, 3906: STRING, 3908: STRING, 3910: STRING, 3912: STRING, 3926: STRING,
    114: _JSON, 3802: _JSON,
    _XML: named("string", "io.debezium.data.Xml"),
    2950: named("string", "io.debezium.data.Uuid"),
    3614: named("string", "io.debezium.data.Tsvector"),
    _TIMESTAMPTZ: named("string", "io.debezium.time.ZonedTimestamp"),
    _TIMETZ: named("string", "io.debezium.time.ZonedTime"),
    600: _POINT, 601: _GEOMETRY, 602: _GEOMETRY, 603: _GEOMETRY, 604: _GEOMETRY, 628: _LINE, 718: _CIRCLE,
}  # fmt: skip
_BY_NAME = {
    "citext": STRING,
    "isbn": STRING,
    "ltree": named("string", "io.debezium.data.Ltree"),
    "geometry": _GEOMETRY,
    "geography": struct(_WKB, "io.debezium.data.geometry.Geography", doc="Geography"),
    "vector": array(FLOAT64.json(), "io.debezium.data.DoubleVector"),
    "halfvec": array(FLOAT32.json(), "io.debezium.data.FloatVector"),
    "sparsevec": _SPARSE_VECTOR,
}
_OPTIONAL_ELEMENTS = set(_BY_OID) - {_XML, 3614, 22, 30} | {_BYTEA, _NUMERIC, _DATE, _TIME, _TIMESTAMP}
_OPTIONAL_NAMED_ELEMENTS = {"citext", "ltree", "geometry", "geography", "hstore"}


def column_schema(kind: PgType, modifier: int, options: ValueOptions) -> Schema:
    """The schema of a column of this type and type modifier, for a column that `values.rendering` does not omit."""
    if kind.base is not None:
        return column_schema(kind.base, kind.base_modifier, options)
    if kind.element is not None and kind.oid != _NAME:
        element = kind.element
        if element.oid == _BIT:
            return column_schema(element, modifier, options)
        if element.base is not None and element.base.kind == "e":
            # Debezium asks the domain for its labels, which has none.
            return array(named("string", "io.debezium.data.Enum", allowed="").json())
        if element.base is not None:
            return array(binary_schema(options).json())
        return array(column_schema(element, modifier, options).json(optional=optional_elements(element)))
    if kind.kind == "e":
        return named("string", "io.debezium.data.Enum", allowed=",".join(kind.labels))
    if kind.oid == _NUMERIC:
        return _numeric(modifier, options)
    if kind.oid == _MONEY:
        precise = named("bytes", _DECIMAL, scale=str(options.money_digits))
        return {"precise": precise, "string": STRING, "double": FLOAT64}[options.decimal]
    if kind.oid in (_BIT, _VARBIT):
        length = modifier if modifier > 0 else _UNBOUNDED
        return BOOLEAN if length == 1 else named("bytes", "io.debezium.data.Bits", length=str(length))
    if kind.name == "hstore":
        return _JSON if options.hstore == "json" else mapping(STRING.json(), STRING.json(optional=True))
    temporal = _temporal(kind.oid, modifier, options)
    return temporal or _BY_OID.get(kind.oid) or _BY_NAME.get(kind.name) or binary_schema(options)


def optional_elements(element: PgType) -> bool:
    """May elements of this type be NULL in an array? See rule 3."""
    return element.base is None and (
        element.oid in _OPTIONAL_ELEMENTS or (element.kind == "b" and element.name in _OPTIONAL_NAMED_ELEMENTS)
    )


def binary_schema(options: ValueOptions) -> Schema:
    """The schema of bytes."""
    return BYTES if options.binary == "bytes" else STRING


def _numeric(modifier: int, options: ValueOptions) -> Schema:
    if options.decimal != "precise":
        return STRING if options.decimal == "string" else FLOAT64
    if modifier == -1:
        return _VARIABLE_DECIMAL
    precision, scale = (modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF
    # A negative scale is written with all its digits, as a number without fraction.
    return named(
        "bytes", _DECIMAL, scale=str(scale if scale < 0x400 else 0), connect_decimal_precision=str(precision)
    )  # fmt: skip


def _temporal(oid: int, modifier: int, options: ValueOptions) -> Schema | None:
    """The schema of a type whose form `time.precision.mode` or `interval.handling.mode` decides."""
    if options.time == "structured":
        return _STRUCTURED.get(oid)
    if oid == _INTERVAL:
        if options.interval == "string":
            return named("string", "io.debezium.time.Interval")
        return named("int64", "io.debezium.time.MicroDuration")
    stem = {_DATE: "Date", _TIME: "Time", _TIMESTAMP: "Timestamp"}.get(oid)
    if stem is None:
        return None
    if options.time == "isostring":
        return named("string", f"io.debezium.time.Iso{stem}")
    if options.time == "connect":
        return named("int64" if oid == _TIMESTAMP else "int32", f"org.apache.kafka.connect.data.{stem}")
    unit = "" if oid == _DATE else _unit(oid, modifier, options)
    return named("int64" if unit or oid == _TIMESTAMP else "int32", f"io.debezium.time.{unit}{stem}")


def _unit(oid: int, modifier: int, options: ValueOptions) -> str:
    """What a time or timestamp counts: "" milliseconds, Micro- or Nanoseconds."""
    if options.time == "nanoseconds":
        return "Nano"
    always = options.time == "microseconds" or (options.time == "adaptive_time_microseconds" and oid == _TIME)
    return "Micro" if always or modifier == -1 or modifier > 3 else ""
