"""The demo's live workload: orders, items and payments in PostgreSQL."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import TYPE_CHECKING, Self

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable

_TABLES = (
    "create table orders(id bigint primary key, customer_id bigint not null, status text not null default 'new',"
    " total numeric(12,2) not null, note text, created_at timestamptz not null default now(), updated_at timestamptz)",
    "create table order_items(order_id bigint not null, line int not null, sku varchar(40) not null,"
    " qty int not null default 1, price numeric, tags text[], primary key (order_id, line))",
    "create table payments(id uuid primary key default gen_random_uuid(), order_id bigint not null,"
    " amount numeric(12,2) not null, method text, paid_on date, detail jsonb)",
    "create publication orders_pub for table orders, order_items, payments",
)


class Shop:
    """A few customers who order, pay, change their mind and leave. Counts the Kafka records all that must become."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        for statement in _TABLES:
            self._connection.execute(statement)
        self._random = random.Random(1)  # noqa: S311 - no secret
        self._order = 0
        self.records = 0
        """Events and tombstones of committed transactions."""
        self.commits = 0

    def trade(self) -> None:
        """One transaction."""
        dice = self._random.random()
        if dice < 0.6 or self._order < 5:
            self._commit(self._new_order)
        elif dice < 0.85:
            self._commit(self._pay)
        elif dice < 0.93:
            self._commit(self._cancel)
        else:
            self._rolled_back()

    def _commit(self, work: Callable[[psycopg.Cursor], int]) -> None:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            records = work(cursor)
        self.records += records
        self.commits += 1

    def _new_order(self, cursor: psycopg.Cursor) -> int:
        self._order += 1
        lines = self._random.randint(1, 3)
        price = Decimal(self._random.randint(500, 9_000)).scaleb(-2)
        order = "insert into orders (id, customer_id, total, note) values (%s, %s, %s, %s)"
        cursor.execute(
            order, [self._order, self._random.randint(1, 50), price * lines, self._random.choice((None, "gift"))]
        )
        item = "insert into order_items (order_id, line, sku, price, tags) values (%s, %s, %s, %s, %s)"
        cursor.executemany(item, [[self._order, n, f"SKU-{n}", price, ["demo"]] for n in range(1, lines + 1)])
        return 1 + lines

    def _pay(self, cursor: psycopg.Cursor) -> int:
        number = self._random.randint(1, self._order)
        cursor.execute("update orders set status = 'paid', updated_at = now() where id = %s returning total", [number])
        row = cursor.fetchone()
        if row is None:
            return 0
        payment = "insert into payments (order_id, amount, method, paid_on, detail) values (%s, %s, 'card', now(), %s)"
        cursor.execute(payment, [number, row[0], json.dumps({"terminal": number % 7})])
        return 2

    def _cancel(self, cursor: psycopg.Cursor) -> int:
        number = self._random.randint(1, self._order)
        items = cursor.execute("delete from order_items where order_id = %s", [number]).rowcount
        orders = cursor.execute("delete from orders where id = %s", [number]).rowcount
        # A delete is followed by a tombstone for compacted topics.
        return 2 * (items + orders)

    def _rolled_back(self) -> None:
        with self._connection.transaction(force_rollback=True):
            self._connection.execute("update orders set note = 'nobody must ever read this'")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
