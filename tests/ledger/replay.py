"""I6: whoever plays the events in order ends with PostgreSQL's tables, byte for byte, and never makes money.

Of every living row its digests are kept. A large value that PostgreSQL did not send again is the one that the row had
before; a row that got a new key takes it from the old one, whose delete may stand in another partition and so come
later here. Such a debt is paid at the end.

Nobody tells a consumer that columns were dropped, renamed or added behind a row's last event. Rows of the table to
which that happens are compared in the columns that both sides have; no name is given twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg

from tests.ledger.rows import CHANGING, COLUMNS, KEY_WIDTH, canonical, digests

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.ledger.outcomes import Expected
    from tests.ledger.rows import Key, Row
    from tests.ledger.seen import Seen
    from tests.ledger.verdict import Verdict

_Grave: TypeAlias = "tuple[Key, int]"
"""A row that a change of its key ended: old key and transaction."""
_Large: TypeAlias = "int | _Grave | None"

OMITTED = 0


class _Row:
    __slots__ = ("balance", "digest", "large", "row")

    def __init__(self, digest: int, large: _Large, balance: int, row: Row | None) -> None:
        self.digest, self.large, self.balance, self.row = digest, large, balance, row


class Replay:
    """Takes events in the order of their partitions."""

    def __init__(self, expected: Expected, verdict: Verdict) -> None:
        self._funds, self._verdict = expected.funds, verdict
        self._rows: dict[Key, _Row] = {}
        self._graves: dict[_Grave, _Large] = {}
        self._surplus: dict[int, int] = {}

    def take(self, event: Seen) -> None:
        """One event."""
        row = self._rows.get(event.key)
        had = 0 if row is None else row.balance
        if event.op == "d":
            if row is not None:
                del self._rows[event.key]
                if row.large is not None:
                    self._graves[event.key, event.xid] = row.large
        else:
            kept = event.row if event.key[0] == CHANGING else None
            large = self._inherited(event) if row is None or event.large != OMITTED else row.large
            self._rows[event.key] = _Row(event.digest, large, event.balance, kept)
        if event.balance != had:
            self._move(event.xid, event.balance - had)

    def finish(self, tables: Iterable[tuple[str, Iterable[tuple[Any, ...]]]] | None) -> None:
        """Nothing more comes: compare. Args: tables: names and canonical rows; None = do not."""
        funded = next((xid for xid, money in self._surplus.items() if money == self._funds), None)
        for xid, money in self._surplus.items():
            if xid != funded:
                self._verdict.add("money", f"{money:+} after transaction {xid}")
        if self._funds and funded is None:
            self._verdict.add("money", f"nobody brought in {self._funds}")
        if tables is None:
            return
        for table, rows in tables:
            left = {key for key in self._rows if key[0] == table}
            for row in rows:
                key = (table, row[: KEY_WIDTH[table]])
                left.discard(key)
                self._compare(key, row)
            for key in left:
                self._verdict.add("replayed", f"{key} lives after all events, and is not in the table")

    def _compare(self, key: Key, wanted: Row) -> None:
        self._verdict.look("I6")
        row = self._rows.get(key)
        if row is None:
            self._verdict.add("replayed", f"{key} is in the table and does not live after all events")
            return
        digest, large = digests(key[0], wanted)
        if row.digest != digest and not (row.row is not None and _same_shape(row.row, wanted)):
            self._verdict.add("replayed", f"{key}: the row is another one in the table")
        elif self._paid(row.large) != large:
            self._verdict.add("replayed", f"{key}: the value out of line is another one in the table")

    def _inherited(self, event: Seen) -> _Large:
        if event.large == OMITTED and event.old_key is not None:
            return event.old_key, event.xid
        return event.large

    def _paid(self, large: _Large) -> int | None:
        while isinstance(large, tuple):
            large = self._graves.get(large, OMITTED)
        return large

    def _move(self, xid: int, money: int) -> None:
        surplus = self._surplus.get(xid, 0) + money
        if surplus:
            self._surplus[xid] = surplus
        else:
            self._surplus.pop(xid, None)


def _same_shape(left: Row, right: Row) -> bool:
    fixed = len(COLUMNS[CHANGING])
    ours, theirs = dict(left[fixed:]), dict(right[fixed:])
    return left[:fixed] == right[:fixed] and all(ours[name] == theirs[name] for name in ours.keys() & theirs.keys())


def tables_of(dsn: str) -> Iterator[tuple[str, Iterator[tuple[Any, ...]]]]:
    """Names and canonical rows of all published tables, as they are now."""
    with psycopg.connect(dsn) as connection:
        published = {row[0] for row in connection.execute("select tablename from pg_publication_tables").fetchall()}
        for table in COLUMNS:
            if table in published:
                yield table, _rows_of(connection, table)


def _rows_of(connection: psycopg.Connection[Any], table: str) -> Iterator[tuple[Any, ...]]:
    with connection.cursor(f"replay_{table}") as cursor:
        cursor.itersize = 5000
        cursor.execute(f"select * from {table}")
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        for values in cursor:
            yield canonical(table, values, names)
