"""Changes of the example's three tables. Every writer owns the keys it makes: their versions are in its own order."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from tests.ledger.rows import COLUMNS, EXAMPLE, KEY_WIDTH, TYPES, random_item, random_order, random_payment

if TYPE_CHECKING:
    from tests.ledger.rows import Key
    from tests.ledger.turn import Turn

HOT_ORDER = 1
"""One order is shared by all writers and touched last in a transaction: its versions are ordered by customer_id, which
every update raises by one under the row's lock."""


def change(turn: Turn, left: int, *, big: float, key_changes: bool, together: int) -> None:
    """One statement, or few, of at most `left` rows and about `together` in one statement."""
    dice, rng = turn.rng.random(), turn.rng
    count = rng.randint(1, min(left, together))
    if dice < 0.6:
        add(turn, count, dice, big=big)
    elif dice < 0.85:
        _update(turn, count, big)
    elif dice < 0.95 or not key_changes:
        _delete(turn, min(count, 10), big)
    else:
        _change_key(turn)


def add(turn: Turn, count: int, dice: float, *, big: float) -> None:
    """New rows only. Args: dice: 0 to 0.6, chooses the table."""
    rng = turn.rng
    if dice < 0.30:
        _insert(turn, "orders", [_order(turn, big) for _ in range(count)])
    elif dice < 0.50:
        order = turn.number()
        _copy(turn, "order_items", [random_item(rng, order, line, 1) for line in range(1, count + 1)])
    else:
        keys = [uuid.UUID(int=rng.getrandbits(128), version=4) for _ in range(count)]
        _insert(turn, "payments", [random_payment(rng, key, turn.number()) for key in keys])


def touch_hot(turn: Turn) -> None:
    """Touch the order that everybody touches; nothing may be locked after it."""
    sql = f"update orders set customer_id = customer_id + 1 where id = %s returning {_names('orders')}"
    for row in turn.execute(sql, [HOT_ORDER]).fetchall():
        turn.record("orders", "u", [row], at=row[1])


def _names(table: str) -> str:
    return ", ".join(COLUMNS[table])


def _order(turn: Turn, big: float) -> list[Any]:
    key = turn.dead("orders")
    return random_order(turn.rng, key[1][0] if key else turn.number(), 1, big=turn.rng.random() < big)


def _insert(turn: Turn, table: str, rows: list[list[Any]]) -> None:
    if turn.rng.random() < 0.3:
        _copy(turn, table, rows)
        return
    holes = "(" + ", ".join(f"%s::{name}" for name in TYPES[table]) + ")"
    values = [_adapted(value) for row in rows for value in row]
    sql = f"insert into {table} ({_names(table)}) values {', '.join([holes] * len(rows))} returning {_names(table)}"
    turn.record(table, "c", turn.execute(sql, values).fetchall())


def _copy(turn: Turn, table: str, rows: list[list[Any]]) -> None:
    with turn.connection.cursor() as cursor, cursor.copy(f"copy {table} ({_names(table)}) from stdin") as copy:
        for row in rows:
            copy.write_row([_adapted(value) for value in row])
    turn.record(table, "c", rows)


def _update(turn: Turn, count: int, big: float) -> None:
    table = turn.rng.choice(("orders", "orders", "order_items", "payments"))
    keys = _pick(turn, table, count)
    if not keys:
        _insert(turn, "orders", [_order(turn, big)])
        return
    what = {
        "orders": "customer_id = customer_id + 1, status = %s",
        "order_items": "qty = qty + 1, sku = %s",
        "payments": "amount = amount + 0.01, method = %s",
    }[table]
    word = turn.rng.choice(("paid", "sent", "back"))
    where, arguments = _where(table, keys)
    sql = f"update {table} t set {what} where {where} returning {_names(table)}"
    turn.record(table, "u", turn.execute(sql, [word, *arguments]).fetchall(), sent=False)


def _delete(turn: Turn, count: int, big: float) -> None:
    table = turn.rng.choice(EXAMPLE)
    keys = _pick(turn, table, count)
    if not keys:
        _insert(turn, "orders", [_order(turn, big)])
        return
    where, arguments = _where(table, keys)
    named = ", ".join(COLUMNS[table][: KEY_WIDTH[table]])
    rows = turn.execute(f"delete from {table} t where {where} returning {named}", arguments).fetchall()
    turn.deleted((table, tuple(str(value) if table == "payments" else value for value in row)) for row in rows)
    if table == "orders" and turn.rng.random() < 0.5:
        _insert(turn, "orders", [random_order(turn.rng, key[1][0], 1, big=False) for key in keys])


def _change_key(turn: Turn) -> None:
    for old in _pick(turn, "orders", 1):
        if turn.transaction.alive(old) is not None:
            # Whoever puts large values back together must be able to tell which old row the new one came from.
            continue
        sql = f"update orders set id = %s, customer_id = customer_id + 1 where id = %s returning {_names('orders')}"
        for row in turn.execute(sql, [turn.number(), old[1][0]]).fetchall():
            turn.deleted([old])
            turn.record("orders", "c", [row], sent=False, joined=True)


def _pick(turn: Turn, table: str, count: int) -> list[Key]:
    return [key for key in turn.pick(table, count) if key[1] != (HOT_ORDER,)]


def _where(table: str, keys: list[Key]) -> tuple[str, list[Any]]:
    if table == "order_items":
        orders, lines = [key[1][0] for key in keys], [key[1][1] for key in keys]
        return "(order_id, line) in (select * from unnest(%s::bigint[], %s::int[]))", [orders, lines]
    return f"id = any(%s::{TYPES[table][0]}[])", [[key[1][0] for key in keys]]


def _adapted(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, dict) else value
