"""What writers did to the tables, and what of it a consumer must therefore see.

A writer fills one `Transaction` per database transaction and hands it over with its outcome: committed, rolled back, or
unknown because the connection broke during COMMIT. Each transaction writes a row that only it writes, its token; the
tokens that the tables hold at the end decide the unknown ones.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from tests.ledger.rows import digests

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.ledger.rows import Key, Row


class Version(NamedTuple):
    """One event that a consumer must see of a key: c, u or d, and the digests of the row after it."""

    op: str
    digest: int
    large: int | None
    xid: int
    at: int
    """Orders the versions of one key."""
    number: int = -1
    """Number of the change in its transaction, undone changes not counted; both events of a changed key have one."""


class Extent(NamedTuple):
    """How much a committed transaction amounts to."""

    events: int
    """Records with a value."""
    changes: int


@dataclass(frozen=True)
class Expected:
    """Everything a consumer must see and must not see."""

    versions: dict[Key, list[Version]]
    """Per key, in order."""
    transactions: dict[int, Extent]
    """By committed transaction id (as 32-bit number, as on the stream)."""
    undone: frozenset[int] = frozenset()
    """Ids of transactions that were rolled back."""
    withdrawn: frozenset[int] = frozenset()
    """Digests of rows that only a rolled back savepoint had."""
    funds: int = 0
    """Money that was brought in, once, by the transaction that opened the shared accounts."""
    vanished: frozenset[int] = frozenset()
    """Transactions whose COMMIT succeeded but whose token PostgreSQL no longer has."""

    @property
    def events(self) -> int:
        """Records with a value."""
        return sum(extent.events for extent in self.transactions.values())

    @property
    def tombstones(self) -> int:
        """Records without a value: one after each delete."""
        return sum(version.op == "d" for versions in self.versions.values() for version in versions)


class Event(NamedTuple):
    """One event of a transaction under way."""

    key: Key
    op: str
    digest: int
    large: int | None
    at: int
    joined: bool
    """Belongs to the change of the event before it."""


class Level:
    """The changes of one (sub)transaction: events, and which keys it brought or removed."""

    def __init__(self) -> None:
        self.events: list[Event] = []
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
    withdrawn: list[int] = field(default_factory=list)

    def record(self, key: Key, op: str, row: Row | None, at: int, *, joined: bool = False) -> None:
        """Note one event at the innermost level. `joined`: the change of the event before it has two events."""
        self.levels[-1].events.append(Event(key, op, *digests(key[0], row), at, joined))
        self.levels[-1].alive[key] = op != "d"

    def release(self) -> None:
        """The innermost savepoint was released."""
        inner = self.levels.pop()
        self.levels[-1].merge(inner)

    def withdraw(self) -> None:
        """The innermost savepoint was rolled back."""
        self.withdrawn += [event.digest for event in self.levels.pop().events if event.op != "d"]

    def alive(self, key: Key) -> bool | None:
        """Whether the key lives as this transaction sees it; None = this transaction did not touch it."""
        for level in reversed(self.levels):
            if key in level.alive:
                return level.alive[key]
        return None


class Ledger:
    """Collects the transactions of all writers. Thread-safe."""

    def __init__(self, tokens: str = "select token from workload_transactions") -> None:
        """`tokens`: the query for the tokens of all transactions that PostgreSQL knows of."""
        self._tokens = tokens
        self._lock = threading.Lock()
        self._committed: list[Transaction] = []
        self._unknown: list[Transaction] = []
        self._undone: list[int] = []
        self.funds = 0
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
        """The verdict's other half. Asks the database which transactions it knows of."""
        with psycopg.connect(dsn) as connection:
            survivors = {row[0] for row in connection.execute(self._tokens).fetchall()}
        with self._lock:
            kept = [each for each in (*self._committed, *self._unknown) if each.token in survivors]
            undone = set(self._undone) | {each.xid for each in self._unknown if each.token not in survivors}
            vanished = {each.xid for each in self._committed if each.token not in survivors}
        return collect(kept, undone, vanished, funds=self.funds)


def collect(
    transactions: Iterable[Transaction], undone: Iterable[int] = (), vanished: Iterable[int] = (), *, funds: int = 0
) -> Expected:
    """Sort the changes of committed transactions by key."""
    versions: dict[Key, list[Version]] = {}
    extents: dict[int, Extent] = {}
    withdrawn: set[int] = set()
    for transaction in transactions:
        xid, index = transaction.xid, -1
        for key, op, digest, large, at, joined in transaction.levels[0].events:
            index += not joined
            versions.setdefault(key, []).append(Version(op, digest, large, xid, at, index))
        if index >= 0:
            extents[xid] = Extent(len(transaction.levels[0].events), index + 1)
        withdrawn.update(transaction.withdrawn)
    for list_ in versions.values():
        list_.sort(key=lambda version: version.at)
    return Expected(versions, extents, frozenset(undone), frozenset(withdrawn), funds, frozenset(vanished))
