"""What writers did to the tables, and what of it a consumer must therefore see.

A writer fills one `Transaction` per database transaction and hands it over with its outcome: committed, rolled back, or
unknown because the connection broke during COMMIT. Rows of `workload_transactions`, written by every transaction,
decide the unknown ones at the end.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.ledger.rows import Key, Row


class Version(NamedTuple):
    """One event that a consumer must see of a key: c, u or d, and the row after it (None for d)."""

    op: str
    row: Row | None
    xid: int
    at: int
    """Orders the versions of one key."""


@dataclass(frozen=True)
class Expected:
    """Everything a consumer must see and must not see."""

    versions: dict[Key, list[Version]]
    """Per key, in order."""
    transactions: dict[int, int]
    """Committed transaction id (as 32-bit number, as on the stream) -> number of its events with a value."""
    undone: frozenset[int]
    """Ids of transactions that were rolled back."""

    @property
    def events(self) -> int:
        """Records with a value."""
        return sum(self.transactions.values())

    @property
    def tombstones(self) -> int:
        """Records without a value: one after each delete."""
        return sum(version.op == "d" for versions in self.versions.values() for version in versions)


class Level:
    """The changes of one (sub)transaction: events, and which keys it brought or removed."""

    def __init__(self) -> None:
        self.events: list[tuple[Key, str, Row | None, int]] = []
        self.alive: dict[Key, bool] = {}

    def merge(self, inner: Level) -> None:
        """Take over what a released savepoint did."""
        self.events += inner.events
        self.alive |= inner.alive


@dataclass
class Transaction:
    """One database transaction of a writer while it runs."""

    token: int
    xid: int = 0
    rows: int = 0
    """Row changes it made, undone ones included."""
    levels: list[Level] = field(default_factory=lambda: [Level()])

    def record(self, key: Key, op: str, row: Row | None, at: int) -> None:
        """Note one change at the innermost level."""
        self.levels[-1].events.append((key, op, row, at))
        self.levels[-1].alive[key] = op != "d"

    def alive(self, key: Key) -> bool | None:
        """Whether the key lives as this transaction sees it; None = this transaction did not touch it."""
        for level in reversed(self.levels):
            if key in level.alive:
                return level.alive[key]
        return None


class Ledger:
    """Collects the transactions of all writers. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._committed: list[Transaction] = []
        self._unknown: list[Transaction] = []
        self._undone: list[int] = []
        self.events = 0
        """Events of committed transactions so far, key changes counted as two."""
        self.rows = 0
        """Row changes tried so far, rolled back ones included."""

    def committed(self, transaction: Transaction) -> None:
        """COMMIT succeeded."""
        with self._lock:
            self._committed.append(transaction)
            self.events += len(transaction.levels[0].events)
            self.rows += transaction.rows

    def undone(self, transaction: Transaction) -> None:
        """ROLLBACK, or an error before COMMIT was sent."""
        with self._lock:
            self.rows += transaction.rows
            if transaction.xid:
                self._undone.append(transaction.xid)

    def unknown(self, transaction: Transaction) -> None:
        """The connection broke while COMMIT was under way."""
        with self._lock:
            self._unknown.append(transaction)

    def expected(self, dsn: str) -> Expected:
        """The verdict's other half. Asks the database how the unknown transactions ended."""
        with self._lock:
            kept, undone = list(self._committed), set(self._undone)
            if self._unknown:
                survivors = _tokens(dsn, [transaction.token for transaction in self._unknown])
                kept += [transaction for transaction in self._unknown if transaction.token in survivors]
                undone |= {transaction.xid for transaction in self._unknown if transaction.token not in survivors}
        return collect(kept, undone)


def collect(transactions: Iterable[Transaction], undone: Iterable[int] = ()) -> Expected:
    """Sort the changes of committed transactions by key."""
    versions: dict[Key, list[Version]] = {}
    counts: dict[int, int] = {}
    for transaction in transactions:
        for key, op, row, at in transaction.levels[0].events:
            versions.setdefault(key, []).append(Version(op, row, transaction.xid, at))
        if transaction.levels[0].events:
            counts[transaction.xid] = len(transaction.levels[0].events)
    for list_ in versions.values():
        list_.sort(key=lambda version: version.at)
    return Expected(versions, counts, frozenset(undone))


def _tokens(dsn: str, wanted: list[int]) -> set[int]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("select token from workload_transactions where token = any(%s)", [wanted]).fetchall()
    return {row[0] for row in rows}
