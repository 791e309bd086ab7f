"""Read one pgoutput message: protocol version 1, text mode.

Rule 1: a message is accepted whole or not at all: bytes missing, bytes left over, a mark that is not in the protocol,
        text that is not UTF-8 all raise ProtocolViolation, and nothing else is ever raised.
Rule 2: an error tells kind and offset, never content.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from deltaforge.errors import ProtocolViolation
from deltaforge.model import Lsn
from deltaforge.pgoutput.messages import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    Message,
    Origin,
    PgOutput,
    RelationColumn,
    RelationMessage,
    Truncate,
    TypeMessage,
    Update,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Callable

XLOG_HEADER = 25
"""Bytes before the pgoutput message in an XLogData payload."""

_PG_EPOCH_US = 946_684_800_000_000
_U8, _U16, _U32, _I32 = struct.Struct(">B"), struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">i")
_U64, _I64 = struct.Struct(">Q"), struct.Struct(">q")


class _Reader:
    """A message being read from the front."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def wrong(self, what: str) -> ProtocolViolation:
        kind = self._data[:1].decode("latin-1")
        return ProtocolViolation(f"pgoutput message {kind!r}: {what} at byte {self._at} of {len(self._data)}")

    def take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        if len(found) != size:
            raise self.wrong(f"{size} bytes expected")
        self._at += size
        return found

    def number(self, form: struct.Struct) -> int:
        value: int = form.unpack(self.take(form.size))[0]
        return value

    def flag(self, allowed: int = 1) -> int:
        value = self.number(_U8)
        if value & ~allowed:
            raise self.wrong("unknown flags")
        return value

    def lsn(self) -> Lsn:
        return Lsn(self.number(_U64))

    def time_us(self) -> int:
        return self.number(_I64) + _PG_EPOCH_US

    def text(self) -> str:
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise self.wrong("end of a string expected")
        raw = self.take(end - self._at)
        self._at += 1
        try:
            return raw.decode()
        except UnicodeDecodeError:
            pass
        raise self.wrong("UTF-8 expected")

    def mark(self, allowed: bytes) -> bytes:
        found = self.take(1)
        if found not in allowed:
            raise self.wrong("a mark that the protocol does not have")
        return found

    def values(self) -> tuple[Value, ...]:
        return tuple(self._value() for _ in range(self.number(_U16)))

    def _value(self) -> Value:
        mark = self.mark(b"tnu")
        if mark == b"t":
            return self.take(self.number(_U32))
        return None if mark == b"n" else UNCHANGED

    def end(self) -> None:
        if self._at != len(self._data):
            raise self.wrong("end expected")


def decode(data: bytes) -> PgOutput:
    """Read one message; `data` begins with its kind. Raises ProtocolViolation (rules 1 and 2)."""
    reader = _Reader(data)
    read = _KINDS.get(data[:1])
    if read is None:
        raise reader.wrong("a kind that the protocol does not have")
    reader.take(1)
    message = read(reader)
    reader.end()
    return message


def decode_xlog(payload: bytes) -> PgOutput:
    """Read the message inside an XLogData payload. Raises ProtocolViolation."""
    if len(payload) <= XLOG_HEADER or payload[:1] != b"w":
        raise ProtocolViolation("not an XLogData message")
    return decode(payload[XLOG_HEADER:])


def _begin(reader: _Reader) -> Begin:
    return Begin(reader.lsn(), reader.time_us(), reader.number(_U32))


def _commit(reader: _Reader) -> Commit:
    reader.flag(0)
    return Commit(reader.lsn(), reader.lsn(), reader.time_us())


def _origin(reader: _Reader) -> Origin:
    return Origin(reader.lsn(), reader.text())


def _relation(reader: _Reader) -> RelationMessage:
    oid, schema, table = reader.number(_U32), reader.text(), reader.text()
    identity = reader.mark(b"dnfi").decode()
    columns = tuple(_column(reader) for _ in range(reader.number(_U16)))
    return RelationMessage(oid, schema or "pg_catalog", table, identity, columns)


def _column(reader: _Reader) -> RelationColumn:
    return RelationColumn(bool(reader.flag()), reader.text(), reader.number(_U32), reader.number(_I32))


def _type(reader: _Reader) -> TypeMessage:
    oid, schema, name = reader.number(_U32), reader.text(), reader.text()
    return TypeMessage(oid, schema or "pg_catalog", name)


def _insert(reader: _Reader) -> Insert:
    relation = reader.number(_U32)
    reader.mark(b"N")
    return Insert(relation, reader.values())


def _update(reader: _Reader) -> Update:
    relation = reader.number(_U32)
    mark = reader.mark(b"KON")
    if mark == b"N":
        return Update(relation, reader.values())
    old = reader.values()
    reader.mark(b"N")
    return Update(relation, reader.values(), old, mark == b"O")


def _delete(reader: _Reader) -> Delete:
    relation = reader.number(_U32)
    mark = reader.mark(b"KO")
    return Delete(relation, reader.values(), mark == b"O")


def _truncate(reader: _Reader) -> Truncate:
    count, flags = reader.number(_U32), reader.flag(3)
    data = reader.take(4 * count)
    relations = struct.unpack(f">{count}I", data)
    return Truncate(relations, bool(flags & 1), bool(flags & 2))


def _message(reader: _Reader) -> Message:
    transactional, lsn, prefix = bool(reader.flag()), reader.lsn(), reader.text()
    return Message(transactional, lsn, prefix, reader.take(reader.number(_U32)))


_KINDS: dict[bytes, Callable[[_Reader], PgOutput]] = {
    b"B": _begin,
    b"C": _commit,
    b"O": _origin,
    b"R": _relation,
    b"Y": _type,
    b"I": _insert,
    b"U": _update,
    b"D": _delete,
    b"T": _truncate,
    b"M": _message,
}
