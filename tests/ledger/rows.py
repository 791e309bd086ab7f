"""The tables: their SQL, random rows, and the one form in which rows are compared.

Beside the three tables of the example pipeline there are, for those who want everything: `accounts`, between which
money is moved and never made; `transfers`, one row a transaction; `shapes`, whose columns change under its writers.

A row is compared as a tuple of plain values, column by column: numbers as Decimal, timestamps as microseconds since
1970, dates as days, binary as bytes. What PostgreSQL returned to the writer and what a consumer decoded from a topic
must come to the same tuple. `OMITTED` stands for a value that the server did not send again (out-of-line, unchanged).
Whoever has to remember many rows keeps their `digests`.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

Row: TypeAlias = tuple[Any, ...]
Key: TypeAlias = tuple[str, Row]
"""Table and primary key."""

SCHEMA = """
create table orders(id bigint primary key, customer_id bigint not null, status text not null default 'new',
  total numeric(12,2) not null, note text, created_at timestamptz not null, updated_at timestamptz,
  gift boolean default false);
create table order_items(order_id bigint not null, line int not null, sku varchar(40) not null,
  qty int not null default 1, price numeric, tags text[], primary key(order_id,line));
create table payments(id uuid primary key, order_id bigint not null, amount numeric(12,2) not null, method char(8),
  paid_on date, detail jsonb, raw bytea);
create table workload_transactions(token bigint primary key);
"""
LEDGER_SCHEMA = """
create table accounts(id bigint primary key, ver bigint not null, balance bigint not null, memo text);
create table transfers(writer int not null, wseq bigint not null, debit bigint not null, credit bigint not null,
  amount bigint not null, primary key(writer, wseq));
create table shapes(id bigint primary key, ver bigint not null);
"""

COLUMNS = {
    "orders": ("id", "customer_id", "status", "total", "note", "created_at", "updated_at", "gift"),
    "order_items": ("order_id", "line", "sku", "qty", "price", "tags"),
    "payments": ("id", "order_id", "amount", "method", "paid_on", "detail", "raw"),
    "accounts": ("id", "ver", "balance", "memo"),
    "transfers": ("writer", "wseq", "debit", "credit", "amount"),
    "shapes": ("id", "ver"),
}
KEY_WIDTH = {"orders": 1, "order_items": 2, "payments": 1, "accounts": 1, "transfers": 2, "shapes": 1}
TYPES = {
    "orders": ("bigint", "bigint", "text", "numeric", "text", "timestamptz", "timestamptz", "boolean"),
    "order_items": ("bigint", "int", "text", "int", "numeric", "text"),
    "payments": ("uuid", "bigint", "numeric", "text", "date", "jsonb", "bytea"),
    "accounts": ("bigint", "bigint", "bigint", "text"),
    "transfers": ("int", "bigint", "bigint", "bigint", "bigint"),
    "shapes": ("bigint", "bigint"),
}
EXAMPLE = ("orders", "order_items", "payments")
LEDGER = ("accounts", "transfers", "shapes")
CHANGING = "shapes"
"""The table whose further columns come, go and are renamed; in its rows each of those is a pair of name and value."""
LARGE = {"orders": 4, "accounts": 3}
"""Tables with a value that may lie outside of the row, and its place."""
BALANCE = 2
_PRICE = 4
OMITTED = "<not sent again>"
OUT_OF_LINE = 4000
"""Incompressible text longer than this is stored outside the row by PostgreSQL."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TEXTS = ("", "plain", 'quote" and \\ back', "tab\tline\nend", "€ ñ 漢字 😀", "NULL", "\\N", "null", "{}", "\x01\x7f")


def schema_statements(*, ledger: bool = False) -> list[str]:
    """What creates the tables and the publication `orders_pub`, one statement each."""
    schema = SCHEMA + (LEDGER_SCHEMA if ledger else "")
    published = ", ".join(EXAMPLE + (LEDGER if ledger else ()))
    statements = [statement.strip() for statement in schema.split(";") if statement.strip()]
    return [*statements, f"create publication orders_pub for table {published}"]


def canonical(table: str, values: Sequence[Any], names: Iterable[str] | None = None) -> Row:
    """The comparable form of a row as psycopg returned it, or as the writer built it.

    Args: names: of all columns, for the table whose columns change.
    """
    plain = tuple(map(_plain, values))
    if table == "orders" and plain[-1] is None:
        # Kafka Connect's converter writes a NULL as the column's default where there is one.
        return (*plain[:-1], False)
    if table == "order_items" and plain[_PRICE] is not None:
        # Debezium writes a number of free scale without the zeros at its end.
        return (*plain[:_PRICE], plain[_PRICE].normalize(), *plain[_PRICE + 1 :])
    if table == CHANGING and names is not None:
        fixed = len(COLUMNS[CHANGING])
        return (*plain[:fixed], *zip(list(names)[fixed:], plain[fixed:], strict=True))
    return plain


def digests(table: str, row: Row | None) -> tuple[int, int | None]:
    """What to remember of a row: all of it but the large value, and that one (None = NULL, 0 = `OMITTED`)."""
    if row is None:
        return 0, None
    at = LARGE.get(table)
    if at is None:
        return _digest(row), None
    large = row[at]
    if large is not None:
        large = 0 if large == OMITTED else _digest(large) | 1
    return _digest((*row[:at], *row[at + 1 :])), large


def _digest(value: Any) -> int:
    # The representation tells 1, True and Decimal("1.0") apart, which are equal.
    return int.from_bytes(blake2b(repr(value).encode(), digest_size=8).digest(), "big")


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return (value - _EPOCH) // dt.timedelta(microseconds=1)
    if isinstance(value, dt.date):
        return value.toordinal() - _EPOCH.toordinal()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return value


def random_order(rng: random.Random, key: int, version: int, *, big: bool) -> list[Any]:
    """One row of `orders`; `version` goes into customer_id. `big`: with a note stored outside the row."""
    note = rng.randbytes(OUT_OF_LINE).hex() if big else rng.choice((None, *_TEXTS)) if rng.random() < 0.5 else "n"
    created = _EPOCH + dt.timedelta(microseconds=rng.randrange(0, 4_000_000_000_000_000))
    updated = None if rng.random() < 0.5 else created.replace(microsecond=0)
    gift = rng.choice((None, True, False))
    return [key, version, rng.choice(("new", "paid", "sent")), _money(rng), note, created, updated, gift]


def random_item(rng: random.Random, order: int, line: int, version: int) -> list[Any]:
    """One row of `order_items`; `version` goes into qty."""
    tags = rng.choice((None, [], ["a"], ["x y", None, 'q"\\', "€"]))
    price = rng.choice((None, Decimal(rng.randrange(-(10**9), 10**9)).scaleb(-rng.randrange(0, 9))))
    return [order, line, f"SKU-{rng.randrange(10**6)}", version, price, tags]


def random_payment(rng: random.Random, key: uuid.UUID, order: int) -> list[Any]:
    """One row of `payments`."""
    detail = rng.choice((None, {"a": rng.randrange(9), "t": rng.choice(_TEXTS[:6])}, {"list": [1, None, {"x": True}]}))
    paid = rng.choice((None, dt.date(1970, 1, 1) + dt.timedelta(days=rng.randrange(-3000, 30000))))
    raw = None if rng.random() < 0.5 else rng.randbytes(rng.randrange(0, 20))
    return [key, order, _money(rng), rng.choice((None, "card    ", "transfer")), paid, detail, raw]


def _money(rng: random.Random) -> Decimal:
    return Decimal(rng.randrange(-(10**9), 10**11)).scaleb(-2)
