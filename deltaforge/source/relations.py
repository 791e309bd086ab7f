"""Relation messages, and what the catalog adds to them. Pure.

pgoutput announces names, type oids, modifiers and the replica identity; NOT NULL, defaults, the key and what a type
oid means come from the catalog. Facts are matched by column name: the catalog shows today's table, the message the
table as it was; a column that is gone today has no facts. Where the two tell of different primary keys, the message is
right: rows that are read again after a DROP, a RENAME or another key must not change their keys.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence  # noqa: TC003 - msgspec reads the annotations

import msgspec

from deltaforge.errors import ProtocolViolation
from deltaforge.model import Column, PgType, Relation

_OID = struct.Struct(">I")
_COUNT = struct.Struct(">H")
_TYPE = struct.Struct(">Ii")
_ARRAY, _DOMAIN, _ENUM = "a", "d", "e"
_DEFAULT = "d"
"""REPLICA IDENTITY DEFAULT."""


class Announced(msgspec.Struct, frozen=True):
    """A Relation message as it stands. `columns`: name, type oid, modifier, part of the identity."""

    oid: int
    schema: str
    table: str
    identity: str
    columns: tuple[tuple[str, int, int, bool], ...]


class ColumnFacts(msgspec.Struct, frozen=True):
    """What the catalog knows about a column. `not_null` includes a domain's."""

    not_null: bool
    default: str | None


class RelationFacts(msgspec.Struct, frozen=True):
    """What the catalog knows about a table; `key` in key order, empty when nothing identifies a row."""

    columns: Mapping[str, ColumnFacts] = {}
    key: tuple[str, ...] = ()


class TypeRow(msgspec.Struct, frozen=True):
    """One row of pg_type. `element` is 0 unless it is a true array, `base` unless it is a domain.

    `labels`: an enum's, in the order they were added, which is how Debezium lists them.
    """

    oid: int
    name: str
    kind: str
    schema: str
    element: int
    base: int
    modifier: int
    labels: Sequence[str] = ()


def parse_relation(message: bytes, at: int) -> Announced:
    """Read the Relation message that begins at offset `at` with its letter R.

    Raises:
      ProtocolViolation: it is cut short.
    """
    try:
        oid = _OID.unpack_from(message, at + 1)[0]
        schema, at = _text(message, at + 5)
        table, at = _text(message, at)
        identity = chr(message[at])
        count = _COUNT.unpack_from(message, at + 1)[0]
        at += 3
        columns = []
        for _ in range(count):
            flags = message[at]
            name, at = _text(message, at + 1)
            type_oid, modifier = _TYPE.unpack_from(message, at)
            at += _TYPE.size
            columns.append((name, type_oid, modifier, bool(flags & 1)))
    except (struct.error, IndexError, ValueError):
        raise ProtocolViolation("a Relation message is cut short") from None
    # The empty schema stands for pg_catalog.
    return Announced(oid, schema or "pg_catalog", table, identity, tuple(columns))


def _text(message: bytes, at: int) -> tuple[str, int]:
    end = message.index(0, at)
    return message[at:end].decode(errors="replace"), end + 1


def build_types(rows: Mapping[int, TypeRow]) -> dict[int, PgType]:
    """Resolve elements and bases among the rows of pg_type."""
    return {oid: _type(oid, rows) for oid in rows}


def _type(oid: int, rows: Mapping[int, TypeRow]) -> PgType:
    row = rows.get(oid)
    if row is None:
        return unknown_type(oid)
    element = _type(row.element, rows) if row.element else None
    base, modifier = row, -1
    while base.kind == _DOMAIN and base.base in rows:
        modifier = base.modifier if base.modifier != -1 else modifier
        base = rows[base.base]
    resolved = _type(base.oid, rows) if base is not row else None
    return PgType(oid, row.name, row.kind, row.schema, element, resolved, modifier, tuple(row.labels))


def has_labels(kind: PgType) -> bool:
    """Is this an enum, or made of one? Its labels can change while its oid stays."""
    return kind.kind == _ENUM or any(map(has_labels, filter(None, (kind.element, kind.base))))


def unknown_type(oid: int) -> PgType:
    """A type that the catalog does not hold any more."""
    return PgType(oid, f"unknown_{oid}", "b", "")


def build_relation(announced: Announced, facts: RelationFacts, types: Mapping[int, PgType]) -> Relation:
    """Join the message with the facts."""
    columns = []
    for name, type_oid, modifier, identity in announced.columns:
        fact = facts.columns.get(name, ColumnFacts(not_null=False, default=None))
        kind = types.get(type_oid) or unknown_type(type_oid)
        columns.append(Column(name, kind, modifier, identity, fact.not_null, fact.default))
    key = _key(announced, facts)
    return Relation(announced.oid, announced.schema, announced.table, announced.identity, tuple(columns), key)


def _key(announced: Announced, facts: RelationFacts) -> tuple[int, ...]:
    """The key's columns. Under the default identity the message shows the primary key as it was with the row."""
    names = [column[0] for column in announced.columns]
    primary = {column[0] for column in announced.columns if column[3]} if announced.identity == _DEFAULT else set()
    if primary and primary != set(facts.key):
        return tuple(index for index, name in enumerate(names) if name in primary)
    return tuple(names.index(name) for name in facts.key) if set(facts.key) <= set(names) else ()
