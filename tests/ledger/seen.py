"""One record of a topic as what the judges need of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from tests.ledger.debezium_rows import key_of, row_of
from tests.ledger.lsn import parse_lsn
from tests.ledger.rows import BALANCE, digests

if TYPE_CHECKING:
    from tests.ledger.rows import Key, Row
    from tests.support.topics import Record

Place: TypeAlias = tuple[str, int]
"""Topic and partition."""

UNREADABLE = (KeyError, ValueError, TypeError, msgspec.DecodeError)
_COMMIT_LSN, _NUMBER, _OLD_KEY = "deltaforge.commit_lsn", "deltaforge.index", "__debezium.oldkey"


class Seen(NamedTuple):
    """One event with a value, as a record showed it."""

    key: Key
    op: str
    digest: int
    large: int | None
    xid: int
    previous_commit: int
    """`source.sequence`'s first element: where the transaction before this one ended; 0 = unknown."""
    place: Place
    offset: int
    commit_lsn: int | None
    """From the position header, if there is one."""
    number: int
    """Of the change in its transaction, from the same header."""
    old_key: Key | None
    """The key that the row had before, if a change of the key made this event."""
    balance: int
    """Of an account."""
    row: Row | None


class _Source(msgspec.Struct):
    table: str
    xid: int = msgspec.field(name="txId")
    sequence: str


class _Value(msgspec.Struct):
    op: str
    source: _Source
    after: dict[str, Any] | None


_values = msgspec.json.Decoder(_Value)


def seen(record: Record) -> Seen:
    """Decode an event. Raises one of `UNREADABLE`."""
    value = _values.decode(record.value or b"")
    source, op = value.source, value.op
    table = source.table
    row = None if value.after is None else row_of(table, value.after)
    if (op == "d") != (row is None):
        raise ValueError(f"op {op!r} with after {'absent' if row is None else 'present'}")
    before = msgspec.json.decode(source.sequence)[0]
    pk = key_of(table, msgspec.json.decode(record.key or b""))
    if row is not None and pk != row[: len(pk)]:
        raise ValueError(f"key {pk} of another row than {row[: len(pk)]}")
    commit_lsn, number, old_key = _headers(table, record)
    digest, large = digests(table, row)
    return Seen(
        (table, pk), op, digest, large, source.xid, int(before or 0), (record.topic, record.partition), record.offset,
        commit_lsn, number, old_key, row[BALANCE] if row and table == "accounts" else 0, row,
    )  # fmt: skip


def _headers(table: str, record: Record) -> tuple[int | None, int, Key | None]:
    commit_lsn, number, old_key = None, -1, None
    for name, value in record.headers:
        if name == _COMMIT_LSN:
            commit_lsn = parse_lsn(value.decode())
        elif name == _NUMBER:
            number = int(value)
        elif name == _OLD_KEY:
            old_key = (table, key_of(table, msgspec.json.decode(value)))
    return commit_lsn, number, old_key
