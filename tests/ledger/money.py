"""Accounts, between which money is moved and never made, and one row of `transfers` for each transaction.

Some accounts are shared by all writers. Whoever wants some of them locks those first, in the order of their ids, and
takes no other account for the rest of the transaction: so nobody waits in a circle. Every touch raises `ver` by one,
which orders the versions of shared accounts; a row that is inserted again under its old key goes on counting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.ledger.rows import BALANCE, OUT_OF_LINE
from tests.ledger.turn import STRIDE

if TYPE_CHECKING:
    import psycopg

    from tests.ledger.outcomes import Expected, Transaction
    from tests.ledger.rows import Key
    from tests.ledger.turn import Turn

SHARED = tuple(range(1, 9))
OPENING = 1_000_000
TOKENS = f"select writer * {STRIDE}::bigint + wseq from transfers"
_ALL = "id, ver, balance, memo"


def shared_keys() -> set[Key]:
    """The accounts that belong to no writer."""
    return {("accounts", (number,)) for number in SHARED}


def open_shared(connection: psycopg.Connection[Any], transaction: Transaction) -> int:
    """Make the shared accounts. Returns the money they hold."""
    sql = f"insert into accounts select n, 1, {OPENING} from generate_series(1, {len(SHARED)}) n returning {_ALL}"
    for row in connection.execute(sql).fetchall():
        transaction.record(("accounts", (row[0],)), "c", tuple(row), row[1])
        transaction.rows += 1
    return OPENING * len(SHARED)


def write_transfer(turn: Turn) -> int:
    """The transaction's own row, its token. Returns the transaction's id."""
    writer, wseq = divmod(turn.transaction.token, STRIDE)
    rng = turn.rng
    row = (writer, wseq, rng.choice(SHARED), rng.choice(SHARED), rng.randrange(1, 500))
    sql = (
        "insert into transfers (writer, wseq, debit, credit, amount) values (%s, %s, %s, %s, %s) "
        "returning pg_current_xact_id()::text::numeric %% 4294967296"
    )
    found = turn.execute(sql, row).fetchone()
    assert found is not None
    turn.record("transfers", "c", [row])
    return int(found[0])


def move(turn: Turn) -> None:
    """Some changes of accounts, in and out of savepoints. What it locks is the last but the hot order to be locked."""
    rng = turn.rng
    shared = sorted(rng.sample(SHARED, rng.choice((0, 1, 2, 3))))
    if shared:
        turn.execute("select 1 from accounts where id = any(%s) order by id for update", [shared])
    for _ in range(rng.randint(1, 4)):
        if rng.random() < 0.2:
            with turn.savepoint():
                _one(turn, shared)
        else:
            _one(turn, shared)


def check(expected: Expected) -> None:
    """The ledger itself: no touch of a shared account is missing in it. Raises AssertionError."""
    for key in shared_keys():
        touches = [version.at for version in expected.versions.get(key, [])]
        assert touches == list(range(1, len(touches) + 1)), f"the ledger of {key} has gaps: {touches}"


def _one(turn: Turn, shared: list[int]) -> None:
    private = [key[1][0] for key in turn.pick("accounts", 3) if key[1][0] not in SHARED]
    dice, rng = turn.rng.random(), turn.rng
    if not private or dice < 0.12:
        _open(turn, shared)
    elif dice < 0.62 and len(shared) + len(private) > 1:
        _transfer(turn, rng.sample([*shared, *private], 2))
    elif dice < 0.76:
        _touch(turn, rng.choice([*shared, *private]))
    elif dice < 0.84 and shared:
        _close(turn, private[0], rng.choice(shared))
    elif dice < 0.92:
        _again(turn, private[0])
    else:
        _change_key(turn, private[0])


def _memo(turn: Turn) -> str | None:
    rng = turn.rng
    return rng.choice((None, "", "memo", rng.randbytes(OUT_OF_LINE).hex()))


def _insert(turn: Turn, number: int, ver: int, balance: int, memo: str | None) -> None:
    sql = f"insert into accounts ({_ALL}) values (%s, %s, %s, %s) returning {_ALL}"
    turn.record("accounts", "c", turn.execute(sql, [number, ver, balance, memo]).fetchall())


def _open(turn: Turn, shared: list[int]) -> None:
    number = turn.number()
    _insert(turn, number, 1, 0, _memo(turn))
    if shared:
        _transfer(turn, [turn.rng.choice(shared), number])


def _transfer(turn: Turn, accounts: list[int]) -> None:
    amount = turn.rng.randrange(1, 500)
    if turn.rng.random() < 0.5:
        sql = (
            "update accounts a set ver = ver + 1, balance = balance + moved.by from unnest(%s::bigint[], %s::bigint[]) "
            "moved(id, by) where a.id = moved.id returning a.id, a.ver, a.balance, a.memo"
        )
        _updated(turn, sql, [accounts, [-amount, amount]])
        return
    for number, by in zip(accounts, (-amount, amount), strict=True):
        sql = f"update accounts set ver = ver + 1, balance = balance + %s where id = %s returning {_ALL}"
        _updated(turn, sql, [by, number])


def _touch(turn: Turn, number: int) -> None:
    """Raise the version alone; now and then with a new memo, which PostgreSQL then sends whatever its size."""
    if turn.rng.random() < 0.6:
        _updated(turn, f"update accounts set ver = ver + 1 where id = %s returning {_ALL}", [number])
        return
    sql = f"update accounts set ver = ver + 1, memo = %s where id = %s returning {_ALL}"
    _updated(turn, sql, [_memo(turn), number], sent=True)


def _updated(turn: Turn, sql: str, arguments: list[Any], *, sent: bool = False) -> None:
    for row in turn.execute(sql, arguments).fetchall():
        turn.record("accounts", "u", [row], sent=sent, at=row[1] if row[0] in SHARED else None)


def _delete(turn: Turn, number: int) -> tuple[Any, ...]:
    found = turn.execute(f"delete from accounts where id = %s returning {_ALL}", [number]).fetchone()
    assert found is not None
    turn.deleted([("accounts", (number,))])
    return tuple(found)


def _close(turn: Turn, number: int, heir: int) -> None:
    row = _delete(turn, number)
    sql = f"update accounts set ver = ver + 1, balance = balance + %s where id = %s returning {_ALL}"
    _updated(turn, sql, [row[BALANCE], heir])


def _again(turn: Turn, number: int) -> None:
    _, ver, balance, memo = _delete(turn, number)
    _insert(turn, number, ver + 1, balance, memo)


def _change_key(turn: Turn, old: int) -> None:
    if turn.transaction.alive(("accounts", (old,))) is not None:
        return
    sql = f"update accounts set id = %s, ver = ver + 1 where id = %s returning {_ALL}"
    for row in turn.execute(sql, [turn.number(), old]).fetchall():
        turn.deleted([("accounts", (old,))])
        turn.record("accounts", "c", [row], sent=False, joined=True)
