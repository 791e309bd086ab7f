"""One seeded writer: transactions of 1 to 400 rows on the three tables, each change recorded with the row it left.

Every writer owns the keys it makes, so the order of their versions is the order of its own statements. One `hot` order
is shared by all writers and touched last in a transaction: its versions are ordered by customer_id, which every update
raises by one under the row's lock.
"""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from tests.ledger.outcomes import Level, Transaction
from tests.ledger.rows import (
    COLUMNS,
    KEY_WIDTH,
    OMITTED,
    OUT_OF_LINE,
    TYPES,
    Key,
    canonical,
    random_item,
    random_order,
    random_payment,
)

if TYPE_CHECKING:
    import psycopg

HOT_ORDER = 1
STRIDE = 10**12
"""Writer n uses order ids and tokens from n * STRIDE."""


class Plan:
    """What a writer mixes."""

    def __init__(
        self, *, max_rows: int = 400, key_changes: bool = True, rollbacks: float = 0.1, big: float = 0.01
    ) -> None:
        """Args: rollbacks: share of transactions rolled back; big: share of orders with a value out of line."""
        self.max_rows, self.key_changes, self.rollbacks, self.big = max_rows, key_changes, rollbacks, big


class _Alive:
    """Keys of one table that live after the last commit; picks one at random in constant time."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self._place: dict[Key, int] = {}

    def set(self, key: Key, alive: bool) -> None:
        if alive and key not in self._place:
            self._place[key] = len(self.keys)
            self.keys.append(key)
        elif not alive and key in self._place:
            place, last = self._place.pop(key), self.keys.pop()
            if last != key:
                self.keys[place] = last
                self._place[last] = place


class Writer:
    """Makes up and runs transactions, one at a time."""

    def __init__(self, number: int, seed: int, plan: Plan) -> None:
        self._rng = random.Random(f"{seed}/{number}")
        self._plan = plan
        self._next = number * STRIDE
        self._at = 0
        self._alive = {table: _Alive() for table in COLUMNS}
        self._graves: list[int] = []

    def run(self, connection: psycopg.Connection, transaction: Transaction) -> bool:
        """Run the statements of one transaction. Returns whether to commit it; the caller ends it."""
        row = connection.execute(
            "insert into workload_transactions values (%s) returning pg_current_xact_id()::text::numeric %% 4294967296",
            [transaction.token],
        ).fetchone()
        assert row is not None
        transaction.xid = int(row[0])
        wanted = self._size()
        while transaction.rows < wanted:
            left = wanted - transaction.rows
            if left > 3 and self._rng.random() < 0.1:
                self._savepoint(connection, transaction, left)
            else:
                self._change(connection, transaction, left)
        commit = self._rng.random() >= self._plan.rollbacks
        if commit and self._rng.random() < 0.1:
            self._touch_hot(connection, transaction)
        return commit

    def begin(self) -> Transaction:
        """A new transaction with a token of its own."""
        return Transaction(token=self._number())

    def settle(self, transaction: Transaction) -> None:
        """Take a committed transaction's keys over into what lives."""
        for key, alive in transaction.levels[0].alive.items():
            if key != ("orders", (HOT_ORDER,)):
                self._alive[key[0]].set(key, alive)

    def forget(self) -> None:
        """Never touch any key so far again: nobody knows how the last transaction ended."""
        self._alive = {table: _Alive() for table in COLUMNS}

    def _number(self) -> int:
        self._next += 1
        return self._next

    def _size(self) -> int:
        dice = self._rng.random()
        if dice < 0.55:
            return self._rng.randint(1, 5)
        if dice < 0.9:
            return self._rng.randint(5, max(5, min(80, self._plan.max_rows)))
        return self._rng.randint(1, self._plan.max_rows)

    def _savepoint(self, connection: psycopg.Connection, transaction: Transaction, left: int) -> None:
        keep = self._rng.random() < 0.5
        connection.execute("savepoint s")
        transaction.levels.append(Level())
        for _ in range(self._rng.randint(1, 3)):
            self._change(connection, transaction, max(1, left // 4))
        inner = transaction.levels.pop()
        if keep:
            connection.execute("release savepoint s")
            transaction.levels[-1].merge(inner)
        else:
            connection.execute("rollback to savepoint s")

    def _change(self, connection: psycopg.Connection, transaction: Transaction, left: int) -> None:
        dice = self._rng.random()
        count = self._rng.randint(1, min(left, 120))
        if dice < 0.30:
            self._insert(connection, transaction, "orders", [self._order() for _ in range(count)])
        elif dice < 0.50:
            order = self._number()
            rows = [random_item(self._rng, order, line, 1) for line in range(1, count + 1)]
            self._copy(connection, transaction, "order_items", rows)
        elif dice < 0.60:
            keys = [uuid.UUID(int=self._rng.getrandbits(128), version=4) for _ in range(count)]
            self._insert(connection, transaction, "payments", [random_payment(self._rng, k, self._next) for k in keys])
        elif dice < 0.85:
            self._update(connection, transaction, count)
        elif dice < 0.95 or not self._plan.key_changes:
            self._delete(connection, transaction, min(count, 10))
        else:
            self._change_key(connection, transaction)

    def _order(self) -> list[Any]:
        return random_order(self._rng, self._number(), 1, big=self._rng.random() < self._plan.big)

    def _insert(
        self, connection: psycopg.Connection, transaction: Transaction, table: str, rows: list[list[Any]]
    ) -> None:
        if self._rng.random() < 0.3:
            self._copy(connection, transaction, table, rows)
            return
        names = ", ".join(COLUMNS[table])
        holes = "(" + ", ".join(f"%s::{name}" for name in TYPES[table]) + ")"
        if table == "order_items":
            holes = holes[:-1] + "[])"
        values = [_adapted(value) for row in rows for value in row]
        sql = f"insert into {table} ({names}) values {', '.join([holes] * len(rows))} returning {names}"
        self._record(transaction, table, "c", connection.execute(sql, values).fetchall())

    def _copy(
        self, connection: psycopg.Connection, transaction: Transaction, table: str, rows: list[list[Any]]
    ) -> None:
        statement = f"copy {table} ({', '.join(COLUMNS[table])}) from stdin"
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row([_adapted(value) for value in row])
        self._record(transaction, table, "c", [tuple(row) for row in rows])

    def _pick(self, transaction: Transaction, table: str, count: int) -> list[Key]:
        keys = self._alive[table].keys
        fresh = [key for level in transaction.levels for key in level.alive if key[0] == table]
        found: dict[Key, None] = {}
        for _ in range(count if keys or fresh else 0):
            pool = fresh if fresh and (not keys or self._rng.random() < 0.2) else keys
            key = self._rng.choice(pool)
            if transaction.alive(key) is not False and key[1] != (HOT_ORDER,):
                found[key] = None
        return list(found)

    def _update(self, connection: psycopg.Connection, transaction: Transaction, count: int) -> None:
        table = self._rng.choice(("orders", "orders", "order_items", "payments"))
        keys = self._pick(transaction, table, count)
        if not keys:
            self._insert(connection, transaction, "orders", [self._order()])
            return
        change = {
            "orders": "customer_id = customer_id + 1, status = %s",
            "order_items": "qty = qty + 1, sku = %s",
            "payments": "amount = amount + 0.01, method = %s",
        }[table]
        word = self._rng.choice(("paid", "sent", "back"))
        names = ", ".join(COLUMNS[table])
        where, arguments = _where(table, keys)
        rows = connection.execute(f"update {table} t set {change} where {where} returning {names}", [word, *arguments])
        self._record(transaction, table, "u", rows.fetchall())

    def _touch_hot(self, connection: psycopg.Connection, transaction: Transaction) -> None:
        names = ", ".join(COLUMNS["orders"])
        sql = f"update orders set customer_id = customer_id + 1 where id = %s returning {names}"
        for row in connection.execute(sql, [HOT_ORDER]).fetchall():
            transaction.record(("orders", (HOT_ORDER,)), "u", canonical("orders", row), row[1])
            transaction.rows += 1

    def _delete(self, connection: psycopg.Connection, transaction: Transaction, count: int) -> None:
        table = self._rng.choice(tuple(COLUMNS))
        keys = self._pick(transaction, table, count)
        if not keys:
            self._insert(connection, transaction, "orders", [self._order()])
            return
        where, arguments = _where(table, keys)
        connection.execute(f"delete from {table} t where {where}", arguments)
        for key in keys:
            self._note(transaction, key, "d", None)
        if table == "orders" and self._rng.random() < 0.5:
            again = [random_order(self._rng, key[1][0], 1, big=False) for key in keys]
            self._insert(connection, transaction, "orders", again)

    def _change_key(self, connection: psycopg.Connection, transaction: Transaction) -> None:
        for old in self._pick(transaction, "orders", 1):
            names = ", ".join(COLUMNS["orders"])
            sql = f"update orders set id = %s, customer_id = customer_id + 1 where id = %s returning {names}"
            for row in connection.execute(sql, [self._number(), old[1][0]]).fetchall():
                self._note(transaction, old, "d", None)
                transaction.rows -= 1
                self._record(transaction, "orders", "c", [row], resent=False)

    def _record(
        self, transaction: Transaction, table: str, op: str, rows: list[tuple[Any, ...]], *, resent: bool = True
    ) -> None:
        for values in rows:
            row = canonical(table, values)
            if table == "orders" and (op == "u" or not resent) and len(row[4] or "") > OUT_OF_LINE:
                row = (*row[:4], OMITTED, *row[5:])
            self._note(transaction, (table, row[: KEY_WIDTH[table]]), op, row)

    def _note(self, transaction: Transaction, key: Key, op: str, row: Any) -> None:
        self._at += 1
        transaction.record(key, op, row, self._at)
        transaction.rows += 1


def _where(table: str, keys: list[Key]) -> tuple[str, list[Any]]:
    if table == "order_items":
        orders, lines = [key[1][0] for key in keys], [key[1][1] for key in keys]
        return "(order_id, line) in (select * from unnest(%s::bigint[], %s::int[]))", [orders, lines]
    return f"id = any(%s::{TYPES[table][0]}[])", [[key[1][0] for key in keys]]


def _adapted(value: Any) -> Any:
    if isinstance(value, dict):
        return Jsonb(value)
    return value
