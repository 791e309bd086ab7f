"""Read Debezium's JSON of the three tables back into comparable rows, without any code of the product."""

from __future__ import annotations

import base64
import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tests.ledger.rows import CHANGING, COLUMNS, KEY_WIDTH, OMITTED, TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.ledger.rows import Row

PLACEHOLDER = "__debezium_unavailable_value"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def row_of(table: str, block: Mapping[str, Any]) -> Row:
    """The comparable form of an event's `after` block. Raises KeyError or ValueError when it is not of this table."""
    columns = COLUMNS[table]
    if table == CHANGING and tuple(block)[: len(columns)] == columns:
        # Further columns are text and integers, which need no decoding.
        values = list(block.items())
        return (*(value for _, value in values[: len(columns)]), *values[len(columns) :])
    if tuple(block) != columns:
        raise ValueError(f"columns of {table} are {list(block)}")
    return tuple(
        None if value is None else decode(value) for value, decode in zip(block.values(), _DECODERS[table], strict=True)
    )


def key_of(table: str, block: Mapping[str, Any]) -> Row:
    """The primary key in a record's key; a table identifier beside it is no part of it."""
    return tuple(block[name] for name in COLUMNS[table][: KEY_WIDTH[table]])


def _text(value: Any) -> Any:
    return OMITTED if value == PLACEHOLDER else value


def _unscaled(value: str) -> int:
    return int.from_bytes(base64.b64decode(value, validate=True), "big", signed=True)


def _money(value: str) -> Decimal:
    return Decimal(f"{_unscaled(value)}E-2")


def _numeric(value: dict[str, Any]) -> Decimal:
    return Decimal(f"{_unscaled(value['value'])}E{-value['scale']}").normalize()


def _instant(value: str) -> int:
    return (dt.datetime.fromisoformat(value) - _EPOCH) // dt.timedelta(microseconds=1)


def _json(value: str) -> str:
    return json.dumps(json.loads(value), sort_keys=True)


def _same(value: Any) -> Any:
    return value


_BY_TYPE: dict[str, Callable[[Any], Any]] = {
    "bigint": _same, "int": _same, "boolean": _same, "uuid": _same, "date": _same, "text": _text,
    "timestamptz": _instant, "jsonb": _json, "bytea": lambda value: base64.b64decode(value, validate=True),
}  # fmt: skip


def _decoder(table: str, column: str, type_name: str) -> Callable[[Any], Any]:
    if type_name == "numeric":
        return _numeric if column == "price" else _money
    return tuple if column == "tags" else _BY_TYPE[type_name]


_DECODERS = {
    table: tuple(_decoder(table, column, kind) for column, kind in zip(COLUMNS[table], TYPES[table], strict=True))
    for table in COLUMNS
}
