"""Builds pgoutput messages as PostgreSQL sends them: protocol version 1, text mode, wrapped in XLogData.

Each function returns the payload of one CopyData message. Values are text (str), None for NULL, UNSENT for unchanged
TOAST.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltaforge.model import Relation

PG_EPOCH_US = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970-01-01: PostgreSQL's clock starts there."""


class _Unsent:
    def __repr__(self) -> str:
        return "UNSENT"


UNSENT = _Unsent()
Value = str | None | _Unsent


def xlog(payload: bytes, lsn: int = 0, wal_end: int | None = None, clock_us: int = 0) -> bytes:
    """`payload` in an XLogData header."""
    return struct.pack(">cQQq", b"w", lsn, lsn if wal_end is None else wal_end, clock_us) + payload


def keepalive(wal_end: int, reply: bool = False) -> bytes:
    """A keepalive."""
    return struct.pack(">cQqB", b"k", wal_end, 0, reply)


def begin(commit_lsn: int, commit_time_us: int = PG_EPOCH_US, xid: int = 700, lsn: int = 0) -> bytes:
    """BEGIN; `commit_time_us` counts from 1970."""
    return xlog(struct.pack(">cQqI", b"B", commit_lsn, commit_time_us - PG_EPOCH_US, xid), lsn)


def commit(commit_lsn: int, end_lsn: int, commit_time_us: int = PG_EPOCH_US) -> bytes:
    """COMMIT; XLogData's start is `end_lsn`, as PostgreSQL sends it."""
    return xlog(struct.pack(">cBQQq", b"C", 0, commit_lsn, end_lsn, commit_time_us - PG_EPOCH_US), end_lsn)


def origin(name: str, origin_lsn: int) -> bytes:
    """Origin."""
    return xlog(struct.pack(">cQ", b"O", origin_lsn) + name.encode() + b"\0")


def type_(oid: int, schema: str, name: str) -> bytes:
    """Type."""
    return xlog(struct.pack(">cI", b"Y", oid) + schema.encode() + b"\0" + name.encode() + b"\0")


def relation(relation: Relation) -> bytes:
    """Relation, from the model's Relation."""
    schema = "" if relation.schema == "pg_catalog" else relation.schema
    out = struct.pack(">cI", b"R", relation.oid) + schema.encode() + b"\0" + relation.table.encode() + b"\0"
    out += relation.identity.encode() + struct.pack(">H", len(relation.columns))
    for column in relation.columns:
        out += struct.pack(">B", column.identity) + column.name.encode() + b"\0"
        out += struct.pack(">Ii", column.type.oid, column.modifier)
    return xlog(out)


def tuple_data(values: Sequence[Value]) -> bytes:
    """TupleData."""
    out = struct.pack(">H", len(values))
    for value in values:
        if value is None:
            out += b"n"
        elif isinstance(value, _Unsent):
            out += b"u"
        else:
            data = value.encode()
            out += b"t" + struct.pack(">I", len(data)) + data
    return out


def insert(oid: int, values: Sequence[Value], lsn: int = 0) -> bytes:
    """Insert."""
    return xlog(struct.pack(">cIc", b"I", oid, b"N") + tuple_data(values), lsn)


def update(
    oid: int, values: Sequence[Value], lsn: int = 0, *, old: Sequence[Value] | None = None, old_kind: str = "K"
) -> bytes:
    """Update; `old_kind` is K (key columns, others None) or O (the whole row)."""
    before = old_kind.encode() + tuple_data(old) if old is not None else b""
    return xlog(struct.pack(">cI", b"U", oid) + before + b"N" + tuple_data(values), lsn)


def delete(oid: int, old: Sequence[Value], lsn: int = 0, *, old_kind: str = "K") -> bytes:
    """Delete."""
    return xlog(struct.pack(">cI", b"D", oid) + old_kind.encode() + tuple_data(old), lsn)


def truncate(oids: Sequence[int], lsn: int = 0, *, cascade: bool = False, restart: bool = False) -> bytes:
    """Truncate."""
    return xlog(struct.pack(f">cIB{len(oids)}I", b"T", len(oids), cascade | restart << 1, *oids), lsn)


def message(prefix: str, content: bytes, lsn: int = 0, *, transactional: bool = True) -> bytes:
    """A logical message (pg_logical_emit_message)."""
    head = struct.pack(">cBQ", b"M", transactional, lsn) + prefix.encode() + b"\0"
    return xlog(head + struct.pack(">I", len(content)) + content, lsn)
