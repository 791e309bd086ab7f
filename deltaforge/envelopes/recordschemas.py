"""Kafka Connect's schemas of whole keys and values: of a table's changes, and of the records beside them.

The names of a table's schemas follow its topic, as Debezium's router leaves them. All text is wire text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from deltaforge.envelopes.defaults import default_json
from deltaforge.envelopes.schemas import INT64, STRING, array, binary_schema, column_schema, named, struct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltaforge.envelopes.options import ValueOptions
    from deltaforge.envelopes.values import Rendering
    from deltaforge.model import Column

    Columns: TypeAlias = Sequence[tuple[Column, Rendering]]

_CONNECTOR = "io.debezium.connector.postgresql"
_COMMON = "io.debezium.connector.common"
_SNAPSHOT = named(
    "string", "io.debezium.data.Enum",
    allowed="true,first,first_in_data_collection,last_in_data_collection,last,false,incremental",
)  # fmt: skip

_SOURCE = struct(
    [
        *(STRING.json(field=name) for name in ("version", "connector", "name")),
        INT64.json(field="ts_ms"),
        _SNAPSHOT.json(optional=True, default='"false"', field="snapshot"),
        STRING.json(field="db"),
        STRING.json(optional=True, field="sequence"),
        *(INT64.json(optional=True, field=name) for name in ("ts_us", "ts_ns")),
        *(STRING.json(field=name) for name in ("schema", "table")),
        *(INT64.json(optional=True, field=name) for name in ("txId", "lsn", "xmin")),
        STRING.json(optional=True, field="origin"),
        INT64.json(optional=True, field="origin_lsn"),
    ],
    f"{_CONNECTOR}.Source",
).json(field="source")
_TRANSACTION = struct(
    [STRING.json(field="id"), INT64.json(field="total_order"), INT64.json(field="data_collection_order")],
    "event.block",
).json(optional=True, field="transaction")
_CLOCKS = [INT64.json(optional=True, field=name) for name in ("ts_ms", "ts_us", "ts_ns")]

TRANSACTION_KEY = struct([STRING.json(field="id")], f"{_COMMON}.TransactionMetadataKey").json()
"""Schema of a transaction record's key."""
_COLLECTION = struct([STRING.json(field="data_collection"), INT64.json(field="event_count")], "event.collection")
TRANSACTION_VALUE = struct(
    [
        STRING.json(field="status"),
        STRING.json(field="id"),
        INT64.json(optional=True, field="event_count"),
        array(_COLLECTION.json(optional=True)).json(optional=True, field="data_collections"),
        INT64.json(field="ts_ms"),
    ],
    f"{_COMMON}.TransactionMetadataValue",
).json()
"""Schema of a transaction record's value."""
HEARTBEAT_KEY = struct([STRING.json(field="serverName")], f"{_COMMON}.ServerNameKey").json()
"""Schema of a heartbeat's key."""
HEARTBEAT_VALUE = struct([INT64.json(field="ts_ms")], f"{_COMMON}.Heartbeat").json()
"""Schema of a heartbeat's value."""
MESSAGE_KEY = struct([STRING.json(optional=True, field="prefix")], f"{_CONNECTOR}.MessageKey").json()
"""Schema of a logical message's key."""


def message_value(options: ValueOptions) -> str:
    """Schema of a logical message's value."""
    content = binary_schema(options).json(optional=True, field="content")
    message = struct([STRING.json(optional=True, field="prefix"), content], f"{_CONNECTOR}.Message")
    fields = [STRING.json(field="op"), _CLOCKS[0], _SOURCE, _TRANSACTION, message.json(field="message")]
    return struct(fields, f"{_CONNECTOR}.MessageValue").json()


def opening(schema: str) -> str:
    """What stands before a payload with this schema; a brace after the payload closes it."""
    return f'{{"schema":{schema},"payload":'


def with_schema(schema: str, payload: str) -> str:
    """A payload with its schema; '' = the payload alone."""
    return payload if not schema else f"{opening(schema)}{payload}}}"


def key_schema(topic: str, columns: Columns, options: ValueOptions, identifier: str | None) -> str:
    """The schema of a table's keys. `identifier`: name of the field that tells the tables of a topic apart."""
    fields = _fields(columns, options)
    if identifier is not None:
        fields.append(STRING.json(field=identifier))
    return struct(fields, f"{topic}.Key", None).json()


def value_schema(topic: str, columns: Columns, options: ValueOptions) -> str:
    """The schema of a table's change events."""
    row = struct(_fields(columns, options), f"{topic}.Value", None)
    rows = [row.json(optional=True, field=name) for name in ("before", "after")]
    fields = [*rows, _SOURCE, _TRANSACTION, STRING.json(field="op"), *_CLOCKS]
    return struct(fields, f"{topic}.Envelope", 2).json()


def _fields(columns: Columns, options: ValueOptions) -> list[str]:
    return [
        column_schema(column.type, column.modifier, options).json(
            optional=not column.not_null, default=default_json(column.default, rendering), field=column.name
        )
        for column, rendering in columns
    ]
