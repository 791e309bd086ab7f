"""A table whose columns are added, dropped and renamed while all writers write to it.

Whoever writes takes a lock that keeps the columns as they are for the rest of the transaction, then looks which there
are. Further columns are `extra_NUMBER_t` (text) and `extra_NUMBER_i` (integer), without defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.ledger.rows import COLUMNS

if TYPE_CHECKING:
    from tests.ledger.turn import Turn

MOST = 6
"""Further columns at one time."""
_COLUMNS = """select attname::text from pg_attribute
  where attrelid = 'shapes'::regclass and attnum > 0 and not attisdropped order by attnum"""


def write(turn: Turn) -> None:
    """A few rows with the columns there are."""
    turn.execute("lock table shapes in row exclusive mode")
    _rows(turn)


def reshape(turn: Turn) -> None:
    """Change the columns between rows that are written, in or out of a savepoint.

    Nothing of `shapes` may be locked yet, or two writers could wait for each other.
    """
    # A prepared transaction may hold the table, and its owner be waiting behind us.
    turn.execute("set local lock_timeout = '1s'")
    turn.execute("lock table shapes in access exclusive mode")
    _rows(turn)
    if turn.rng.random() < 0.3:
        with turn.savepoint():
            _alter(turn)
            _rows(turn)
    else:
        _alter(turn)
    _rows(turn)
    turn.execute("set local lock_timeout = default")


def _alter(turn: Turn) -> None:
    extra = _extra(turn)
    dice, rng = turn.rng.random(), turn.rng
    fresh = f"extra_{turn.number()}_"
    if len(extra) >= MOST or (extra and dice < 0.3):
        turn.execute(f"alter table shapes drop column {rng.choice(extra)}")
    elif extra and dice < 0.55:
        old = rng.choice(extra)
        turn.execute(f"alter table shapes rename column {old} to {fresh}{old[-1]}")
    else:
        kind = rng.choice("ti")
        turn.execute(f"alter table shapes add column {fresh}{kind} {'text' if kind == 't' else 'integer'}")


def _extra(turn: Turn) -> list[str]:
    names = [row[0] for row in turn.execute(_COLUMNS).fetchall()]
    return names[len(COLUMNS["shapes"]) :]


def _rows(turn: Turn) -> None:
    rng, extra = turn.rng, _extra(turn)
    for _ in range(rng.randint(1, 4)):
        known = turn.pick("shapes", 1)
        if not known or rng.random() < 0.4:
            names, values = ["id", "ver", *extra], [turn.number(), 1, *_values(turn, extra)]
            holes = ", ".join(["%s"] * len(values))
            _record(turn, "c", f"insert into shapes ({', '.join(names)}) values ({holes}) returning *", values)
        elif rng.random() < 0.85:
            some = [name for name in extra if rng.random() < 0.5]
            sets = ", ".join(["ver = ver + 1", *(f"{name} = %s" for name in some)])
            sql = f"update shapes set {sets} where id = %s returning *"
            _record(turn, "u", sql, [*_values(turn, some), known[0][1][0]])
        else:
            turn.execute("delete from shapes where id = %s", [known[0][1][0]])
            turn.deleted(known)


def _values(turn: Turn, names: list[str]) -> list[Any]:
    rng = turn.rng
    return [rng.choice((None, "", "text €", "null")) if name[-1] == "t" else rng.randrange(-9, 9) for name in names]


def _record(turn: Turn, op: str, sql: str, values: list[Any]) -> None:
    found = turn.execute(sql, values, prepare=False)
    assert found.description is not None
    turn.record("shapes", op, found.fetchall(), names=[column.name for column in found.description])
