"""One transaction under way, and what its writer keeps between transactions. The parts of a writer work with both.

Numbers come from blocks: transaction t of writer w has `BLOCK` of its own, so that the same decisions make the same
keys, whatever became of the transactions before.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from tests.ledger.outcomes import Level
from tests.ledger.rows import COLUMNS, KEY_WIDTH, LARGE, OMITTED, OUT_OF_LINE, canonical

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator, Sequence

    from tests.ledger.outcomes import Transaction
    from tests.ledger.rows import Key

STRIDE = 10**12
"""Writer n uses keys and tokens from n * STRIDE; its transaction t the token n * STRIDE + t."""
BLOCK = 100_000
"""Numbers for each transaction."""


class Alive:
    """Keys of one table that live after the last commit; picks one at random in constant time."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self._place: dict[Key, int] = {}

    def set(self, key: Key, alive: bool) -> None:
        """Note whether a key lives."""
        if alive and key not in self._place:
            self._place[key] = len(self.keys)
            self.keys.append(key)
        elif not alive and key in self._place:
            place, last = self._place.pop(key), self.keys.pop()
            if last != key:
                self.keys[place] = last
                self._place[last] = place


class Desk:
    """What a writer keeps between transactions: the keys it owns, the living and those of deleted rows."""

    def __init__(self) -> None:
        self.alive = {table: Alive() for table in COLUMNS}
        self.dead = {table: Alive() for table in COLUMNS}

    def settle(self, transaction: Transaction, shared: Iterable[Key]) -> None:
        """Take a committed transaction's keys over; shared ones belong to nobody."""
        for key, alive in transaction.levels[0].alive.items():
            if key not in shared:
                self.alive[key[0]].set(key, alive)
                self.dead[key[0]].set(key, not alive)


@dataclass
class Turn:
    """One transaction: its connection, its dice, and the record of what it does."""

    connection: psycopg.Connection[Any]
    transaction: Transaction
    rng: random.Random
    desk: Desk
    first: int
    """Its first number."""
    _used: int = field(default=0, init=False)
    _revived: set[Key] = field(default_factory=set, init=False)

    def number(self) -> int:
        """A number nobody else has: for keys, and for the order of what one writer does."""
        self._used += 1
        assert self._used < BLOCK
        return self.first + self._used

    def execute(self, sql: str, arguments: Sequence[Any] = (), *, prepare: bool | None = None) -> psycopg.Cursor[Any]:
        """Run one statement. `prepare=False`: never as a prepared one, whose result type must not change."""
        return self.connection.execute(sql, arguments, prepare=prepare)

    def record(
        self,
        table: str,
        op: str,
        rows: Iterable[Sequence[Any]],
        *,
        names: Sequence[str] | None = None,
        sent: bool = True,
        at: int | None = None,
        joined: bool = False,
    ) -> None:
        """Note inserts or updates by the rows they left.

        Args:
          names: of the columns, where they change.
          sent: whether PostgreSQL sends values that lie outside of the row, which it does when they are new.
          at: orders the versions of a key that several writers touch.
          joined: the change has been counted already.
        """
        large = LARGE.get(table)
        for values in rows:
            row = canonical(table, values, names)
            if large is not None and not sent and len(row[large] or "") > OUT_OF_LINE:
                row = (*row[:large], OMITTED, *row[large + 1 :])
            key = (table, row[: KEY_WIDTH[table]])
            self.transaction.record(key, op, row, self.number() if at is None else at, joined=joined)
            self.transaction.rows += not joined

    def deleted(self, keys: Iterable[Key]) -> None:
        """Note deletes, in the order in which they happened."""
        for key in keys:
            self.transaction.record(key, "d", None, self.number())
            self.transaction.rows += 1

    def pick(self, table: str, count: int) -> list[Key]:
        """At most so many living keys of this writer, some of them made by this very transaction."""
        keys = self.desk.alive[table].keys
        fresh = [key for level in self.transaction.levels for key in level.alive if key[0] == table]
        found: dict[Key, None] = {}
        for _ in range(count if keys or fresh else 0):
            pool = fresh if fresh and (not keys or self.rng.random() < 0.2) else keys
            key = self.rng.choice(pool)
            if self.transaction.alive(key) is not False:
                found[key] = None
        return list(found)

    def dead(self, table: str) -> Key | None:
        """The key of a row that an earlier transaction deleted, to be used again; seldom."""
        keys = self.desk.dead[table].keys
        if not keys or self.rng.random() > 0.05:
            return None
        key = self.rng.choice(keys)
        if key in self._revived or self.transaction.alive(key) is not None:
            return None
        self._revived.add(key)
        return key

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A savepoint around what is done inside; by the dice it is released, rolled back, or ends with an error."""
        dice, name = self.rng.random(), f"s{len(self.transaction.levels)}"
        self.execute(f"savepoint {name}")
        self.transaction.levels.append(Level())
        yield
        if dice < 0.5:
            self.execute(f"release savepoint {name}")
            self.transaction.release()
            return
        if dice > 0.9:
            self._fail()
        self.execute(f"rollback to savepoint {name}")
        self.transaction.withdraw()

    def _fail(self) -> None:
        try:
            self.execute("select 1/0")
        except psycopg.errors.DivisionByZero:
            return
        raise AssertionError("a division by zero passed")
